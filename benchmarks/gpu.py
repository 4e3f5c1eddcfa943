"""What one GPU makes of the backbone, of stage 2 and of training, in one table and at most `--minutes`.

In: nothing; clips, tokens and weights are random and made here, nothing is downloaded. Out: the machine, then a
Markdown table whose rows are printed as they are measured, then what was cut off. The most useful rows come first: the
backbone against its ceilings, stage 2 and its parts, training, and last what needs a compiler. `--tiny` measures every
row in small, on a CPU too: it tests this script and says nothing about speed. The project need not be installed, only
the packages that it imports. Without a GPU the script says so and ends.

    python benchmarks/gpu.py [--minutes 8] [--json FILE] [--scratch FOLDER] [--tiny]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the project may not be installed

from on_gpu.backbone_rows import BackboneRows  # noqa: E402
from on_gpu.extract_rows import ExtractRows  # noqa: E402
from on_gpu.table import BudgetSpentError, Planned, Table, ended_after  # noqa: E402
from on_gpu.train_rows import TrainRows  # noqa: E402

from pipeline.extract.devices import cores  # noqa: E402
from pipeline.torch_device import resolve_precision  # noqa: E402

SHARED_MEMORY = Path("/dev/shm")
SCRATCH_BYTES = 16e9  # prepared clips, a store of their tokens, parts of another, the store to train from
# Of these a store keeps the version, though they may run from a folder or come under another name.
VERSIONS_KEPT = ("star-tokens", "av", "opencv-python-headless")
SMALL = (  # training settings of --tiny
    *("model.width=32", "model.heads=2", "model.encoder_depth=1", "model.decoder_depth=1"),
    *("optim.batch_size=4", "optim.precision=fp32", "data.fraction=0.1", "data.statistics_clips=8"),
)
# When each section must be done, as a share of the time; what one leaves over is the next one's.
UNTIL = {"backbone": 0.3, "stage 2": 0.65, "training": 0.82, "compiled": 0.98}


def machine(device: torch.device, scratch: Path) -> dict[str, Any]:
    """What the numbers depend on."""
    facts: dict[str, Any] = {"device": platform.processor() or platform.machine(), "driver": None}
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
            shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            facts["driver"] = shown.stdout.strip() or None
    return {
        **facts,
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "scratch": f"{scratch.parent} ({shutil.disk_usage(scratch).free / 1e9:.0f} GB free)",
    }


def sections(device: torch.device, scratch: Path, tiny: bool) -> dict[str, list[Planned]]:
    """The planned rows of each section."""
    precision = resolve_precision("auto", device)
    sides = (32, 48) if tiny else (112, 224)
    batches = (1,) if tiny else (8, 32, 128)
    compiled = ((32, 1),) if tiny else ((112, 32), (112, 128), (224, 32), (112, 8), (224, 8), (224, 128))
    seconds = 0.0 if tiny else 1.2
    backbone = BackboneRows(device, precision, seconds, matmul_size=512 if tiny else 8192)
    clips, shard, batch, crop = (8, 4, 2, 32) if tiny else (8192, 64, 32, 112)
    stage = ExtractRows(device, precision, scratch, clips, shard, batch, crop, seconds)
    training = TrainRows(
        device,
        scratch,
        clips=540 if tiny else 2160,  # 2160: whole steps of 64 and of 16 in each epoch
        settings=SMALL if tiny else (),
        seconds=0.1 if tiny else 8.0,
        warm_up=1 if tiny else 10,
    )
    first, *others = (backbone.compiled(side, batch) for side, batch in compiled)
    return {
        "backbone": backbone.ceilings_and_eager(sides, batches),
        "stage 2": stage.rows(),
        "training": training.eager(),
        "compiled": [first, training.compiled(), *others],
    }


def scratch_parent(given: Path | None) -> Path | None:
    """Where the scratch folder goes: memory where there is enough of it, else the system's temporary folder."""
    enough = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > SCRATCH_BYTES
    return given or (SHARED_MEMORY if enough and os.access(SHARED_MEMORY, os.W_OK) else None)


def stand_in_versions(folder: Path) -> None:
    """Let `importlib.metadata` find a version "0" of what has none here."""
    for name in VERSIONS_KEPT:
        try:
            version(name)
        except PackageNotFoundError:
            info = folder / f"{name.replace('-', '_')}-0.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    sys.path.append(str(folder))


def main() -> int:
    """Measure and print; the exit status is 1 where a row failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything, from the start of the process")
    parser.add_argument("--json", type=Path, help="the same rows as a JSON file")
    parser.add_argument("--scratch", type=Path, help="a folder with 16 GB free; /dev/shm where it has them")
    parser.add_argument("--tiny", action="store_true", help="every row in small, on a CPU where there is no GPU")
    given = parser.parse_args()
    if not torch.cuda.is_available() and not given.tiny:
        print("no GPU here: nothing is measured (--tiny tries the script on a CPU)")
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    left = 60 * given.minutes - (time.time() - psutil.Process().create_time())
    with tempfile.TemporaryDirectory(dir=scratch_parent(given.scratch), prefix="star-gpu-") as folder:
        scratch = Path(folder)
        stand_in_versions(scratch / "versions")
        facts, table = machine(device, scratch), Table(device, left / 60)
        print("\n".join(f"{name}: {value}" for name, value in facts.items()), end="\n\n")
        table.header()
        planned = sections(device, scratch, given.tiny)
        with contextlib.suppress(BudgetSpentError), ended_after(max(left, 0.1)):
            for name, rows in planned.items():
                table.run(rows, until=UNTIL[name])
    spent = time.time() - psutil.Process().create_time()
    print(f"\n{spent:.0f} s; cut off: {', '.join(table.of('cut off')) or 'nothing'}")
    if given.json:
        values = {"machine": facts, "tiny": given.tiny, "seconds": spent, "rows": table.rows}
        given.json.write_text(json.dumps(values, indent=1))
    failed = table.of("failed")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The speed of reading shuffled batches from a token store, against bare `preadv` (the limit) and other formats.

    python benchmarks/store.py [--clips 512] [--batches 100] [--runs 5] [--shard CLIPS]

In: nothing; it makes 512 random clips of the usual sizes (0.9 MB each). Out: three tables, warm and uncompressed, each
reader in a fresh process, the median of the runs, the readers in turn: clips a second in batches of 32 by one process,
the same by loaders with two workers, and the speed of `star verify` beside that of `cat` on the same files. Peers that
are not installed are listed as such (`pip install -e '.[bench]'`).

With --shard, one other table: our store in shards of that many clips, more files than a process keeps open
(--shard 1 --clips 1024 makes 2,048), against `preadv` of the same files, each opened for the clip that is read.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from formats.readers import LIMIT, READERS, Read, read_ours, read_ours_alone
from formats.writers import BATCH, GG, JM, SHARD, WRITERS, tokens

WARM = 10  # batches of a loader that are not counted, while its workers start
CRC_BYTES = 4  # after each clip


def rows_of(clips: int, batches: int) -> list[np.ndarray]:
    """The rows of each batch, drawn from all clips each time."""
    rng = np.random.default_rng(0)
    return [rng.choice(clips, BATCH, replace=False) for _ in range(batches)]


def read_rate(name: str, root: Path, clips: int, batches: int) -> float:
    """Clips a second in this process, after one pass over all of them."""
    reader = READERS[name]
    return rate_of(reader.opened(root / reader.format), clips, batches)


def scattered_rate(name: str, root: Path, clips: int, batches: int) -> float:
    """The same, of a store of many files."""
    return rate_of(SCATTERED[name](root), clips, batches)


def rate_of(read: Read, clips: int, batches: int) -> float:
    """Clips a second of shuffled batches, after one pass over all clips."""
    for rows in np.arange(clips).reshape(-1, BATCH):
        read(rows)
    order = rows_of(clips, batches)
    start = time.perf_counter()
    for rows in order:
        read(rows)
    return batches * BATCH / (time.perf_counter() - start)


def load_rate(name: str, root: Path, clips: int, batches: int) -> float:
    """Clips a second that a loader's workers hand to this process."""
    import torch
    from formats.loaders import LOADERS

    torch.set_num_threads(1)
    loader = LOADERS[name]
    given = loader.opened(root / loader.format, [rows.tolist() for rows in rows_of(clips, WARM + batches)])
    for _ in range(WARM):
        next(given)
    start = time.perf_counter()
    for _ in range(batches):
        next(given)
    return batches * BATCH / (time.perf_counter() - start)


def verify_rate(name: str, root: Path, clips: int, batches: int) -> float:
    """Bytes a second of `cat`, or of what `star verify` does, on our store."""
    from pipeline.store.verify import verify_store

    files = [path for path in (root / "ours").rglob("*") if path.is_file()]
    command = ["cat", *map(str, files)]
    for _ in range(2):  # the first time warms up
        start = time.perf_counter()
        if name == "cat":
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        else:
            assert not list(verify_store(root / "ours"))
        seconds = time.perf_counter() - start
    return sum(path.stat().st_size for path in files) / seconds


RATES = {"read": read_rate, "load": load_rate, "verify": verify_rate, "scattered": scattered_rate}


def read_opened(root: Path) -> Read:
    """Open, one preadv, close, for each clip of a store."""
    from pipeline.store.token_store import TokenStore

    shard = TokenStore.open(root).sizes.shard_clips
    buffers = {"gg": np.zeros((BATCH, *GG), np.float16), "jm": np.zeros((BATCH, *JM), np.float16)}

    def read(rows: np.ndarray) -> object:
        for name, buffer in buffers.items():
            for target, row in zip(buffer, rows.tolist(), strict=True):
                handle = os.open(f"{root}/{name}/c/{row // shard}/0/0/0/0", os.O_RDONLY)
                os.preadv(handle, [target.data], row % shard * (target.nbytes + CRC_BYTES))
                os.close(handle)
        return buffers

    return read


OPENED = "preadv, opened"
SCATTERED = {OPENED: read_opened, "TokenStore.read(out=)": read_ours, "same, one thread": read_ours_alone}


def measured(task: str, names: Mapping[str, str], given: argparse.Namespace, root: Path) -> dict[str, float]:
    """The median rate of each, measured in turn, each run in a fresh process; `names`: the module that each needs."""
    rates: dict[str, list[float]] = {}
    for _ in range(given.runs):
        for name, needs in names.items():
            if needs and not importlib.util.find_spec(needs):
                continue
            command: Any = [sys.executable, __file__, "--task", task, "--one", name, "--root", str(root)]
            command += ["--clips", str(given.clips), "--batches", str(given.batches)]
            shown = subprocess.run(command, capture_output=True, text=True, check=False)
            if shown.returncode:
                raise SystemExit(f"{task} {name}: {shown.stderr[-2000:]}")
            rates.setdefault(name, []).append(float(shown.stdout.split()[-1]))
    return {name: statistics.median(found) for name, found in rates.items()}


def written(root: Path, clips: int) -> dict[str, tuple[float, float]]:
    """Write every format; of each the gigabytes and the seconds."""
    found = {}
    for kind, (needs, write) in WRITERS.items():
        if needs and not importlib.util.find_spec(needs):
            continue
        start = time.perf_counter()
        write(root / kind, clips)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in (root / kind).rglob("*") if path.is_file())
        found[kind] = size / 1e9, seconds
    return found


def winner(rates: Mapping[str, float], *left_out: str) -> str:
    return max((name for name in rates if not name.startswith(left_out)), key=lambda name: rates[name]).strip()


def show_readers(given: argparse.Namespace, root: Path) -> None:
    formats = written(root, given.clips)
    rates = measured("read", {name: reader.needs for name, reader in READERS.items()}, given, root)
    print(f"{'one process':24}{'threads':>8}{'GB':>7}{'written s':>11}{'clips/s':>9}{'of preadv':>11}")
    for name, reader in READERS.items():
        if name not in rates:
            print(f"{name:24}  {reader.needs} is not installed")
            continue
        size, seconds = formats[reader.format]
        ratio = rates[name] / rates[LIMIT]
        print(f"{name:24}{reader.threads:>8}{size:7.2f}{seconds:11.1f}{rates[name]:9.0f}{ratio:11.2f}")
    smallest = min(formats, key=lambda kind: formats[kind][0])
    soonest = min(formats, key=lambda kind: formats[kind][1])
    print(f"first: {smallest} in bytes, {soonest} in writing, {winner(rates, 'preadv')} in reading (but for preadv)\n")


def show_loaders(given: argparse.Namespace, root: Path) -> None:
    from formats.loaders import LOADERS, PEER

    rates = measured("load", {name: loader.needs for name, loader in LOADERS.items()}, given, root)
    print(f"{'two loader workers':24}{'they are':>11}{'clips/s':>9}{'of memmap':>11}")
    for name, loader in LOADERS.items():
        if name not in rates:
            print(f"{name:24}  {loader.needs} is not installed")
            continue
        print(f"{name:24}{loader.workers:>11}{rates[name]:9.0f}{rates[name] / rates[PEER]:11.2f}")
    print(f"first: {winner(rates, 'TokenDataset, JM')} (of those that read both kinds)\n")


def show_verification(given: argparse.Namespace, root: Path) -> None:
    rates = measured("verify", {"cat": "", "star verify": ""}, given, root)
    print(f"{'every byte':24}{'GB/s':>8}{'of cat':>9}")
    for name, rate in rates.items():
        print(f"{name:24}{rate / 1e9:8.1f}{rate / rates['cat']:9.2f}")
    print(f"first: {winner(rates)}")


def show_scattered(given: argparse.Namespace, root: Path) -> None:
    from pipeline.records import VideoRecord
    from pipeline.store.write import write_arrays

    parts = [tokens(first, min(SHARD, given.clips - first)) for first in range(0, given.clips, SHARD)]
    gg, jm = (np.concatenate([part[i] for part in parts])[:, None] for i in (0, 1))
    records = [VideoRecord(clip_id=f"{i:06d}", key=f"{i:06d}", label=0, subject=1) for i in range(given.clips)]
    mask = np.ones((given.clips, 1, 16, 25), bool)
    attributes: Any = {"class_names": ["a"], "dataset": "synthetic", "shard_clips": given.shard}
    write_arrays(root, gg=gg, jm=jm, joint_mask=mask, records=records, **attributes)
    del parts, gg, jm
    rates = measured("scattered", dict.fromkeys(SCATTERED, ""), given, root)
    files = 2 * -(-given.clips // given.shard)
    print(f"{f'{files} files':24}{'clips/s':>9}{'of preadv':>11}")
    for name, rate in rates.items():
        print(f"{name:24}{rate:9.0f}{rate / rates[OPENED]:11.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shard", type=int, help="clips in a shard: measure reading from many files")
    parser.add_argument("--task", choices=RATES, help=argparse.SUPPRESS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(RATES[given.task](given.one, given.root, given.clips, given.batches), flush=True)
        os._exit(0)  # else the workers of some peers keep the process from ending
    with tempfile.TemporaryDirectory() as folder:
        for show in (show_scattered,) if given.shard else (show_readers, show_loaders, show_verification):
            show(given, Path(folder))


if __name__ == "__main__":
    main()

"""What computes tokens: device, precision and weights, settled once by the coordinator; a TokenComputer in each worker.

In: ExtractOptions. Out: options without "auto", the identity of the weights, and the computer, which is loaded once in
each process and never shipped. Imports torch inside its functions: a coordinator that only looks needs none.
"""

from __future__ import annotations

import functools
import json
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ExtractOptions
from pipeline.errors import ConfigError, DataError
from pipeline.malloc import keep_freed_memory

if TYPE_CHECKING:
    from distributed import Worker

    from pipeline.extract_shard import Compute
    from pipeline.tokens import TokenComputer

NAMED_WEIGHTS = ("random", "kinetics400")
BATCH_CLIPS = {"cpu": 4, "cuda": 32}  # where none is asked for: a GPU wants thousands of frames' cells at a time


def resolve(options: ExtractOptions) -> tuple[ExtractOptions, dict[str, str]]:
    """The options as every worker is to follow them, and the "kind" and "sha256" of the weights.

    Raises:
        ConfigError: a device or precision that is not to be had here. DataError: weights that are not mc3_18's.
    """
    from pipeline.backbone import resolve_precision
    from pipeline.weights import load_weights

    device = resolve_device(options.device)
    (precision, *others) = {resolve_precision(options.precision, name) for name in device.split(",")}
    if others:
        raise ConfigError("--precision", "differs between the devices", got=options.precision, expected="fp32 or bf16")
    weights = place_of(options.weights)
    batch = options.batch_clips or BATCH_CLIPS["cuda" if device.startswith("cuda") else "cpu"]
    options = replace(options, device=device, precision=precision, weights=weights, batch_clips=batch)
    return options, load_weights(weights, seed=options.seed).identity()


def place_of(weights: str) -> str:
    """A name of weights, or where their file lies, whatever the working directory of who reads it."""
    return weights if weights in NAMED_WEIGHTS else str(Path(weights).resolve())


def resolve_here(_: int, options_json: str) -> dict[str, Any]:
    """`resolve`, as a cluster's worker does it for a coordinator that may not have its devices."""
    options, weights = resolve(ExtractOptions(**json.loads(options_json)))
    return {"options": json.dumps(asdict(options)), "weights": weights}


def cores() -> int:
    """Processors that this process may use: a batch system or a container's quota may leave it fewer than there are."""
    from dask.system import cpu_count

    return max(1, cpu_count())


def worker_computer(options: ExtractOptions, weights_sha256: str, threads: int) -> Compute:
    """How this process begins to compute tokens, on its own one of the devices; 0 `threads`: its share of the cores.

    Raises:
        DataError: the weights here are not those the coordinator saw.
    """
    import torch

    torch.set_num_threads(threads or max(1, cores() // workers_here()))
    if options.device == "cpu":
        keep_freed_memory()
    return _loaded(options, weights_sha256)


def workers_here() -> int:
    """Workers of this one's Dask cluster on this machine, which share its processors; 1 where this process is none.

    Asked of the scheduler, at each run of shards: `dask worker` sets no number of threads that tells it.
    """
    worker = _dask_worker()
    if worker is None:
        return 1
    from distributed.utils import sync

    workers = sync(worker.loop, worker.scheduler.identity)["workers"]
    here = workers.get(worker.address, {}).get("host")
    return max(1, sum(other["host"] == here for other in workers.values()))


# A worker of a cluster keeps the backbone, and what torch has reserved of its device's memory, when a command is over,
# until it computes with other options or ends: only the coordinator knows of the end, and may be gone by then.
@functools.lru_cache(maxsize=1)
def _loaded(options: ExtractOptions, weights_sha256: str) -> Compute:
    computer = computer_for(replace(options, device=own_device(options.device.split(","))))
    if computer.backbone.digest != weights_sha256:
        raise DataError(options.weights, "holds other weights here than where the command was started")
    return computer.begin


def computer_for(options: ExtractOptions) -> TokenComputer:
    """Backbone and pooling as the options say, on one device.

    Raises:
        ConfigError: a device or precision that is not to be had here. DataError: weights that are not mc3_18's.
    """
    from pipeline.backbone import FrozenMC18
    from pipeline.tokens import TokenComputer

    backbone = FrozenMC18(
        options.weights,
        layers=(options.jm_layer, "layer4"),
        precision=options.precision,
        device=resolve_device(options.device).split(",")[0],
        deterministic=options.deterministic,
        seed=options.seed,
    )
    return TokenComputer(backbone, jm_layer=options.jm_layer, sigma=options.sigma, normalize=options.normalize)


def resolve_device(devices: str) -> str:
    """ "auto" is cuda where there is one; every device named, "cuda:0,cuda:1" say, must be there."""
    import torch

    if devices == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    for name in devices.split(","):
        try:
            device = torch.device(name)
        except RuntimeError:
            raise ConfigError("--device", "names no device", got=name, expected="cpu, cuda or cuda:0") from None
        if device.type not in ("cpu", "cuda"):
            raise ConfigError("--device", "is no device of ours", got=name, expected="cpu, cuda or cuda:0")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                "--device",
                "is not there",
                got=name,
                expected=f"{torch.cuda.device_count()} CUDA devices",
                remedy="use --device cpu",
            )
    return devices


def deal_out(devices: str, workers: int, scheduler: str | None) -> tuple[str, int]:
    """The devices, and how many local workers share them out: any number on a CPU, one on each GPU.

    Args:
        devices: as asked for: "auto" and "cuda" become as many GPUs as workers are asked for, every one named gets a
            worker.

    Raises:
        ConfigError: no such device, more workers than GPUs, or several devices for a cluster.
    """
    names = devices.split(",")
    if scheduler is not None:
        if len(names) > 1:
            remedy = "use --device cuda, and start one `dask worker` for each GPU with CUDA_VISIBLE_DEVICES set to it"
            raise ConfigError("--device", "a cluster's workers cannot be dealt several", got=devices, remedy=remedy)
        return devices, workers
    if devices in ("auto", "cuda"):
        names = [resolve_device(devices)]
        if names == ["cuda"] and workers > 1:
            import torch

            names = [f"cuda:{number}" for number in range(min(workers, torch.cuda.device_count()))]
    if workers > len(names) and any(name.startswith("cuda") for name in names):
        raise ConfigError(
            "--workers",
            "a GPU is kept busy by one worker",
            got=workers,
            expected=f"at most {len(names)} on {','.join(names)}",
            remedy=f"use --workers {len(names)}, or --device cpu",
        )
    return ",".join(names), max(workers, len(names))


def own_device(devices: list[str]) -> str:
    """One worker a device: local Dask workers are named 0, 1, …; any other has the first it sees."""
    worker = _dask_worker()
    name = "0" if worker is None else str(worker.name)
    return devices[int(name) % len(devices)] if name.isdigit() else devices[0]


def _dask_worker() -> Worker | None:
    """The worker of Dask's that this is done by."""
    if "distributed" in sys.modules:  # else this process is no worker, and need not wait for that import
        from distributed import get_worker

        with suppress(ValueError):
            return get_worker()
    return None

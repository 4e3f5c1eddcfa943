"""Devices and processors of stage 2: which there are, and which worker takes which.

In: names of devices, a number of workers. Out: names without "auto", each worker's own device, its share of the cores.
Imports torch inside its functions: a coordinator that only looks needs none.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.torch_device import default_device, parse_device, require_gpu

if TYPE_CHECKING:
    from distributed import Worker


def cores() -> int:
    """Processors that this process may use: a batch system or a container's quota may leave it fewer than there are."""
    from dask.system import cpu_count

    return max(1, cpu_count())


def workers_on_this_host() -> int:
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


def resolve_device(devices: str) -> str:
    """ "auto" is cuda where there is one; every device named, "cuda:0,cuda:1" say, must be there."""
    if devices == "auto":
        return default_device()
    for name in devices.split(","):
        device = parse_device(name)
        if device.type not in ("cpu", "cuda"):
            raise ConfigError("device", "no such device", got=name, expected="auto, cpu, cuda or cuda:0")
        require_gpu(device)
    return devices


def assign_devices(devices: str, workers: int, scheduler: str | None) -> tuple[str, int]:
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


def device_of_this_worker(devices: list[str]) -> str:
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

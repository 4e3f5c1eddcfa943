"""Devices and cores of stage 2: which exist, and which worker uses which.

In: names of devices, a number of workers. Out: names without "auto", each worker's own device, its share of the cores.
Torch is imported inside the functions: a coordinator that refuses a command does not need it.
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
    """Cores that this process may use: a batch system or a container may grant fewer than the machine has."""
    from dask.system import cpu_count

    return max(1, cpu_count())


def workers_on_this_host() -> int:
    """Workers of this one's Dask cluster that share this machine's cores; 1 outside a Dask worker.

    The scheduler is queried at each run of shards: the threads of `dask worker` do not say how many workers there are.
    """
    worker = _dask_worker()
    if worker is None:
        return 1
    from distributed.utils import sync

    workers = sync(worker.loop, worker.scheduler.identity)["workers"]
    here = workers.get(worker.address, {}).get("host")
    return max(1, sum(other["host"] == here for other in workers.values()))


def resolve_device(devices: str) -> str:
    """Names without "auto", which is cuda where there is a GPU; ConfigError where a named device does not exist."""
    if devices == "auto":
        return default_device()
    for name in devices.split(","):
        require_gpu(parse_device(name))
    return devices


def assign_devices(devices: str, workers: int, scheduler: str | None) -> tuple[str, int]:
    """The devices, and how many local workers use them: any number on a CPU, one on each GPU.

    Args:
        devices: "auto" and "cuda" become as many GPUs as `workers`; every named device gets a worker.

    Raises:
        ConfigError: no such device, more workers than GPUs, or several devices for a cluster.
    """
    names = devices.split(",")
    if scheduler is not None:
        if len(names) > 1:
            remedy = (
                "set `device` to cuda, and start one `dask worker` for each GPU with CUDA_VISIBLE_DEVICES set to it"
            )
            raise ConfigError("device", "must be a single one for all workers of a cluster", got=devices, remedy=remedy)
        return devices, workers
    if devices in ("auto", "cuda"):
        names = [resolve_device(devices)]
        if names == ["cuda"] and workers > 1:
            import torch

            names = [f"cuda:{number}" for number in range(min(workers, torch.cuda.device_count()))]
    if workers > len(names) and any(name.startswith("cuda") for name in names):
        raise ConfigError(
            "workers",
            "each GPU takes one worker",
            got=workers,
            expected=f"at most {len(names)} on {','.join(names)}",
            remedy=f"set `workers` to {len(names)}, or `device` to cpu",
        )
    return ",".join(names), max(workers, len(names))


def device_of_this_worker(devices: list[str]) -> str:
    """Local Dask workers are named 0, 1, … and take the device of that number; any other process takes the first."""
    worker = _dask_worker()
    name = "0" if worker is None else str(worker.name)
    return devices[int(name) % len(devices)] if name.isdigit() else devices[0]


def _dask_worker() -> Worker | None:
    """The Dask worker that runs this code, if any."""
    if "distributed" in sys.modules:  # else this process is not a worker, and the slow import is saved
        from distributed import get_worker

        with suppress(ValueError):
            return get_worker()
    return None

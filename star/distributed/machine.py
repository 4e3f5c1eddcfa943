"""The machine of a training process: its device, and the free memory of that device.

In: names of devices, the system's control groups. Out: a torch device, bytes. Independent of other processes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil
import torch

from pipeline.torch_device import default_device, parse_device, require_gpu, resolve_precision


def choose_device(device: str, *, local_rank: int = 0) -> torch.device:
    """ "auto" is a GPU where there is one; "cuda" is that of this local rank. ConfigError where it does not exist."""
    chosen = parse_device(default_device() if device == "auto" else device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local_rank if chosen.index is None else chosen.index)
        require_gpu(chosen)
        torch.cuda.set_device(chosen)
    return chosen


def autocast_precision(precision: str, device: torch.device) -> str:
    """ "fp32" or "bf16" for "fp32", "bf16" or "auto" (`pipeline.torch_device.resolve_precision`) on a device.

    bf16 that is asked for by name is never refused: torch computes it on any device, on some of them slowly.
    """
    return resolve_precision("auto", device) if precision == "auto" else precision


def free_bytes(device: torch.device) -> int:
    """Bytes available to new arrays of this process.

    On a GPU its free memory and what torch has reserved but not used; on the CPU this process's share (torchrun may
    have started several here) of what the system, or the container, can give without swapping.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    left = min([int(psutil.virtual_memory().available), *(_left_in(group) for group in _control_groups())])
    return left // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _control_groups(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Folders of this process's control groups and all their parents (Linux): a container's limit is at the root, a
    batch system's in between, a service's in the process's own group."""
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():  # "0::/path" (v2) or "7:memory:/path" (v1)
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                top = root / controllers
                below = top / path.lstrip("/")
                return [below, *(folder for folder in below.parents if folder.is_relative_to(top))]
    return [root]


def _left_in(group: Path) -> int:
    """Bytes left below the limit of a control group, its reclaimable file cache included; 2^63 without a limit."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        for limit, taken, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if (group / limit).exists():
                most = (group / limit).read_text().strip()
                if most == "max":
                    return 1 << 63
                statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                return max(0, int(most) - int((group / taken).read_text()) + int(statistics[cache]))
    return 1 << 63

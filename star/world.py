"""The processes that train together: one, or those that `torchrun` started.

In: torchrun's environment. Out: rank, world size, device and what is free on it, sums over processes. One process
alone needs no process group and every method here is then the identity.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import ArtifactError, ConfigError, StarError

PATIENCE_S = 5  # with a process that finds what this one has found


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank and size of the group, and this process's device."""

    rank: int = 0
    size: int = 1
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor, summed over processes in place."""
        if self.size > 1:
            with self._together():
                dist.all_reduce(tensor)
        return tensor

    def any(self, value: bool) -> bool:
        """Whether it is true in some process."""
        return value if self.size == 1 else bool(self.sum(torch.tensor(int(value), device=self.device)))

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            with self._together():
                dist.barrier()

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """A block that ends well in every process or in none; it is left when every process is through.

        Raises:
            StarError: what the block raised here. SystemExit: with code 1, where another process tells what is wrong:
                the first of those in which it went wrong speaks for all.
        """
        mine: StarError | None = None
        try:
            yield
        except StarError as error:
            if self.size == 1:
                raise
            mine = error
        wrong = [rank for rank, failed in enumerate(self.gather(mine is not None)) if failed]
        if not wrong:
            return
        if mine is not None and self.rank == wrong[0]:
            raise mine
        sys.exit(1)

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Tell in one sentence that another process has gone: its own words, not ours, say why.

        Raises:
            ArtifactError: it has.
        """
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises for a connection that was closed
            raise ArtifactError(
                f"process {self.rank} of {self.size}",
                f"lost the others ({str(error).splitlines()[0][:120]})",
                remedy="see what they said; the same command goes on from the last checkpoint",
            ) from error


def join_world(device: str = "auto") -> World:
    """The world that torchrun describes (WORLD_SIZE, RANK, LOCAL_RANK), or this process alone.

    The group is made by the first call and lives as long as the process: processes that left and met again at the same
    address could meet the group they left.

    Raises:
        ConfigError: a device that this machine does not have. SystemExit: with code 1, where the first process of this
            machine tells it, since all of them find the same.
    """
    size, rank, local_rank = (int(os.environ.get(name, "0")) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    try:
        _require_one_each(device, size)
    except ConfigError:
        if local_rank == 0:
            raise
        leave_to_the_first()
    chosen = choose_device(device, local_rank=local_rank)
    if size > 1 and not dist.is_initialized():
        if chosen.type == "cuda":
            dist.init_process_group("nccl", device_id=chosen)
        else:
            dist.init_process_group("gloo")
        atexit.register(dist.destroy_process_group)
    return World(rank=rank, size=max(1, size), device=chosen)


def leave_to_the_first() -> NoReturn:
    """End, with code 1, where every process finds the same by itself and the first one tells it.

    Not at once: torchrun ends all, before that one may have spoken, as soon as any has gone.
    """
    time.sleep(PATIENCE_S)
    sys.exit(1)


def _require_one_each(device: str, size: int) -> None:
    """Raise ConfigError for what every process of this machine asks for in vain."""
    if size > 1 and device.startswith("cuda:"):
        raise ConfigError(
            "--device", "one GPU for all processes", got=device, remedy="use --device cuda: each takes its own"
        )
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if device in ("auto", "cuda") and 0 < gpus < here:
        got = f"{here} processes, {gpus} GPUs"
        remedy = f"start torchrun with --nproc-per-node {gpus}, or use --device cpu"
        raise ConfigError("--device", "a GPU for each process is not there", got=got, remedy=remedy)


def choose_device(device: str, *, local_rank: int = 0) -> torch.device:
    """ "auto" is a GPU where there is one; "cuda" is the one of this local rank.

    Raises:
        ConfigError: no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(
            "--device", "no such device", got=repr(device), expected="auto | cpu | cuda | cuda:0"
        ) from None
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local_rank if chosen.index is None else chosen.index)
        if not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count():
            raise ConfigError("--device", "this machine has no such GPU", got=str(chosen), remedy="use --device cpu")
        torch.cuda.set_device(chosen)
    return chosen


def free_bytes(device: torch.device) -> int:
    """What new arrays of this process may take.

    On a GPU what it has free and what torch keeps of it for later; on the CPU this process's share (torchrun may have
    started several here) of what the system, or the container, can give without swapping.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    left = min([int(psutil.virtual_memory().available), *(_left_in(group) for group in _control_groups())])
    return left // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _control_groups(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Folders of this process's control groups and all above them (Linux): a container's limit is set at the root, a
    batch system's some way down, a service's at the end."""
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():  # "0::/path" (v2) or "7:memory:/path" (v1)
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                top = root / controllers
                below = top / path.lstrip("/")
                return [below, *(folder for folder in below.parents if folder.is_relative_to(top))]
    return [root]


def _left_in(group: Path) -> int:
    """Bytes below the limit of a control group, the file cache that it would give back with them; 2^63 without one."""
    try:
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
    except (OSError, KeyError, ValueError):
        pass
    return 1 << 63

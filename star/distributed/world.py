"""The processes that train together: one, or those that `torchrun` started.

In: torchrun's environment. Out: rank, world size, device, sums over processes. A single process needs no process group;
every method is then the identity.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import ArtifactError, ConfigError, StarError
from star.distributed.machine import choose_device

PATIENCE_S = 5  # for the process that reports the same error


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
        """Return when every process has called this."""
        if self.size > 1:
            with self._together():
                dist.barrier()

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """A block that succeeds in every process or in none; it ends when it has ended in every process.

        Raises:
            StarError: the block raised it here, in the first of the processes that failed. SystemExit: with code 1, in
                all other processes, so that the error is reported once.
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
        """Raise ArtifactError where another process has ended; that process reports why."""
        try:
            yield
        except RuntimeError as error:  # of torch.distributed for a closed connection
            raise ArtifactError(
                f"process {self.rank} of {self.size}",
                f"lost the others ({str(error).splitlines()[0][:120]})",
                remedy="see their messages; the same command resumes from the last checkpoint",
            ) from error


def join_world(device: str = "auto") -> World:
    """The world that torchrun describes (WORLD_SIZE, RANK, LOCAL_RANK), or this process alone.

    The first call makes the process group, which lives as long as the process: processes that leave and join again at
    the same address could join the group that they left.

    Raises:
        ConfigError: this machine does not have the device. SystemExit: with code 1, in all but the first process of
            this machine, which reports the error for all.
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
    """End with code 1, for an error that every process finds and the first one reports.

    Not at once: torchrun ends all processes as soon as one has ended, perhaps before the first one's report.
    """
    time.sleep(PATIENCE_S)
    sys.exit(1)


def _require_one_each(device: str, size: int) -> None:
    if size > 1 and device.startswith("cuda:"):
        raise ConfigError(
            "device", "one GPU for all processes", got=device, remedy="set `device` to cuda: each takes its own"
        )
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if device in ("auto", "cuda") and 0 < gpus < here:
        got = f"{here} processes, {gpus} GPUs"
        remedy = f"use `torchrun --nproc-per-node {gpus}`, or set `device` to cpu"
        raise ConfigError("device", "fewer GPUs than processes", got=got, remedy=remedy)

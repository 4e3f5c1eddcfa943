"""Progress of a training, and the clock that measures it.

In: steps as they are done. Out: `TrainEvent` values for a caller's `progress`. Prints and decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class TrainEvent:
    """The argument of `progress`, which is called after each step and each evaluation.

    Attributes:
        done, total: steps. epoch: of the step, from 1. epochs: in all.
        loss, lr: of the step. top1: of an evaluation that has just ended, else None.
        split: of that evaluation, "val" or "test"; else "".
        clips_per_s: since this process began to train. wait_share: share of that time spent waiting for data.
        eta_s: seconds to the end at this rate, with as much evaluation and saving a step as so far.
    """

    done: int
    total: int
    epoch: int
    epochs: int
    loss: float
    lr: float
    clips_per_s: float
    wait_share: float
    eta_s: float
    top1: float | None = None
    split: str = ""


StepProgress = Callable[[TrainEvent], None]


class Clock:
    """Rates of a training since its first batch was requested, without evaluation and saving."""

    def __init__(self, *, first: int, total: int, steps_per_epoch: int) -> None:
        self.first, self.total, self.steps_per_epoch = first, total, steps_per_epoch
        self.clips = 0
        self.waited = self.worked = self.paused_s = 0.0
        self._since = time.perf_counter()

    def waiting(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time until each comes counts as waiting."""
        requested = time.perf_counter()
        for item in items:
            self._since = time.perf_counter()
            self.waited += self._since - requested
            yield item
            requested = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in this block is neither waiting nor work: it counts in `eta_s` alone."""
        begun = time.perf_counter()
        yield
        self.paused_s += time.perf_counter() - begun

    def epoch(self, done: int) -> int:
        """The epoch of the last of `done` steps, from 1."""
        return (done - 1) // self.steps_per_epoch + 1

    def event(self, *, done: int, clips: int, loss: float, lr: float) -> TrainEvent:
        """Of a step that has just ended; `done` includes it."""
        self.worked += time.perf_counter() - self._since
        self.clips += clips
        spent = max(self.waited + self.worked, 1e-9)
        return TrainEvent(
            done=done,
            total=self.total,
            epoch=self.epoch(done),
            epochs=self.epoch(self.total),
            loss=loss,
            lr=lr,
            clips_per_s=self.clips / spent,
            wait_share=self.waited / spent,
            eta_s=(spent + self.paused_s) / (done - self.first) * (self.total - done),
        )

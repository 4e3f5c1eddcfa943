"""What a training tells about itself while it runs, and the clock behind it.

In: steps as they are done. Out: `TrainEvent` values for a caller's `progress`. Prints nothing and decides nothing.
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
    """What `progress` is told after each step and after each evaluation.

    Attributes:
        done, total: steps; epoch: being trained, from 1; epochs: in all.
        loss, lr: of the step. top1: of an evaluation that has just been done, else None.
        clips_per_s: since this process began to train; wait_share: of that time, spent waiting for data.
        eta_s: seconds to the end at this rate, with as much evaluation and saving for each step as there was so far.
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


StepProgress = Callable[[TrainEvent], None]


def tell(progress: StepProgress | None, event: TrainEvent) -> None:
    """Tell whoever listens."""
    if progress is not None:
        progress(event)


class Clock:
    """Rates of a training, from when the first batch was asked for; evaluation and saving are not counted."""

    def __init__(self, *, first: int, total: int, epochs: int) -> None:
        self.first, self.total, self.epochs = first, total, epochs
        self.clips = 0
        self.waited = self.worked = self.besides = 0.0
        self._since = time.perf_counter()

    def waiting(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time until each comes counts as waiting."""
        while True:
            asked = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            self._since = time.perf_counter()
            self.waited += self._since - asked
            yield item

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in this block is neither waiting nor work: it counts for the end alone."""
        begun = time.perf_counter()
        yield
        self.besides += time.perf_counter() - begun

    def epoch(self, done: int) -> int:
        """The one that the last of so many steps belongs to, from 1."""
        return (done - 1) * self.epochs // self.total + 1

    def event(self, *, done: int, clips: int, loss: float, lr: float) -> TrainEvent:
        """Of a step that has just been done, `done` with it."""
        self.worked += time.perf_counter() - self._since
        self.clips += clips
        spent = max(self.waited + self.worked, 1e-9)
        return TrainEvent(
            done=done,
            total=self.total,
            epoch=self.epoch(done),
            epochs=self.epochs,
            loss=loss,
            lr=lr,
            clips_per_s=self.clips / spent,
            wait_share=self.waited / spent,
            eta_s=(spent + self.besides) / (done - self.first) * (self.total - done),
        )

"""The clips of each training step, as pure arithmetic.

In: the number of items, batch size, seed, a step. Out: for each step the picks (epoch, item) of one rank. The order is
a function of (seed, epoch, position) alone: it is the same for any number of ranks and loader workers, it can start at
any step, and each epoch has every item exactly once. Reads nothing.

    positions of an epoch   0 1 2 3 | 4 5 6 7 | 8 9      batch_size 4: three steps, the last one short
    rank r of 2 takes       positions r, r + 2, r + 4, ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.records import keyed_rng

Pick = tuple[int, int]  # (epoch, item)


def epoch_order(items: int, *, seed: int, epoch: int) -> np.ndarray:
    """The items of an epoch by position: an int64 permutation (items,)."""
    return keyed_rng(seed, "order", epoch).permutation(items)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of one rank from `start` to the end of training, for `star.data.loader`.

    Attributes:
        items: the data set's length.
        batch_size: items of a step over all ranks; the last step of an epoch may be short.
        epochs, seed: of the run. min_steps: the run has at least so many, if need be in more epochs, the last cut off.
        start: the first step, counted from 0 over all epochs.
        rank, world: this rank takes the positions p with p % world == rank; of a short step that may be none.
    """

    items: int
    batch_size: int
    epochs: int
    seed: int
    min_steps: int = 0
    start: int = 0
    rank: int = 0
    world: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.items // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return max(self.epochs * self.steps_per_epoch, self.min_steps)

    def count(self, step: int) -> int:
        """Items of a step, over all ranks."""
        first = (step % self.steps_per_epoch) * self.batch_size
        return min(self.batch_size, self.items - first)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Pick]]:
        order, of_epoch = np.empty(0, np.int64), -1
        for step in range(self.start, self.steps):
            epoch, within = divmod(step, self.steps_per_epoch)
            if epoch != of_epoch:
                order, of_epoch = epoch_order(self.items, seed=self.seed, epoch=epoch), epoch
            first = within * self.batch_size
            positions = range(first, first + self.count(step))
            yield [(epoch, int(order[p])) for p in positions if p % self.world == self.rank]

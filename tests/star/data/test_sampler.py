"""The order of training is a function of (seed, epoch, position): for any ranks, from any step, each clip once."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from star.data.sampler import Batches, epoch_order


def interleaved(batches: Batches, world: int) -> list[list[tuple[int, int]]]:
    """The picks of all ranks, in the order of positions."""
    ranks = [list(dataclasses.replace(batches, rank=rank, world=world)) for rank in range(world)]
    steps = []
    for step, parts in enumerate(zip(*ranks, strict=True), start=batches.start):
        first = (step % batches.steps_per_epoch) * batches.batch_size
        queues = [iter(part) for part in parts]
        steps.append([next(queues[p % world]) for p in range(first, first + batches.count(step))])
        assert all(next(queue, None) is None for queue in queues)
    return steps


@settings(max_examples=30, deadline=None)
@given(items=st.integers(1, 23), size=st.integers(1, 9), epochs=st.integers(1, 3), world=st.integers(1, 5),
       start=st.integers(0, 20), seed=st.integers(0, 3), min_steps=st.integers(0, 40))  # fmt: skip
def test_any_ranks_from_any_step_see_one_sequence(
    items: int, size: int, epochs: int, world: int, start: int, seed: int, min_steps: int
) -> None:
    whole = Batches(items=items, batch_size=size, epochs=epochs, seed=seed, min_steps=min_steps)
    assert whole.steps == max(min_steps, epochs * whole.steps_per_epoch)
    start = min(start, whole.steps)
    alone = list(whole)
    assert interleaved(dataclasses.replace(whole, start=start), world) == alone[start:]
    for epoch in range(epochs):
        seen = [item for batch in alone for e, item in batch if e == epoch]
        assert sorted(seen) == list(range(items))
        assert seen == epoch_order(items, seed=seed, epoch=epoch).tolist()
    assert all(epoch <= (whole.steps - 1) // whole.steps_per_epoch for batch in alone for epoch, _ in batch)
    assert [len(batch) for batch in alone] == [whole.count(step) for step in range(whole.steps)]
    assert len(alone) == len(whole) == whole.steps


def test_epochs_and_seeds_have_other_orders() -> None:
    orders = [epoch_order(100, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    # spread over all places, not merely different: the mean of 400 uniform places
    assert abs(np.mean([order[:10] for order in orders]) - 49.5) < 15

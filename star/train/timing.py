"""Time of a training step and of an epoch, from the times of smaller steps.

In: a function that takes a step of so many clips, and the size of the real step. Out: seconds of steps of 1, 2, 4, ...
clips, and bounds of an epoch's seconds. Independent of the model. A step of the paper's size runs for minutes on a
CPU, so the whole step is timed only if it is quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable

REPEATS = 3  # steps of each size; the first one is a warm-up and does not count

Pieces = dict[int, list[float]]  # {clips: seconds of each step}, sizes rising


def timed_pieces(
    step: Callable[[int], None],
    most: int,
    *,
    budget_s: float = 10.0,  # for all pieces together
    clock: Callable[[], float] = time.perf_counter,
) -> Pieces:
    """Take steps of 1, 2, 4, ... and finally `most` clips until the budget is spent; at least one step of one clip.

    A step begins only if it would fit into the rest of the budget at the quickest time a clip so far. The first step of
    a size counts only if there was no time for a second one.
    """
    begin, pieces, size = clock(), Pieces(), 1
    quickest = 0.0  # seconds a clip; unknown before the first step
    while True:
        taken: list[float] = []
        for _ in range(REPEATS):
            start = clock()
            if start - begin + quickest * size > budget_s:
                break
            step(size)
            taken.append(clock() - start)
            quickest = min(quickest or taken[-1] / size, taken[-1] / size)
        if taken:
            pieces[size] = taken[1:] or taken
        if len(taken) < REPEATS or size == most:
            return pieces
        size = min(2 * size, most)


def epoch_seconds(pieces: Pieces, *, items: int, batch_size: int) -> tuple[float, float]:
    """Shortest and longest epoch of `items` clips in steps of `batch_size`, computing only.

    Longest: every clip takes as long as in the slowest step of the largest size (and of the size before it, if the
    whole step was not timed), although larger steps share some costs. Shortest: a line through the quickest steps of
    the two largest sizes, seconds = fixed costs of a step + clips * costs of a clip. If there was time for a single
    step only, warm-up and shared costs are unknown: the shortest is half of it.
    """
    steps, whole = -(-items // batch_size), min(items, batch_size)
    *before, size = pieces
    largest = [size] if size == whole else [*before[-1:], size]
    longest = max(max(pieces[clips]) / clips for clips in largest)
    of_step, of_clip = 0.0, min(pieces[size]) / size
    if before:
        rise = (min(pieces[size]) - min(pieces[before[-1]])) / (size - before[-1])
        of_clip = min(max(rise, 0.0), of_clip)
        of_step = min(pieces[size]) - of_clip * size
    elif size < whole and len(pieces[size]) == 1:
        of_clip /= 2
    return steps * of_step + items * of_clip, steps * whole * longest

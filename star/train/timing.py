"""How long a training step takes, from the time of small pieces of it.

In: something that takes a step of so many clips, and how many the real step has. Out: seconds of pieces of 1, 2, 4, ...
clips, and what they say about an epoch. Knows no model: a step of the paper's size runs for minutes on a CPU, so it is
never taken whole unless that is quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable

BUDGET_S = 10.0  # for all pieces together
REPEATS = 3  # steps of each size, of which the first one makes ready and does not count

Pieces = dict[int, list[float]]  # {clips: seconds of each step}, sizes rising


def timed_pieces(
    step: Callable[[int], None],
    most: int,
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Pieces:
    """Take steps of 1, 2, 4, ... and at last `most` clips until the budget is spent; at least one step of one clip.

    A step is begun only where it would fit into what is left if its clips took as long as the quickest so far. The
    first step of a size counts only where there was no time for a second one.
    """
    begin, pieces, size = clock(), Pieces(), 1
    quickest = 0.0  # seconds of a clip; not known before the first step
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

    The longest: every clip takes as long as in the slowest step of the largest piece (and of the one before it, where
    the whole step was not timed), though larger steps share some costs. The shortest: the quickest steps of the two
    largest pieces lie on a line, seconds = costs of a step + clips * costs of a clip. Where a single step was all there
    was time for, nothing tells what of it was making ready or is shared by larger steps: the shortest takes half.
    """
    steps, whole = -(-items // batch_size), min(items, batch_size)
    *before, size = pieces
    shown = [size] if size == whole else [*before[-1:], size]
    longest = max(max(pieces[clips]) / clips for clips in shown)
    of_step, of_clip = 0.0, min(pieces[size]) / size
    if before:
        rise = (min(pieces[size]) - min(pieces[before[-1]])) / (size - before[-1])
        of_clip = min(max(rise, 0.0), of_clip)
        of_step = min(pieces[size]) - of_clip * size
    elif size < whole and len(pieces[size]) == 1:
        of_clip /= 2
    return steps * of_step + items * of_clip, steps * whole * longest

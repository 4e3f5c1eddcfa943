"""Pieces of a step end with their budget, and what they say of an epoch is right where costs lie on a line."""

from __future__ import annotations

import pytest

from star.train.timing import REPEATS, Pieces, epoch_seconds, timed_pieces


class Machine:
    """A clock advanced by steps alone: `of_step` seconds and `of_clip` a clip; the first step of a size, twice."""

    def __init__(self, *, of_step: float, of_clip: float) -> None:
        self.of_step, self.of_clip = of_step, of_clip
        self.now = 0.0
        self.steps: list[int] = []

    def clock(self) -> float:
        return self.now

    def step(self, clips: int) -> None:
        self.now += (self.of_step + self.of_clip * clips) * (1 if clips in self.steps else 2)
        self.steps.append(clips)

    def pieces(self, most: int, *, budget_s: float = 10.0) -> Pieces:
        return timed_pieces(self.step, most, budget_s=budget_s, clock=self.clock)


def test_a_large_step_is_never_taken_whole_where_that_takes_long() -> None:
    machine = Machine(of_step=0.05, of_clip=0.3)  # 38 s for 128 clips
    pieces = machine.pieces(128)
    assert machine.now <= 10 + (0.05 + 0.3 * max(machine.steps)) * 2
    assert sorted(set(machine.steps)) == [1, 2, 4] == sorted(pieces)
    assert pieces[1] == pytest.approx([0.35] * (REPEATS - 1))
    shortest, longest = epoch_seconds(pieces, items=256, batch_size=128)
    assert shortest <= 2 * (0.05 + 0.3 * 128) * 1.0001
    assert shortest == pytest.approx(2 * 0.05 + 256 * 0.3, rel=1e-6)
    assert longest == pytest.approx(256 * (0.05 + 0.6) / 2)  # the smaller one of the two largest pieces, clip by clip


def test_a_quick_step_is_taken_whole() -> None:
    machine = Machine(of_step=0.01, of_clip=0.001)
    pieces = machine.pieces(100)
    assert list(pieces) == [1, 2, 4, 8, 16, 32, 64, 100]
    shortest, longest = epoch_seconds(pieces, items=150, batch_size=100)
    assert shortest == pytest.approx(2 * 0.01 + 150 * 0.001)  # the last step is short
    assert longest == pytest.approx(2 * 0.11)


def test_at_least_one_step_is_taken() -> None:
    machine = Machine(of_step=0.0, of_clip=60.0)
    assert machine.pieces(128) == {1: [120.0]}
    assert machine.steps == [1]
    assert epoch_seconds({1: [120.0]}, items=10, batch_size=4) == (600.0, 1440.0)  # its half, and three steps of four


@pytest.mark.parametrize("pieces", [{1: [2.0, 3.0], 2: [1.0, 9.0]}, {1: [1.0], 2: [8.0]}])
def test_noise_does_not_reverse_the_range(pieces: Pieces) -> None:
    shortest, longest = epoch_seconds(pieces, items=64, batch_size=64)
    assert 0 < shortest <= longest

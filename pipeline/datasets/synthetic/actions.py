"""The actions of the synthetic set: the pose controls of each over time, interpolated smoothly between key poses.

In: the phase u (T,) in 0..1 of the movement, and a Style. Out: an Act. `MOVEMENTS` pairs the actions: some differ in
the thing beside the person alone, which no movement here knows of; some are reversals of others: the caller reverses
the finished clip, so that no single frame distinguishes the two; some differ in a small movement of the hands alone.
Independent of subjects' proportions, cameras and pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.datasets.synthetic.body import Array, Controls

HANGING = (0.17, -0.94, 0.10)  # a wrist at rest
STANCE = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Style:
    """The manner of a performance, drawn independently of the action.

    Attributes:
        side: where a thing would lie, 1 at the right of the picture of camera 1, -1 at the left.
        amplitude: factor of the movement's size, about 1.
        arms: (2, 3) added to both wrists' rest, in units of the reach.
    """

    side: int
    amplitude: float
    arms: Array


@dataclass(kw_only=True)
class Act:
    """One action: the controls of each person.

    Attributes:
        seated: whether the chair must stand right behind the person.
        across: whether people face across the picture, as is best seen from the side, more strictly than others do.
        gap: distance between two people, in units of an arm's reach.
    """

    persons: list[Controls]
    seated: bool = False
    across: bool = False
    gap: float = 0.0


def track(u: Array, *keys: tuple[float, float | tuple[float, ...]]) -> Array:
    """Values (T,) or (T, n) at phases `u` through `keys` (phase, value), with zero speed at each key."""
    times = np.array([key[0] for key in keys])
    values = np.array([key[1] for key in keys], dtype=float)
    after = np.clip(np.searchsorted(times, u, side="right"), 1, len(times) - 1)
    part = np.clip((u - times[after - 1]) / (times[after] - times[after - 1]), 0.0, 1.0)
    ease = part * part * (3.0 - 2.0 * part)
    ease = ease.reshape(ease.shape + (1,) * (values.ndim - 1))
    return values[after - 1] + ease * (values[after] - values[after - 1])


def standing(u: Array, style: Style) -> Controls:
    """A person who stands still and faces +z."""
    still = np.zeros_like(u)
    return Controls(
        heading=still.copy(),
        pelvis=np.zeros((len(u), 3)),
        lean=still + 0.03,
        side=still.copy(),
        twist=still.copy(),
        nod=still + 0.02,
        wrists=np.tile(np.array([HANGING, HANGING]) + style.arms, (len(u), 1, 1)),
        ankles=np.zeros((len(u), 2, 3)),
    )


def _sit_down(u: Array, style: Style) -> Act:
    person = standing(u, style)
    person.pelvis = track(u, (0, STANCE), (0.35, (0, -0.08, -0.12)), (0.9, (0, -0.39, -0.40)), (1, (0, -0.40, -0.42)))
    person.lean = track(u, (0, 0.03), (0.5, 0.62 * style.amplitude), (1, 0.04))
    person.nod = track(u, (0, 0.02), (0.45, -0.25), (1, 0.05))
    person.wrists = person.wrists + track(u, (0, 0.0), (0.25, 0.0), (0.9, 1.0), (1, 1.0))[:, None, None] * (
        np.array([0.02, -0.66, 0.50]) - person.wrists
    )
    return Act(persons=[person], seated=True)


def _towards_thing(u: Array, style: Style) -> Controls:
    """A person who stands still and faces the place of the thing."""
    person = standing(u, style)
    person.heading += 1.35 * style.side
    person.nod += 0.12
    return person


def _reach_out(u: Array, style: Style) -> Act:
    person = _towards_thing(u, style)
    given = track(u, (0, 0.0), (0.1, 0.0), (0.9, 1.0), (1, 1.0))
    near, far = np.array([-0.12, -0.52, 0.52]), np.array([-0.10, -0.40, 0.80])
    person.wrists[:] = near + style.arms + style.amplitude * given[:, None, None] * (far - near)
    person.lean = 0.03 + 0.08 * style.amplitude * given
    return Act(persons=[person], across=True)


def _point(u: Array, style: Style) -> Act:
    person = _towards_thing(u, style)
    hand = (1 + style.side) // 2  # the one nearer to the cameras
    given = track(u, (0, 0.0), (0.35, 1.0), (0.72, 1.0), (1, 0.0))
    person.wrists[:, hand] += given[:, None] * (np.array([0.02, -0.34, 0.92]) - person.wrists[:, hand])
    person.lean = 0.03 + 0.06 * style.amplitude * given
    return Act(persons=[person], across=True)


def _put_on_glasses(u: Array, style: Style) -> Act:
    person = standing(u, style)
    raised = track(u, (0, 0.0), (0.15, 0.0), (0.85, 1.0), (1, 1.0))[:, None, None]
    low, high = np.array([-0.14, -0.06, 0.42]), np.array([-0.12, 0.18, 0.36])
    person.wrists[:] = low + style.arms + raised * style.amplitude * (high - low)
    person.nod += 0.10
    return Act(persons=[person])


def _clap(u: Array, style: Style, times: int) -> Act:
    """Claps, the hands apart at the beginning and the end, and for odd `times` together in the middle."""
    person = standing(u, style)
    gap = 0.24 * style.amplitude * (0.5 + 0.5 * np.cos(2 * np.pi * times * u))
    front = np.stack([gap - 0.06, np.full_like(u, -0.22), np.full_like(u, 0.58)], axis=-1)
    person.wrists[:] = front[:, None] + style.arms
    return Act(persons=[person])


def _walk_together(u: Array, style: Style) -> Act:
    """Two people who face each other along x, and take two steps."""
    pair = [standing(u, style), standing(u, style)]
    for person, turn in zip(pair, (np.pi / 2, -np.pi / 2), strict=True):
        person.heading += turn
        person.pelvis[:, 2] = 0.32 * track(u, (0, 0.0), (0.5, 0.55), (1, 1.0))
        for leg, (begin, end) in enumerate(((0.02, 0.5), (0.45, 0.95))):
            part = track(u, (0, 0.0), (begin, 0.0), (end, 1.0), (1, 1.0))
            person.ankles[:, leg, 2] = 0.32 * part
            person.ankles[:, leg, 1] = 0.07 * np.sin(np.pi * part) ** 2
            person.wrists[:, 1 - leg, 2] += 0.18 * style.amplitude * np.sin(np.pi * part) ** 2
        person.lean += 0.04
    return Act(persons=pair, across=True, gap=2.1)


@dataclass(frozen=True, kw_only=True)
class Movement:
    """What an action's clips show: people, whether the finished clip is reversed in time, a thing beside the person."""

    act: Callable[[Array, Style], Act]
    backwards: bool = False
    thing: str | None = None


# By class name, in the order of the labels: 0 and 1 are a pair, 2 and 3, and so on; 2 to 5 are two pairs both ways.
MOVEMENTS: dict[str, Movement] = {
    "sit down": Movement(act=_sit_down),
    "stand up": Movement(act=_sit_down, backwards=True),
    "reach out to a ball": Movement(act=_reach_out, thing="ball"),
    "reach out to a box": Movement(act=_reach_out, thing="box"),
    "draw back from a ball": Movement(act=_reach_out, thing="ball", backwards=True),
    "draw back from a box": Movement(act=_reach_out, thing="box", backwards=True),
    "point at a ball": Movement(act=_point, thing="ball"),
    "point at a box": Movement(act=_point, thing="box"),
    "put on glasses": Movement(act=_put_on_glasses),
    "take off glasses": Movement(act=_put_on_glasses, backwards=True),
    "clap slowly": Movement(act=partial(_clap, times=1)),
    "clap fast": Movement(act=partial(_clap, times=3)),
    "walk towards each other": Movement(act=_walk_together),
    "walk apart": Movement(act=_walk_together, backwards=True),
}

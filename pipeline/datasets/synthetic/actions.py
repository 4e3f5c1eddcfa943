"""The actions of the synthetic set: the pose controls of each over time, interpolated smoothly between key poses.

In: the phase u (T,) in 0..1 of the movement, time in seconds (T,), and a Style. Out: an Act. Three actions are
reversals of others: the caller reverses the finished clip (`MOVEMENTS`), so that no single frame distinguishes the two.
Independent of subjects' proportions, cameras and pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.synthetic.body import Array, Controls

HANGING = (0.17, -0.94, 0.10)  # a wrist at rest
STANCE = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Style:
    """The manner of a performance, drawn independently of the action.

    Attributes:
        hand: the leading side, 0 left, 1 right.
        amplitude: factor of the movement's size, about 1.
        rate: factor of the frequency of repetitions, about 1.
        phase: radians, where a repetition starts.
        arms: (2, 3) added to both wrists' rest, in units of the reach.
    """

    hand: int
    amplitude: float
    rate: float
    phase: float
    arms: Array


@dataclass(kw_only=True)
class Act:
    """One action: the controls of each person, and the props.

    Attributes:
        hat: (T,) from 0, in the leading hand, to 1, on the head; None if the action has no hat.
        cup, trolley: whether there is a cup in the leading hand, a trolley in both hands.
        seated: whether the chair must stand right behind the person.
        gap: distance between two people, in units of an arm's reach.
    """

    persons: list[Controls]
    hat: Array | None = None
    cup: bool = False
    trolley: bool = False
    seated: bool = False
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


def _sit_down(u: Array, seconds: Array, style: Style) -> Act:
    person = standing(u, style)
    person.pelvis = track(u, (0, STANCE), (0.35, (0, -0.08, -0.12)), (0.9, (0, -0.39, -0.40)), (1, (0, -0.40, -0.42)))
    person.lean = track(u, (0, 0.03), (0.5, 0.62 * style.amplitude), (1, 0.04))
    person.nod = track(u, (0, 0.02), (0.45, -0.25), (1, 0.05))
    person.wrists = person.wrists + track(u, (0, 0.0), (0.25, 0.0), (0.9, 1.0), (1, 1.0))[:, None, None] * (
        np.array([0.02, -0.66, 0.50]) - person.wrists
    )
    return Act(persons=[person], seated=True)


def _put_on_hat(u: Array, seconds: Array, style: Style) -> Act:
    person, hand = standing(u, style), style.hand
    top = (0.02, 0.56, 0.06)  # the hand beside the brim
    person.wrists[:, hand] = track(
        u, (0, HANGING), (0.22, (0.0, -0.5, 0.5)), (0.5, top), (0.6, top), (0.75, (0.3, 0.1, 0.5)), (1, HANGING)
    )
    person.nod = track(u, (0, 0.05), (0.22, 0.28), (0.5, -0.08), (0.62, 0.12), (1, 0.0))
    person.side = (1 - 2 * hand) * track(u, (0, 0.0), (0.5, -0.08), (1, 0.0))
    return Act(persons=[person], hat=track(u, (0, 0.0), (0.44, 0.0), (0.52, 1.0), (1, 1.0)))


def _push(u: Array, seconds: Array, style: Style) -> Act:
    person, lead = standing(u, style), style.hand
    person.wrists[:] = track(u, (0, (-0.08, -0.62, 0.36)), (1, (-0.06, -0.36, 0.88)))[:, None]
    person.lean = track(u, (0, -0.10), (1, 0.40 * style.amplitude))
    person.pelvis = track(u, (0, (0, -0.04, -0.10)), (1, (0, -0.07, 0.20)))
    person.ankles[:, lead] = (0.0, 0.0, 0.24)
    person.ankles[:, 1 - lead] = (0.0, 0.0, -0.20)
    person.nod = track(u, (0, 0.2), (1, -0.15))
    return Act(persons=[person], trolley=True)


def _wave(u: Array, seconds: Array, style: Style) -> Act:
    person, hand = standing(u, style), style.hand
    raised = track(u, (0, 0.0), (0.22, 1.0), (0.84, 1.0), (1, 0.0))
    swing = 0.34 * style.amplitude * np.sin(2 * np.pi * 1.25 * style.rate * seconds + style.phase)
    up = np.stack([0.36 + swing, 0.72 - 0.25 * np.abs(swing), np.full_like(u, 0.22)], axis=-1)
    person.wrists[:, hand] += raised[:, None] * (up - person.wrists[:, hand])
    person.side = (1 - 2 * hand) * -0.06 * raised
    return Act(persons=[person])


def _jump(u: Array, seconds: Array, style: Style) -> Act:
    person, height = standing(u, style), 0.23 * style.amplitude
    flight = height * np.clip(1 - ((u - 0.54) / 0.2) ** 2, 0.0, None)
    crouch = track(u, (0, 0.0), (0.24, -0.22), (0.36, 0.0), (0.72, 0.0), (0.84, -0.17), (1, 0.0))
    person.pelvis[:, 1] = flight + crouch
    person.pelvis[:, 2] = 0.4 * crouch
    person.lean = 0.03 - 1.9 * crouch
    person.ankles[:, :, 1] = (flight + 0.06 * (flight > 0) * flight / height)[:, None]
    arms = ((0, HANGING), (0.2, (0.2, -0.8, -0.3)), (0.54, (0.4, 0.4, 0.6)), (0.82, (0.3, -0.7, 0.5)), (1, HANGING))
    person.wrists[:] = track(u, *arms)[:, None]
    return Act(persons=[person])


def _clap(u: Array, seconds: Array, style: Style) -> Act:
    person = standing(u, style)
    raised = track(u, (0, 0.0), (0.2, 1.0), (0.85, 1.0), (1, 0.0))
    gap = 0.5 * style.amplitude * np.abs(np.sin(np.pi * 1.7 * style.rate * seconds + style.phase))
    front = np.stack([gap - 0.06, np.full_like(u, -0.22), np.full_like(u, 0.58)], axis=-1)
    person.wrists += raised[:, None, None] * (front[:, None] - person.wrists)
    return Act(persons=[person])


def _kick(u: Array, seconds: Array, style: Style) -> Act:
    person, leg = standing(u, style), style.hand
    high = (0.0, 0.20 + 0.42 * style.amplitude, 0.74)
    person.ankles[:, leg] = track(u, (0, STANCE), (0.30, (0.02, 0.16, -0.38)), (0.56, high), (0.66, high), (1, STANCE))
    person.lean = track(u, (0, 0.03), (0.3, 0.22), (0.6, -0.26), (1, 0.03))
    person.pelvis = track(u, (0, STANCE), (0.3, (0, -0.03, 0.03)), (0.6, (0, -0.02, -0.04)), (1, STANCE))
    person.wrists[:, leg] = track(u, (0, HANGING), (0.3, (0.4, -0.7, 0.4)), (0.6, (0.4, -0.7, -0.35)), (1, HANGING))
    person.wrists[:, 1 - leg] = track(u, (0, HANGING), (0.3, (0.4, -0.7, -0.4)), (0.6, (0.4, -0.5, 0.5)), (1, HANGING))
    return Act(persons=[person])


def _drink(u: Array, seconds: Array, style: Style) -> Act:
    person, hand = standing(u, style), style.hand
    mouth, carry = (-0.28, 0.14, 0.42), (0.05, -0.48, 0.52)
    person.wrists[:, hand] = track(u, (0, carry), (0.12, carry), (0.4, mouth), (0.7, mouth), (0.95, carry), (1, carry))
    person.nod = track(u, (0, 0.05), (0.4, -0.10), (0.55, -0.42 * style.amplitude), (0.7, -0.2), (1, 0.0))
    return Act(persons=[person], cup=True)


def _bow(u: Array, seconds: Array, style: Style) -> Act:
    person = standing(u, style)
    deep = track(u, (0, 0.0), (0.42, 1.0), (0.6, 1.0), (1, 0.0))
    person.lean = 0.03 + 1.05 * style.amplitude * deep
    person.nod = 0.25 * deep
    person.pelvis[:, 2] = -0.14 * deep
    person.wrists += deep[:, None, None] * (np.array([0.02, -0.93, -0.20]) - person.wrists)
    return Act(persons=[person])


def _facing_pair(u: Array, style: Style) -> list[Controls]:
    """Two people who face each other along x."""
    first, second = standing(u, style), standing(u, style)
    first.heading += np.pi / 2
    second.heading -= np.pi / 2
    return [first, second]


def _shake_hands(u: Array, seconds: Array, style: Style) -> Act:
    pair = _facing_pair(u, style)
    given = track(u, (0, 0.0), (0.3, 1.0), (0.8, 1.0), (1, 0.0))
    pump = 0.10 * style.amplitude * np.sin(2 * np.pi * 1.5 * style.rate * seconds + style.phase)
    front = np.stack([np.full_like(u, -0.33), -0.45 + pump, np.full_like(u, 0.74)], axis=-1)
    for person in pair:
        person.wrists[:, 1] += given[:, None] * (front - person.wrists[:, 1])
        person.lean = 0.03 + 0.14 * given
    return Act(persons=pair, gap=2.02)


def _hug(u: Array, seconds: Array, style: Style) -> Act:
    pair = _facing_pair(u, style)
    near = track(u, (0, 0.0), (0.45, 1.0), (0.78, 1.0), (1, 0.0))
    held = track(u, (0, 0.0), (0.2, 0.5), (0.5, 1.0), (0.75, 1.0), (1, 0.0))
    arms = np.array([[-0.30, -0.06, 0.70], [-0.34, -0.42, 0.62]])
    for person in pair:
        person.pelvis[:, 2] = 0.33 * near
        person.ankles[:, :, 2] = 0.31 * near[:, None]
        person.ankles[:, 0, 1] = 0.05 * np.sin(np.pi * near) ** 2
        person.wrists += held[:, None, None] * (arms - person.wrists)
        person.lean = 0.03 + 0.10 * near
        person.side = 0.10 * near
    return Act(persons=pair, gap=1.74)


# By class name, in the order of the labels: the movement, and whether the finished clip is reversed in time.
MOVEMENTS: dict[str, tuple[Callable[[Array, Array, Style], Act], bool]] = {
    "sit down": (_sit_down, False),
    "stand up": (_sit_down, True),
    "put on a hat": (_put_on_hat, False),
    "take off a hat": (_put_on_hat, True),
    "push a trolley": (_push, False),
    "pull a trolley": (_push, True),
    "wave": (_wave, False),
    "jump": (_jump, False),
    "clap": (_clap, False),
    "kick": (_kick, False),
    "drink": (_drink, False),
    "bow": (_bow, False),
    "shake hands": (_shake_hands, False),
    "hug": (_hug, False),
}

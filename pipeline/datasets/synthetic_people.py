"""The people of the synthetic set: proportions, tempo, manner and colours of each, drawn once for a subject.

In: the seed and what names the person (a subject's number, or a performance for the second person of two). Out: a
Person. Subjects in training and in test are drawn alike; nothing here knows an action or a split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.synthetic_body import Array, Body
from pipeline.datasets.synthetic_paint import Colour
from pipeline.records import keyed_rng

# Muted and of like lightness within each palette, as real clothes are under room light: with loud colours a random
# network's features tell people apart before they tell movements apart.
SKINS: tuple[Colour, ...] = ((226, 184, 154), (214, 168, 136), (194, 146, 114), (172, 124, 94), (146, 104, 80))
HAIRS: tuple[Colour, ...] = ((38, 30, 28), (58, 42, 34), (84, 60, 44), (110, 84, 58))
SHIRTS: tuple[Colour, ...] = (
    (166, 84, 78),
    (78, 108, 150),
    (88, 122, 92),
    (164, 132, 84),
    (124, 96, 134),
    (172, 110, 86),
    (80, 124, 128),
    (148, 90, 112),
)
TROUSERS: tuple[Colour, ...] = ((56, 64, 88), (62, 60, 64), (80, 72, 64), (64, 78, 98), (72, 76, 70))
SHOES: tuple[Colour, ...] = ((44, 42, 44), (66, 54, 46), (92, 66, 50))
HATS: tuple[Colour, ...] = ((196, 170, 122), (60, 66, 84), (150, 62, 56))


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours, and how far sleeves and trouser legs reach (0 short, 1 long); `hair_length` in metres below the ears."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    long_sleeves: bool
    long_legs: bool
    hair_length: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """A body, how it looks, and its manner: `tempo` and `rate` about 1, `hand` the leading side (0 left, 1 right)."""

    body: Body
    look: Look
    tempo: float
    rate: float
    amplitude: float
    hand: int
    arms: Array


def person(seed: int, *key: object) -> Person:
    """The person that the seed and the key's parts (strings, integers) name: a pure function of them."""
    rng = keyed_rng(seed, "synthetic person", *key)
    size = rng.uniform(0.90, 1.08)
    legs, arms, broad = rng.uniform(0.96, 1.04), rng.uniform(0.96, 1.04), rng.uniform(0.92, 1.08)
    lengths = {
        "spine": size * rng.uniform(0.97, 1.03),
        "neck": size,
        "head": size**0.5,
        "shoulder": size * broad,
        "hip": size * broad,
        "upper_arm": size * arms,
        "forearm": size * arms,
        "hand": size * arms,
        "thigh": size * legs,
        "shin": size * legs,
        "foot": size,
        "ankle": size,
    }
    standard = Body()
    return Person(
        body=Body(
            girth=size * rng.uniform(0.88, 1.18), **{name: getattr(standard, name) * f for name, f in lengths.items()}
        ),
        look=_look(rng),
        tempo=rng.uniform(0.86, 1.18),
        rate=rng.uniform(0.9, 1.15),
        amplitude=rng.uniform(0.88, 1.12),
        hand=int(rng.random() < 0.85),
        arms=rng.uniform(-1.0, 1.0, (2, 3)) * np.array([0.04, 0.01, 0.05]),
    )


def _look(rng: np.random.Generator) -> Look:
    """Colours of one person, each a little off its palette's."""

    def dye(palette: tuple[Colour, ...]) -> Colour:
        colour = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.92, 1.08) + rng.uniform(-6, 6, 3)
        red, green, blue = np.clip(colour, 0, 255)
        return float(red), float(green), float(blue)

    return Look(
        skin=dye(SKINS),
        hair=dye(HAIRS),
        shirt=dye(SHIRTS),
        trousers=dye(TROUSERS),
        shoes=dye(SHOES),
        long_sleeves=bool(rng.random() < 0.5),
        long_legs=bool(rng.random() < 0.8),
        hair_length=float(rng.choice([0.0, 0.0, 0.12, 0.2])),
    )

"""The people of the synthetic set: proportions, tempo, manner and colours of each, drawn once for a subject.

In: the seed and the key of a person (a subject's number, or a performance for the second person of two). Out: a
Person. Subjects in training and in test are drawn alike. Independent of actions and splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.synthetic.body import Array, Body
from pipeline.datasets.synthetic.paint import Colour
from pipeline.records import keyed_rng

# Muted, and of similar lightness within each palette. With vivid colours the tokens of a random network distinguish
# people better than movements, and a model trained on 240 clips remembers the people.
SKINS: tuple[Colour, ...] = ((208, 165, 135), (202, 157, 126), (192, 146, 115), (181, 135, 105), (168, 125, 98))
HAIRS: tuple[Colour, ...] = ((55, 42, 34), (65, 48, 38), (78, 57, 42), (91, 69, 50))
SHIRTS: tuple[Colour, ...] = (
    (147, 96, 93),
    (103, 108, 129),
    (108, 115, 100),
    (146, 120, 96),
    (126, 102, 121),
    (150, 109, 97),
    (104, 116, 118),
    (138, 99, 110),
)
TROUSERS: tuple[Colour, ...] = ((61, 67, 82), (64, 65, 70), (73, 71, 70), (65, 74, 87), (69, 73, 73))
SHOES: tuple[Colour, ...] = ((56, 48, 45), (67, 54, 46), (80, 60, 48))


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours and clothes; `hair_length` in metres below the ears."""

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
    """A body, how it looks, and its manner: `tempo` and `amplitude` about 1, `arms` as in `actions.Style`."""

    body: Body
    look: Look
    tempo: float
    amplitude: float
    arms: Array


def person(seed: int, *key: object) -> Person:
    """The person of a seed and a key (strings, integers): a pure function of them."""
    rng = keyed_rng(seed, "synthetic person", *key)
    size = rng.uniform(0.90, 1.08)
    legs, arms, broad = rng.uniform(0.96, 1.04), rng.uniform(0.96, 1.04), rng.uniform(0.92, 1.08)
    lengths = {
        "spine": size * rng.uniform(0.97, 1.03),
        "head": size**0.5,
        **dict.fromkeys(("neck", "foot", "ankle"), size),
        **dict.fromkeys(("shoulder", "hip"), size * broad),
        **dict.fromkeys(("upper_arm", "forearm", "hand"), size * arms),
        **dict.fromkeys(("thigh", "shin"), size * legs),
    }
    standard = Body()
    return Person(
        body=Body(
            girth=size * rng.uniform(0.88, 1.18), **{name: getattr(standard, name) * f for name, f in lengths.items()}
        ),
        look=_look(rng),
        tempo=rng.uniform(0.86, 1.18),
        amplitude=rng.uniform(0.88, 1.12),
        arms=rng.uniform(-1.0, 1.0, (2, 3)) * np.array([0.04, 0.01, 0.05]),
    )


def _look(rng: np.random.Generator) -> Look:
    """The look of one person; each colour differs a little from its palette's."""

    def dye(palette: tuple[Colour, ...]) -> Colour:
        colour = np.array(palette[rng.integers(len(palette))]) + rng.uniform(-3, 3, 3)
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

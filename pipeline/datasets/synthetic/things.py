"""The shapes of the things in a clip: a ball or a box on the floor, a chair, a screen whose fields change.

In: Props and Screen (metres, the room's frame). Out: PaintLayers as one camera sees them: of one frame for what stands
still, which belongs to the clip's background since nothing passes behind it, of T frames for the screen's fields. It
paints on no picture.
"""

from __future__ import annotations

import numpy as np

from pipeline.datasets.synthetic.body import Array
from pipeline.datasets.synthetic.figure import FLAT, UP, Pencil
from pipeline.datasets.synthetic.paint import Colour
from pipeline.datasets.synthetic.scene import SCREEN_FIELDS, Props, Screen

WOOD: Colour = (158, 122, 84)
CASE: Colour = (44, 46, 52)
WHITE: Colour = (236, 234, 226)
EXTENT = (1.3, 0.7)  # of the screen, metres
FORWARD = np.array([0.0, 0.0, 1.0])  # where it faces


def draw_things(pencil: Pencil, props: Props) -> None:
    """All that stands still but the screen."""
    _chair(pencil, props)
    if props.kind is not None:
        colour = props.colours[props.kind]
        pencil.shadow(props.thing[None], 0.55 * props.size, np.array([0.45]))
        if props.kind == "ball":
            _ball(pencil, props.thing[None], props.size / 2, props.turn, colour)
        else:
            _box(pencil, props.thing[None], props.size, props.turn, colour)


def _ball(pencil: Pencil, place: Array, radius: float, turn: float, colour: Colour) -> None:
    """A ball with a white belt, on the floor at `place` (1, 3)."""
    middle = place + radius * UP
    pencil.ball(middle, radius, colour)
    out = pencil.view.position - middle
    out = out / np.linalg.norm(out)
    across = np.cross(UP, out)
    across = across / np.linalg.norm(across)
    slant = np.cos(turn) * across + np.sin(turn) * UP
    reach = 0.80 * radius * slant
    pencil.bar(middle - reach, middle + reach, (0.2 * radius, 0.2 * radius), WHITE, nearer=radius)


def _box(pencil: Pencil, place: Array, size: float, turn: float, colour: Colour) -> None:
    """A cardboard box with a strip of tape over its lid, on the floor at `place` (1, 3)."""
    ahead = np.array([np.sin(turn), 0.0, np.cos(turn)])
    pencil.cuboid(place + 0.45 * size * UP, ahead, (size, 0.9 * size, size), colour)
    red, green, blue = (0.72 * value for value in colour)
    tape = place + 0.9 * size * UP
    pencil.cuboid(tape, ahead, (0.16 * size, 0.002, 1.0 * size), (red, green, blue), nearer=size)
    for way in (-1, 1):
        pencil.cuboid(
            place + 0.80 * size * UP + way * 0.5 * size * ahead,
            ahead,
            (0.16 * size, 0.2 * size, 0.004),
            (red, green, blue),
            nearer=0.0,
        )


def draw_stand(pencil: Pencil, screen: Screen) -> None:
    """The screen's case and stand, in one frame."""
    middle = screen.middle[None]
    wide, high = EXTENT
    pencil.bar(middle * FLAT, middle, (0.03, 0.03), CASE)
    pencil.cuboid(middle * FLAT + 0.02 * UP, FORWARD, (0.5, 0.03, 0.3), CASE)
    pencil.cuboid(middle - 0.03 * FORWARD, FORWARD, (wide + 0.06, high + 0.06, 0.04), CASE)


def draw_fields(pencil: Pencil, screen: Screen) -> None:
    """The screen's fields over time."""
    down, across = SCREEN_FIELDS
    wide, high = EXTENT[0] / across, EXTENT[1] / down
    frames = len(screen.brightness)
    for index, colour in enumerate(screen.colours):
        row, column = divmod(index, across)
        shift = np.array([(column + 0.5 - across / 2) * wide, (down / 2 - 0.5 - row) * high, 0.0])
        middle = np.tile(screen.middle + shift, (frames, 1))
        pencil.pane(middle, FORWARD, (wide, high), colour, screen.brightness[:, index])


def _chair(pencil: Pencil, props: Props) -> None:
    """A wooden chair."""
    middle, ahead = props.chair[None], props.chair_ahead
    across = np.cross(UP, ahead)
    pencil.shadow(middle, 0.26, np.array([0.28]))
    for side in (-0.19, 0.19):
        for way, top in ((-0.19, 0.90), (0.19, 0.42)):
            foot = middle + side * across + way * ahead
            pencil.bar(foot + 0.02 * UP, foot + top * UP, (0.018, 0.018), WOOD)
    pencil.cuboid(middle + 0.43 * UP, ahead, (0.44, 0.04, 0.44), WOOD)
    pencil.cuboid(middle - 0.20 * ahead + 0.76 * UP, ahead, (0.40, 0.26, 0.03), WOOD)

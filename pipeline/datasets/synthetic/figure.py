"""The shapes that are painted for a person's 25 joints.

In: joints over T frames (metres, the room's frame). Out: PaintLayers as one camera sees them. Every limb is a stroke
between the same joints that the skeleton file holds. It paints on no picture, and knows of no things but people.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.datasets.synthetic.body import (
    ANKLES,
    ELBOWS,
    FEET,
    HAND_TIPS,
    HEAD,
    HIPS,
    KNEES,
    NECK,
    SHOULDERS,
    SPINE_BASE,
    SPINE_SHOULDER,
    THUMBS,
    WRISTS,
    Array,
)
from pipeline.datasets.synthetic.camera import FOCAL, HEIGHT, WIDTH, Camera, colour_pixels
from pipeline.datasets.synthetic.paint import Colour, PaintLayer, facet, shadow, stroke
from pipeline.datasets.synthetic.people import Person

UP, FLAT = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])
SIZE = (HEIGHT, WIDTH)


class Pencil:
    """Turns shapes in the room's frame into `layers`, as one camera sees them."""

    def __init__(self, view: Camera) -> None:
        self.view = view
        self.layers: list[PaintLayer] = []

    def bar(self, start: Array, end: Array, radii: tuple[float, float], colour: Colour, *, nearer: float = 0.0) -> None:
        """A round bar between two points (T, 3), radii in metres; sorted as if it were `nearer` metres closer."""
        seen = self.view.see(np.stack([start, end], axis=1))
        depths = seen[..., 2]
        depth = depths.mean(axis=1) - nearer
        self.layers.append(stroke(colour_pixels(seen), np.array(radii) * FOCAL / depths, depth, colour, size=SIZE))

    def ball(self, middle: Array, radius: float, colour: Colour, *, nearer: float = 0.0) -> None:
        """A ball about a point (T, 3), radius in metres."""
        self.bar(middle, middle, (radius, radius), colour, nearer=nearer)

    def trunk(
        self, low: Array, high: Array, left: Array, front: Array, widths: tuple[float, float], colour: Colour
    ) -> None:
        """An elliptic cylinder between two points (T, 3): half-widths in metres sideways, 0.6 of them in depth."""
        seen = self.view.see(np.stack([low, high], axis=1))
        ends = colour_pixels(seen)
        axis = ends[:, 1] - ends[:, 0]
        axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-6)
        middle = (low + high) / 2
        spread = colour_pixels(self.view.see(np.stack([middle, middle + 0.1 * left, middle + 0.06 * front], axis=1)))
        reach = (spread[:, 1:] - spread[:, :1]) / 0.1  # (T, left and front, 2) pixels for each metre of half-width
        across = np.linalg.norm(reach[..., 0] * axis[:, None, 1] - reach[..., 1] * axis[:, None, 0], axis=-1)
        radii, depth = np.array(widths) * across[:, None], seen[..., 2].mean(axis=1)
        self.layers.append(stroke(ends, radii, depth, colour, size=SIZE, roundness=0.45))

    def cuboid(
        self, middle: Array, ahead: Array, extent: tuple[float, float, float], colour: Colour, *, nearer: float = 0.0
    ) -> None:
        """An upright box about points (T, 3): metres across, up and along `ahead` (3,)."""
        axes = np.stack([np.cross(UP, ahead) * extent[0], UP * extent[1], ahead * extent[2]]) / 2
        depth = self.view.see(middle)[:, 2] - nearer
        for axis, shade in ((0, 0.78), (1, 1.06), (2, 0.92)):
            toward = self.view.position - middle
            out = axes[axis] * np.where(toward @ axes[axis] > 0, 1.0, -1.0)[:, None]
            first, second = axes[(axis + 1) % 3], axes[(axis + 2) % 3]
            rim = np.stack([first + second, first - second, -first - second, second - first])
            points = colour_pixels(self.view.see((middle + out)[:, None] + rim))
            red, green, blue = (min(255.0, shade * value) for value in colour)
            shown = (out * (toward - out)).sum(axis=-1) > 0
            self.layers.append(facet(points, depth, (red, green, blue), size=SIZE, shown=shown))

    def pane(self, middle: Array, ahead: Array, extent: tuple[float, float], colour: Colour, brightness: Array) -> None:
        """An upright rectangle about points (T, 3) that faces `ahead` (3,): metres across and up, `brightness` (T,)."""
        across, up = np.cross(UP, ahead) * extent[0] / 2, UP * extent[1] / 2
        rim = np.stack([across + up, across - up, -across - up, up - across])
        points = colour_pixels(self.view.see(middle[:, None] + rim))
        shown = (self.view.position - middle) @ ahead > 0
        layer = facet(points, self.view.see(middle)[:, 2], colour, size=SIZE, shown=shown)
        self.layers.append(replace(layer, light=layer.light * brightness.astype(np.float32)[:, None, None]))

    def shadow(self, above: Array, radius: float, strength: Array) -> None:
        """The soft shadow on the floor below points `above` (T, 3): a disc of `radius` metres, `strength` (T,)."""
        seen = self.view.see(above * FLAT)
        wide = radius * FOCAL / seen[:, 2]
        flat = self.view.position[1] / np.linalg.norm(seen, axis=-1)  # the sine of the angle it is seen under
        self.layers.append(shadow(colour_pixels(seen), np.stack([wide, wide * flat], axis=-1), strength, size=SIZE))


def draw_person(pencil: Pencil, member: Person, joints: Array) -> None:
    """All of one person and its shadow, from its joints (T, 25, 3)."""
    look, girth = member.look, member.body.girth
    pencil.shadow(joints[:, SPINE_BASE], 0.24, 0.34 / (1.0 + 4.0 * joints[:, ANKLES, 1].min(axis=1)))
    for ankle in ANKLES:
        pencil.shadow(joints[:, ankle], 0.12, 0.30 / (1.0 + 8.0 * joints[:, ankle, 1]))
    base, top = joints[:, SPINE_BASE], joints[:, SPINE_SHOULDER]
    up = _unit(top - base)
    left = _unit(joints[:, SHOULDERS[0]] - joints[:, SHOULDERS[1]])
    widths = (member.body.hip + 0.055 * girth, member.body.shoulder + 0.005)
    pencil.trunk(base + 0.06 * up, top - 0.035 * up, left, np.cross(left, up), widths, look.shirt)
    hip_radius = 0.095 * girth
    pencil.bar(joints[:, HIPS[0]], joints[:, HIPS[1]], (hip_radius, hip_radius), look.trousers, nearer=-0.02)
    pencil.bar(top, joints[:, NECK] + 0.04 * up, (0.058 * girth, 0.05 * girth), look.skin)
    _limbs(pencil, member, joints)
    _head(pencil, member, joints, left)


def _limbs(pencil: Pencil, member: Person, joints: Array) -> None:
    look, girth = member.look, member.body.girth
    forearm = look.shirt if look.long_sleeves else look.skin
    shin = look.trousers if look.long_legs else look.skin
    for side in (0, 1):
        shoulder, elbow, wrist = (joints[:, part[side]] for part in (SHOULDERS, ELBOWS, WRISTS))
        hip, knee, ankle, foot = (joints[:, part[side]] for part in (HIPS, KNEES, ANKLES, FEET))
        pencil.bar(shoulder, elbow, (0.056 * girth, 0.044 * girth), look.shirt, nearer=0.06)
        pencil.bar(elbow, wrist, (0.043 * girth, 0.031 * girth), forearm, nearer=0.07)
        pencil.bar(wrist, joints[:, HAND_TIPS[side]], (0.034, 0.026), look.skin, nearer=0.08)
        pencil.bar(wrist, joints[:, THUMBS[side]], (0.020, 0.014), look.skin, nearer=0.085)
        pencil.bar(hip, knee, (0.086 * girth, 0.064 * girth), look.trousers)
        pencil.bar(knee, ankle, (0.060 * girth, 0.042 * girth), shin)
        heel = ankle - 0.25 * (foot - ankle) * FLAT - 0.03 * UP
        pencil.bar(heel, foot, (0.046, 0.036), look.shoes, nearer=0.01)


def _head(pencil: Pencil, member: Person, joints: Array, left: Array) -> None:
    look, head = member.look, joints[:, HEAD]
    up = _unit(head - joints[:, NECK])
    front = np.cross(left, up)
    pencil.bar(head - 0.045 * up, head + 0.03 * up, (0.070, 0.082), look.skin)
    for side in (-1, 1):
        pencil.ball(head + 0.074 * front + side * 0.032 * left + 0.012 * up, 0.012, (40, 32, 30), nearer=0.02)
        pencil.ball(head + side * 0.080 * left - 0.005 * up, 0.020, look.skin, nearer=-0.01)
    red, green, blue = (0.88 * value for value in look.skin)
    pencil.ball(head + 0.088 * front - 0.015 * up, 0.014, (red, green, blue), nearer=0.02)
    crown, back = head + 0.050 * up - 0.022 * front, head + 0.022 * up - 0.045 * front
    pencil.bar(crown, back, (0.086, 0.082), look.hair, nearer=-0.005)
    pencil.bar(head + 0.088 * up + 0.03 * front, head + 0.09 * up - 0.03 * front, (0.048, 0.05), look.hair, nearer=0.03)
    if look.hair_length:
        nape = head - 0.055 * front
        pencil.bar(nape, nape - look.hair_length * up, (0.075, 0.06), look.hair)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

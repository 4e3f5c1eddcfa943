"""People and things as shapes: what is painted for a person's 25 joints, and for hat, cup, trolley and chair.

In: a Scene (metres, room's frame). Out: for each frame a list of Shapes in pixels with their depths. Every limb is
a stroke between the very joints that go into the skeleton file. It paints nothing.
"""

from __future__ import annotations

import numpy as np

from pipeline.datasets.synthetic_body import (
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
from pipeline.datasets.synthetic_camera import FOCAL, Camera, colour_pixels
from pipeline.datasets.synthetic_paint import Facet, Shadow, Shape, Stroke
from pipeline.datasets.synthetic_people import Colour, Person
from pipeline.datasets.synthetic_scene import Props

UP, FLAT = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])
STEEL: Colour = (150, 154, 160)
WOOD: Colour = (158, 122, 84)
CARDBOARD: Colour = (186, 150, 108)
CUP: Colour = (232, 232, 226)


class Pencil:
    """Draws shapes of room points for one camera: it keeps the projection out of the figures."""

    def __init__(self, view: Camera) -> None:
        self._view = view
        self.forward = view.axes[2]
        self.shapes: list[Shape] = []

    def bar(self, start: Array, end: Array, radii: tuple[float, float], colour: Colour, *, nearer: float = 0.0) -> None:
        """A round bar between two points (3,), radii in metres; `nearer` metres of advantage when depths are sorted."""
        seen = self._view.see(np.stack([start, end]))
        (ax, ay), (bx, by) = colour_pixels(seen).tolist()
        near, far = seen[:, 2].tolist()
        self.shapes.append(
            Stroke(ax, ay, bx, by, radii[0] * FOCAL / near, radii[1] * FOCAL / far, (near + far) / 2 - nearer, colour)
        )

    def ball(self, middle: Array, radius: float, colour: Colour, *, nearer: float = 0.0) -> None:
        """A ball about a point (3,), radius in metres."""
        self.bar(middle, middle, (radius, radius), colour, nearer=nearer)

    def trunk(
        self, low: Array, high: Array, left: Array, front: Array, waist: float, chest: float, colour: Colour
    ) -> None:
        """A body of elliptic section between two points: half-widths in metres to the left, 0.6 of them ahead."""
        seen = self._view.see(np.stack([low, high]))
        ends = colour_pixels(seen)
        axis = (ends[1] - ends[0]) / max(float(np.linalg.norm(ends[1] - ends[0])), 1e-6)
        middle = (low + high) / 2
        spread = colour_pixels(self._view.see(np.stack([middle, middle + 0.1 * left, middle + 0.06 * front])))
        wide, deep = (spread[1:] - spread[0]) / 0.1  # pixels for each metre of half-width
        across = float(np.hypot(wide[0] * axis[1] - wide[1] * axis[0], deep[0] * axis[1] - deep[1] * axis[0]))
        (ax, ay), (bx, by) = ends.tolist()
        depth = float(seen[:, 2].mean())
        self.shapes.append(Stroke(ax, ay, bx, by, waist * across, chest * across, depth, colour, roundness=0.45))

    def shadow(self, above: Array, radius: float, strength: float) -> None:
        """The soft shadow that something at `above` (3,) casts on the floor, a disc of `radius` metres."""
        seen = self._view.see(above * FLAT)
        x, y = colour_pixels(seen).tolist()
        wide = radius * FOCAL / float(seen[2])
        flat = float(self._view.position[1]) / float(np.linalg.norm(seen))  # the sine of the angle it is seen under
        self.shapes.append(Shadow(x, y, wide, wide * flat, strength))

    def cuboid(self, middle: Array, ahead: Array, size: tuple[float, float, float], colour: Colour) -> None:
        """An upright box: `size` across, up and along `ahead` in metres; only the faces that the camera sees."""
        axes = np.stack([np.cross(UP, ahead) * size[0], UP * size[1], ahead * size[2]]) / 2
        depth = float(self._view.see(middle)[2])
        for axis, shade in ((0, 0.78), (1, 1.06), (2, 0.92)):
            toward = self._view.position - middle
            out = axes[axis] * (1.0 if float(axes[axis] @ toward) > 0 else -1.0)
            if float(out @ (toward - out)) <= 0:
                continue
            first, second = axes[(axis + 1) % 3], axes[(axis + 2) % 3]
            corners = middle + out + np.stack([first + second, first - second, -first - second, second - first])
            points = tuple((float(x), float(y)) for x, y in colour_pixels(self._view.see(corners)))
            red, green, blue = (min(255.0, shade * value) for value in colour)
            self.shapes.append(Facet(points, depth, (red, green, blue)))


def draw_person(pencil: Pencil, member: Person, joints: Array) -> None:
    """All of one person and its shadow, from its joints (25, 3)."""
    height = float(joints[list(ANKLES), 1].min())
    pencil.shadow(joints[SPINE_BASE], 0.24, 0.34 / (1.0 + 4.0 * height))
    for ankle in ANKLES:
        pencil.shadow(joints[ankle], 0.12, 0.30 / (1.0 + 8.0 * float(joints[ankle, 1])))
    look, girth = member.look, member.body.girth
    up = joints[SPINE_SHOULDER] - joints[SPINE_BASE]
    up = up / np.linalg.norm(up)
    left = joints[SHOULDERS[0]] - joints[SHOULDERS[1]]
    left = left / np.linalg.norm(left)
    front = np.cross(left, up)
    chest, waist = member.body.shoulder + 0.005, member.body.hip + 0.055 * girth
    low = joints[SPINE_BASE] + 0.06 * up
    pencil.trunk(low, joints[SPINE_SHOULDER] - 0.035 * up, left, front, waist, chest, look.shirt)
    hips = joints[list(HIPS)]
    pencil.bar(hips[0], hips[1], (0.095 * girth, 0.095 * girth), look.trousers, nearer=-0.02)
    pencil.bar(joints[SPINE_SHOULDER], joints[NECK] + 0.05 * up, (0.058 * girth, 0.05 * girth), look.skin)
    _limbs(pencil, member, joints)
    _head(pencil, member, joints, left)


def _limbs(pencil: Pencil, member: Person, joints: Array) -> None:
    """Arms with hands, legs with shoes."""
    look, girth = member.look, member.body.girth
    forearm = look.shirt if look.long_sleeves else look.skin
    shin = look.trousers if look.long_legs else look.skin
    for side in (0, 1):
        shoulder, elbow, wrist = (joints[part[side]] for part in (SHOULDERS, ELBOWS, WRISTS))
        hip, knee, ankle, foot = (joints[part[side]] for part in (HIPS, KNEES, ANKLES, FEET))
        pencil.bar(shoulder, elbow, (0.056 * girth, 0.044 * girth), look.shirt, nearer=0.06)
        pencil.bar(elbow, wrist, (0.043 * girth, 0.031 * girth), forearm, nearer=0.07)
        pencil.bar(wrist, joints[HAND_TIPS[side]], (0.034, 0.026), look.skin, nearer=0.08)
        pencil.bar(wrist, joints[THUMBS[side]], (0.020, 0.014), look.skin, nearer=0.085)
        pencil.bar(hip, knee, (0.086 * girth, 0.064 * girth), look.trousers)
        pencil.bar(knee, ankle, (0.060 * girth, 0.042 * girth), shin)
        heel = ankle - 0.25 * (foot - ankle) * FLAT - 0.03 * UP
        pencil.bar(heel, foot, (0.046, 0.036), look.shoes, nearer=0.01)


def _head(pencil: Pencil, member: Person, joints: Array, left: Array) -> None:
    """Skull, face and hair about the head's joint."""
    look, head = member.look, joints[HEAD]
    up = head - joints[NECK]
    up = up / np.linalg.norm(up)
    front = np.cross(left, up)
    pencil.bar(head - 0.045 * up, head + 0.03 * up, (0.070, 0.082), look.skin)
    for side in (-1, 1):
        pencil.ball(head + 0.074 * front + side * 0.032 * left + 0.012 * up, 0.012, (40, 32, 30), nearer=0.02)
        pencil.ball(head + side * 0.080 * left - 0.005 * up, 0.020, look.skin, nearer=-0.01)
    red, green, blue = (0.88 * value for value in look.skin)
    pencil.ball(head + 0.088 * front - 0.015 * up, 0.014, (red, green, blue), nearer=0.02)
    pencil.bar(
        head + 0.050 * up - 0.022 * front, head + 0.022 * up - 0.045 * front, (0.086, 0.082), look.hair, nearer=-0.005
    )
    pencil.bar(head + 0.088 * up + 0.03 * front, head + 0.09 * up - 0.03 * front, (0.048, 0.05), look.hair, nearer=0.03)
    if look.hair_length:
        nape = head - 0.055 * front
        pencil.bar(nape, nape - look.hair_length * up, (0.075, 0.06), look.hair)


def draw_props(pencil: Pencil, props: Props, frame: int) -> None:
    """Hat, cup and trolley as they are in a frame."""
    if props.hat is not None and props.hat_up is not None:
        middle, up = props.hat[frame], props.hat_up[frame]
        across = np.cross(up, pencil.forward)
        across = across / np.linalg.norm(across)
        red, green, blue = (0.7 * value for value in props.hat_colour)
        pencil.bar(middle + 0.03 * up, middle + 0.085 * up, (0.092, 0.078), props.hat_colour, nearer=0.15)
        pencil.bar(
            middle - 0.07 * across + 0.03 * up,
            middle + 0.07 * across + 0.03 * up,
            (0.026, 0.026),
            (red, green, blue),
            nearer=0.16,
        )
        pencil.bar(middle - 0.13 * across, middle + 0.13 * across, (0.020, 0.020), props.hat_colour, nearer=0.17)
    if props.cup is not None:
        low = props.cup[frame]
        pencil.bar(low - 0.03 * UP, low + 0.05 * UP, (0.030, 0.038), CUP, nearer=0.12)
    if props.trolley is not None and props.trolley_ahead is not None:
        _trolley(pencil, props.trolley[frame], props.trolley_ahead)


def _trolley(pencil: Pencil, handle: Array, ahead: Array) -> None:
    """A platform on wheels with a box on it and a handle to push and pull it by."""
    across = np.cross(UP, ahead)
    floor = handle * FLAT
    platform = floor + 0.36 * ahead + 0.17 * UP
    pencil.shadow(platform, 0.30, 0.34)
    pencil.bar(handle - 0.24 * across, handle + 0.24 * across, (0.018, 0.018), STEEL, nearer=0.02)
    for side in (-0.24, 0.24):
        pencil.bar(handle + side * across, floor + side * across + 0.17 * UP, (0.014, 0.014), STEEL)
        for way in (0.08, 0.62):
            pencil.ball(floor + side * across + way * ahead + 0.07 * UP, 0.06, (52, 52, 56))
    pencil.cuboid(platform, ahead, (0.52, 0.05, 0.72), STEEL)
    pencil.cuboid(platform + 0.04 * ahead + 0.18 * UP, ahead, (0.40, 0.30, 0.44), CARDBOARD)


def draw_chair(pencil: Pencil, props: Props) -> None:
    """A wooden chair: it stands behind everybody, so it belongs to the clip's background."""
    middle, ahead = props.chair, props.chair_ahead
    pencil.shadow(middle, 0.26, 0.28)
    across = np.cross(UP, ahead)
    for side in (-0.19, 0.19):
        for way, top in ((-0.19, 0.90), (0.19, 0.42)):
            foot = middle + side * across + way * ahead
            pencil.bar(foot + 0.02 * UP, foot + top * UP, (0.018, 0.018), WOOD)
    pencil.cuboid(middle + 0.43 * UP, ahead, (0.44, 0.04, 0.44), WOOD)
    pencil.cuboid(middle - 0.20 * ahead + 0.76 * UP, ahead, (0.40, 0.26, 0.03), WOOD)

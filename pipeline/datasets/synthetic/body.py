"""From pose controls to the 25 joints of NTU RGB+D: proportions of a subject, and two-bone inverse kinematics.

In: a Body (metres) and Controls over time (axes T, left/right, out/up/forward). Out: joints (T, 25, 3) in metres, in
the room's frame: right-handed, y up, the floor at y = 0. A person who faces +z has the left side at +x.
Independent of actions, cameras and colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The order of NTU RGB+D (Kinect v2), 0-based.
SPINE_BASE, SPINE_MID, NECK, HEAD, SPINE_SHOULDER = 0, 1, 2, 3, 20
SHOULDERS, ELBOWS, WRISTS, HANDS, HAND_TIPS, THUMBS = (4, 8), (5, 9), (6, 10), (7, 11), (21, 23), (22, 24)
HIPS, KNEES, ANKLES, FEET = (12, 16), (13, 17), (14, 18), (15, 19)
NUM_JOINTS = 25
SIDES = np.array([1.0, -1.0])  # the sign of x on the person's left and right


@dataclass(frozen=True, kw_only=True)
class Body:
    """Lengths between joints in metres; `girth` scales the thickness of the limbs."""

    spine: float = 0.47
    neck: float = 0.06
    head: float = 0.125
    shoulder: float = 0.175
    hip: float = 0.09
    upper_arm: float = 0.28
    forearm: float = 0.25
    hand: float = 0.08
    thigh: float = 0.42
    shin: float = 0.41
    foot: float = 0.15
    ankle: float = 0.08
    girth: float = 1.0

    @property
    def reach(self) -> float:
        """Length of the straight arm, shoulder to wrist: the unit of `Controls.wrists`."""
        return self.upper_arm + self.forearm


@dataclass(kw_only=True)
class Controls:
    """A person's movement over T frames. Axes are relative to the heading.

    Attributes:
        heading: (T,) direction faced, radians about y; 0 faces +z.
        pelvis: (T, 3) metres, offset of the spine's base from standing upright, (left, up, forward).
        lean, side, twist, nod: (T,) radians: forward, to the left, to the left about the spine, head forward.
        wrists: (T, 2, 3) from each shoulder, (outward, up, forward) in units of the arm's reach.
        ankles: (T, 2, 3) metres, offset of each ankle from its position when standing, (outward, up, forward).
    """

    heading: Array
    pelvis: Array
    lean: Array
    side: Array
    twist: Array
    nod: Array
    wrists: Array
    ankles: Array


def rotation(axis: int, angle: Array) -> Array:
    """Right-handed rotations (..., 3, 3) about the x, y or z axis (0, 1, 2) by `angle` (...) in radians."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((*np.shape(angle), 3, 3))
    matrix[..., axis, axis] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -np.sin(angle)
    return matrix


def _rotated(matrices: Array, *vector: float | Array) -> Array:
    """The vector of 2 or 3 components, numbers or (T,), z = 0 if not given, rotated by matrices (T, 3, 3): (T, 3)."""
    components = np.stack(np.broadcast_arrays(*vector, np.zeros(len(matrices)))[:3], axis=-1)
    return np.einsum("tij,tj->ti", matrices, components)


def two_bones(root: Array, target: Array, first: float, second: float, pole: Array) -> tuple[Array, Array]:
    """Middle and end joints (T, 3) of a limb from `root` towards `target` that bends towards `pole`.

    The end is the target itself if the limb can reach it, else the nearest point on the line to it.
    """
    distance = np.linalg.norm(target - root, axis=-1, keepdims=True)
    direction = (target - root) / np.maximum(distance, 1e-9)
    distance = np.clip(distance, abs(first - second) + 0.02, 0.995 * (first + second))
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    aside = np.sqrt(np.maximum(first**2 - along**2, 0.0))
    normal = pole - (pole * direction).sum(-1, keepdims=True) * direction
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    return root + along * direction + aside * normal, root + distance * direction


def pose(body: Body, controls: Controls, position: Array) -> Array:
    """Joints (T, 25, 3) of a person who stands at `position` (x, z) on the floor, in metres in the room's frame."""
    joints = np.empty((len(controls.heading), NUM_JOINTS, 3))
    hips = rotation(1, controls.heading)
    chest = rotation(1, controls.heading + controls.twist) @ rotation(2, -controls.side) @ rotation(0, controls.lean)
    waist = rotation(1, controls.heading + controls.twist / 2)
    waist = waist @ rotation(2, -controls.side / 2) @ rotation(0, 0.6 * controls.lean)
    skull = chest @ rotation(0, controls.nod)
    spot = np.array([position[0], 0.0, position[1]])
    height = body.ankle + 0.985 * (body.thigh + body.shin) + 0.04  # of the spine's base, the legs almost straight
    base = spot + np.array([0.0, height, 0.0]) + _rotated(hips, *controls.pelvis.T)
    joints[:, SPINE_BASE] = base
    joints[:, SPINE_MID] = base + _rotated(waist, 0.0, 0.52 * body.spine)
    joints[:, SPINE_SHOULDER] = joints[:, SPINE_MID] + _rotated(chest, 0.0, 0.48 * body.spine)
    joints[:, NECK] = joints[:, SPINE_SHOULDER] + _rotated(chest, 0.0, body.neck, 0.01)
    joints[:, HEAD] = joints[:, NECK] + _rotated(skull, 0.0, body.head, 0.02)
    arms = rotation(1, controls.heading + controls.twist)
    for index, sign in enumerate(SIDES):
        _arm(joints, body, chest, arms, controls.wrists[:, index], index, sign)
        _leg(joints, body, hips, spot, controls.ankles[:, index], index, sign)
    return joints


def _arm(joints: Array, body: Body, chest: Array, arms: Array, wrist: Array, index: int, sign: float) -> None:
    """Fill in one arm of `joints` from the wrist's position relative to the shoulder."""
    shoulder = joints[:, SPINE_SHOULDER] + _rotated(chest, sign * body.shoulder, -0.03)
    outward, up, forward = body.reach * wrist.T
    target = shoulder + _rotated(arms, sign * outward, up, forward)
    pole = _rotated(arms, sign * 0.55, -0.6, -0.6)
    elbow, wrist_joint = two_bones(shoulder, target, body.upper_arm, body.forearm, pole)
    along = (wrist_joint - elbow) / body.forearm
    inward = _rotated(arms, -sign, 0.2, 0.5)
    joints[:, SHOULDERS[index]], joints[:, ELBOWS[index]] = shoulder, elbow
    joints[:, WRISTS[index]] = wrist_joint
    joints[:, HANDS[index]] = wrist_joint + body.hand * along
    joints[:, HAND_TIPS[index]] = wrist_joint + 1.9 * body.hand * along
    joints[:, THUMBS[index]] = wrist_joint + body.hand * (0.8 * along + 0.45 * inward)


def _leg(joints: Array, body: Body, hips: Array, spot: Array, offset: Array, index: int, sign: float) -> None:
    """Fill in one leg of `joints` from the ankle's offset to its position when standing."""
    hip = joints[:, SPINE_BASE] + _rotated(hips, sign * body.hip, -0.04)
    outward, up, forward = offset.T
    target = spot + _rotated(hips, sign * (body.hip + 0.03 + outward), body.ankle + up, forward)
    pole = _rotated(hips, sign * 0.12, 0.1, 1.0)
    knee, ankle = two_bones(hip, target, body.thigh, body.shin, pole)
    joints[:, HIPS[index]], joints[:, KNEES[index]], joints[:, ANKLES[index]] = hip, knee, ankle
    joints[:, FEET[index]] = ankle + _rotated(hips, sign * 0.03, -0.6 * body.ankle, 0.85 * body.foot)

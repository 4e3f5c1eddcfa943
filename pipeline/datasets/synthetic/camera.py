"""The three cameras of a setup: their positions, and the projection of room metres to camera metres to pixels.

In: points (..., 3) in the room's frame. Out: the same in the sensor's frame as Kinect v2 has it (x to the sensor's
left, y up, z away from it), and pixels (..., 2) of the colour and of the depth picture, pixel centres at integers.
Pictures are mirrored as in NTU RGB+D: the left side of a person who faces the sensor lies at smaller colorX.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.synthetic.body import Array
from pipeline.records import keyed_rng

WIDTH, HEIGHT = 640, 360
NTU_WIDTH, NTU_HEIGHT, NTU_FOCAL = 1920, 1080, 1081.4  # of Kinect v2's colour camera, in its pixels
FOCAL = NTU_FOCAL * WIDTH / NTU_WIDTH  # pixels
DEPTH_WIDTH, DEPTH_HEIGHT, DEPTH_FOCAL = 512, 424, 365.5
ANGLES = {1: 0.0, 2: -0.45, 3: 0.45}  # radians about the room's middle, by camera; NTU's are wider, 0 and 45 degrees
DISTANCES = {1: 3.3, 2: 3.05, 3: 3.55}  # metres


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole: `axes` (3, 3) has the sensor's x, y, z as rows, in the room's frame; `position` (3,) in metres."""

    axes: Array
    position: Array

    def see(self, points: Array) -> Array:
        """Points (..., 3) of the room in the sensor's frame, metres."""
        return (points - self.position) @ self.axes.T


def colour_pixels(seen: Array) -> Array:
    """Points (..., 3) in the sensor's frame to pixels (..., 2) of the colour picture."""
    return _pinhole(seen, FOCAL, WIDTH, HEIGHT)


def ntu_pixels(seen: Array) -> Array:
    """Points (..., 3) in the sensor's frame to pixels (..., 2) of 1920 x 1080, whose colorX and colorY are."""
    return _pinhole(seen, NTU_FOCAL, NTU_WIDTH, NTU_HEIGHT)


def depth_pixels(seen: Array) -> Array:
    """Points (..., 3) in the sensor's frame to pixels (..., 2) of the 512 x 424 depth picture."""
    return _pinhole(seen, DEPTH_FOCAL, DEPTH_WIDTH, DEPTH_HEIGHT)


def _pinhole(seen: Array, focal: float, width: int, height: int) -> Array:
    right = (width - 1) / 2 + focal * seen[..., 0] / seen[..., 2]
    down = (height - 1) / 2 - focal * seen[..., 1] / seen[..., 2]
    return np.stack([right, down], axis=-1)


def camera(setup: int, number: int, *, seed: int) -> Camera:
    """The camera of a setup (1..) and number (1..3): its height and distance differ between setups, as in NTU."""
    rng = keyed_rng(seed, "synthetic camera", setup, number)
    angle = ANGLES[number] + rng.uniform(-0.03, 0.03)
    distance = DISTANCES[number] + rng.uniform(-0.12, 0.12)
    position = np.array([distance * np.sin(angle), rng.uniform(1.15, 1.55), distance * np.cos(angle)])
    forward = np.array([0.0, 0.88, 0.0]) - position
    forward /= np.linalg.norm(forward)
    left = np.cross([0.0, 1.0, 0.0], forward)
    left /= np.linalg.norm(left)
    return Camera(axes=np.stack([left, np.cross(forward, left), forward]), position=position)

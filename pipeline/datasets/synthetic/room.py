"""The empty room as each camera sees it: walls, wainscot, skirting and carpet, textured with low contrast.

In: the numbers of a setup and a camera, and the seed. Out: a picture (3, H, W) float32, 0..255, a pure function of
them. Contrast is low on purpose: strong clutter behind the figures drowns the features of a random network.
People and things, which differ from clip to clip, are painted elsewhere.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from pipeline.datasets.synthetic.body import Array
from pipeline.datasets.synthetic.camera import FOCAL, HEIGHT, WIDTH, Camera, camera
from pipeline.datasets.synthetic.paint import Canvas
from pipeline.records import keyed_rng

SUPERSAMPLING = 2
BACK, SIDE = -2.3, 3.1  # metres: the back wall stands at z = BACK, the side walls at x = -SIDE and SIDE
WAINSCOT, SKIRTING = 0.95, 0.09  # heights in metres

WALLS = ((210, 206, 198), (204, 206, 206), (206, 208, 200), (212, 204, 198))
CARPETS = ((94, 98, 98), (102, 98, 92), (96, 96, 102), (92, 100, 92))


@lru_cache(maxsize=16)
def empty_room(setup: int, number: int, *, seed: int) -> Canvas:
    """The room seen by a setup's camera (3, H, W); cached and read-only."""
    rng = keyed_rng(seed, "synthetic room", setup, number)
    view = camera(setup, number, seed=seed)
    points, wall = _surfaces(view)
    wall_colour = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.94, 1.02)
    carpet_colour = np.array(CARPETS[rng.integers(len(CARPETS))]) * rng.uniform(0.94, 1.06)
    shape = points.shape[:2]
    grain = _cloud(rng, shape, (6, 10)) + 0.6 * _cloud(rng, shape, (24, 40)) + 0.5 * _cloud(rng, shape, (90, 160))
    fibre = _cloud(rng, shape, (180, 320)) + 0.6 * _cloud(rng, shape, (40, 70))
    light = 0.80 + 0.30 * np.exp(-(points[..., 0] ** 2 + (points[..., 2] - 0.3) ** 2) / 4.5)  # on the floor's middle
    picture = np.where(
        wall[..., None],
        _wall(points, wall_colour, rng) * (1 + 0.020 * grain[..., None]),
        carpet_colour * (1 + 0.035 * fibre[..., None]) * light[..., None],
    )
    small = picture.reshape(HEIGHT, SUPERSAMPLING, WIDTH, SUPERSAMPLING, 3).mean(axis=(1, 3))
    room = np.ascontiguousarray(np.moveaxis(small, -1, 0), dtype=np.float32)
    room.flags.writeable = False
    return room


def _surfaces(view: Camera) -> tuple[Array, np.ndarray]:
    """Where each ray of the finer grid ends: points (h, w, 3) in metres, and whether that is on a wall (h, w)."""
    x = ((np.arange(WIDTH * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - WIDTH / 2) / FOCAL
    y = -((np.arange(HEIGHT * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - HEIGHT / 2) / FOCAL
    left, up, ahead = view.axes
    rays = x[None, :, None] * left + y[:, None, None] * up + ahead
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(rays[..., 1] < 0, -view.position[1] / rays[..., 1], np.inf)
        back = np.where(rays[..., 2] < 0, (BACK - view.position[2]) / rays[..., 2], np.inf)
        side = (np.sign(rays[..., 0]) * SIDE - view.position[0]) / rays[..., 0]
    wall = np.minimum(back, np.where(side > 0, side, np.inf))
    reach = np.minimum(wall, floor)
    return view.position + rays * reach[..., None], wall < floor


def _wall(points: Array, colour: Array, rng: np.random.Generator) -> Array:
    """Colours (h, w, 3) of the walls: painted above, panelled below, a skirting board, brighter towards the top."""
    height = points[..., 1]
    panel = np.array([0.80, 0.83, 0.88]) * rng.uniform(0.94, 1.04)
    along = np.where(points[..., 2] > BACK + 1e-6, points[..., 2], points[..., 0])
    groove = (np.abs((along / 0.55) % 1.0 - 0.5) > 0.485) & (height < WAINSCOT - 0.05)
    tint = np.where((height < WAINSCOT)[..., None], panel, 1.0)
    tint = np.where((np.abs(height - WAINSCOT) < 0.02)[..., None], 0.90, tint)
    tint = np.where((height < SKIRTING)[..., None], 0.55, tint)
    side = np.where(points[..., 2] > BACK + 1e-6, 0.90, 1.0)  # the side walls get less light
    light = side * (0.78 + 0.125 * np.minimum(height, 2.4)) * (1 - 0.05 * groove)
    return colour * tint * light[..., None]


def _cloud(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of unit deviation (h, w), interpolated from `cells` (down, across)."""
    coarse = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))

"""A scene as its camera records it: the frames of the video.

In: a Scene and the seed. Out: uint8 frames (H, W, 3) RGB, one after the other. The room and the chair are painted
once; in each frame come shadows, people and props from far to near, then the sensor's grain. It encodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.synthetic_camera import HEIGHT, WIDTH
from pipeline.datasets.synthetic_figure import Pencil, draw_chair, draw_person, draw_props
from pipeline.datasets.synthetic_paint import Shape, paint, window
from pipeline.datasets.synthetic_room import empty_room
from pipeline.datasets.synthetic_scene import Scene
from pipeline.records import keyed_rng

GRAIN = 1.0  # standard deviation of the sensor's noise, of 255
SPREAD = 5  # the noise's largest value; pictures keep this far from 0 and 255, so that bytes can be added
SHIFT = 64  # the noise is one picture, laid on with another shift of up to so many pixels in each frame


def frames(scene: Scene, *, seed: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of a scene, uint8 (360, 640, 3) RGB: a pure function of the scene and the seed."""
    record = scene.record
    background = empty_room(record.setup, record.camera, seed=seed) * scene.light.astype(np.float32)
    furniture = Pencil(scene.camera)
    draw_chair(furniture, scene.props)
    paint(background, furniture.shapes)
    rng = keyed_rng(seed, "synthetic grain", record.key)
    grain = _grain(rng)
    still = _to_bytes(background)
    canvas = background.copy()
    for index in range(scene.joints.shape[1]):
        shapes = shapes_of(scene, index)
        bounds = np.array([shape.bounds() for shape in shapes])
        left, top = bounds[:, :2].min(axis=0)
        right, bottom = bounds[:, 2:].max(axis=0)
        touched = window(canvas, (left, top, right, bottom))
        paint(canvas, shapes)
        picture = still.copy()
        picture[touched] = _to_bytes(canvas[touched])
        canvas[touched] = background[touched]
        down, across = rng.integers(0, SHIFT + 1, 2)
        picture += grain[down : down + HEIGHT, across : across + WIDTH]
        yield picture


def shapes_of(scene: Scene, index: int) -> list[Shape]:
    """All that moves in frame `index` of a scene, in no order."""
    pencil = Pencil(scene.camera)
    for member, joints in zip(scene.people, scene.joints[:, index], strict=True):
        draw_person(pencil, member, joints)
    draw_props(pencil, scene.props, index)
    return pencil.shapes


def _grain(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise (H + SHIFT, W + SHIFT, 3), the same in all colours, raised by SPREAD so that bytes can hold it."""
    noise = np.rint(rng.normal(0.0, GRAIN, (HEIGHT + SHIFT, WIDTH + SHIFT))).clip(-SPREAD, SPREAD) + SPREAD
    return np.repeat(noise.astype(np.uint8)[..., None], 3, axis=-1)


def _to_bytes(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rounded to bytes, less SPREAD: the grain gives that back."""
    rounded: NDArray[np.uint8] = (np.rint(picture).clip(2 * SPREAD, 255 - 2 * SPREAD) - SPREAD).astype(np.uint8)
    return rounded

"""A scene as its camera records it: the frames of the video.

In: a Scene and the seed. Out: frames in 4:2:0 as video codecs take them, (H * 3/2, W) uint8. The room and its things
are painted once; then, in each frame, shadows and people from far to near, and the sensor's noise. Painting in luma
and chroma, which blend like red, green and blue, saves a conversion of each frame.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.synthetic.camera import HEIGHT, WIDTH
from pipeline.datasets.synthetic.figure import Pencil, draw_person
from pipeline.datasets.synthetic.paint import Canvas, PaintLayer
from pipeline.datasets.synthetic.room import empty_room
from pipeline.datasets.synthetic.scene import Scene
from pipeline.datasets.synthetic.things import draw_fields, draw_stand, draw_things
from pipeline.records import keyed_rng

# Red, green, blue (0..255) to luma and chroma by ITU-R BT.601, limited range, the offsets (16, 128, 128) left out.
LUMA_CHROMA = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
GRAIN = 0.9  # standard deviation of the sensor's noise in luma, of 219
MAX_GRAIN = 4  # the largest absolute value of the noise
SHIFT = 64  # the noise is one picture, added in each frame with another shift of at most this many pixels


def frames(scene: Scene, *, seed: int) -> Iterator[NDArray[np.uint8]]:
    """The frames of a scene, "yuv420p": uint8 (540, 640), the planes 360 x 640, 180 x 320, 180 x 320 in one array."""
    layers = layers_of(scene)
    colours = [LUMA_CHROMA @ np.array(layer.colour) for layer in layers]
    order = np.argsort(-np.stack([layer.depth for layer in layers]), axis=0, kind="stable")  # far to near
    background = _background(scene, seed=seed)
    canvas, empty = background.copy(), np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    _write_picture(canvas, empty, slice(0, HEIGHT), slice(0, WIDTH))
    rng = keyed_rng(seed, "synthetic grain", scene.record.key)
    noise = rng.standard_normal((HEIGHT + SHIFT, WIDTH + SHIFT), dtype=np.float32) * np.float32(GRAIN)
    grain = (noise + np.float32(MAX_GRAIN + 0.5)).clip(0, 2 * MAX_GRAIN).astype(np.uint8)  # raised, to fit in bytes
    for frame in range(scene.joints.shape[1]):
        for index in order[:, frame].tolist():
            layers[index].blend(canvas, frame, colours[index])
        painted = _painted_window(layers, frame)
        picture = empty.copy()
        _write_picture(canvas, picture, *painted)
        canvas[:, *painted] = background[:, *painted]
        down, across = rng.integers(0, SHIFT + 1, 2)
        picture[:HEIGHT] += grain[down : down + HEIGHT, across : across + WIDTH]
        yield picture


def layers_of(scene: Scene) -> list[PaintLayer]:
    """The layers of all that moves in a scene, in no order."""
    pencil = Pencil(scene.camera)
    for member, joints in zip(scene.people, scene.joints, strict=True):
        draw_person(pencil, member, joints)
    draw_fields(pencil, scene.screen)
    return pencil.layers


def _background(scene: Scene, *, seed: int) -> Canvas:
    """The room in this clip's light with its things: luma and chroma (3, H, W)."""
    room = empty_room(scene.record.setup, scene.record.camera, seed=seed)
    matrix = (LUMA_CHROMA * scene.light).astype(np.float32)
    background = (matrix @ room.reshape(3, -1)).reshape(room.shape)
    pencil = Pencil(scene.camera)
    draw_stand(pencil, scene.screen)
    draw_things(pencil, scene.props)
    for layer in sorted(pencil.layers, key=lambda layer: -layer.depth[0]):
        layer.blend(background, 0, LUMA_CHROMA @ np.array(layer.colour))
    return background


def _painted_window(layers: list[PaintLayer], frame: int) -> list[slice]:
    """Rows and columns of the canvas that hold all layers in a frame, widened to even numbers for the chroma."""
    windows = [layer.window(frame) for layer in layers]
    axes = [[window[axis] for window in windows] for axis in (0, 1)]
    return [slice(min(e.start for e in axis) // 2 * 2, -(-max(e.stop for e in axis) // 2) * 2) for axis in axes]


def _write_picture(canvas: Canvas, picture: NDArray[np.uint8], rows: slice, columns: slice) -> None:
    """Write a part of the canvas (3, H, W), of even bounds, to a 4:2:0 picture, luma less MAX_GRAIN (grain adds it)."""
    luma = canvas[0, rows, columns] + np.float32(16.5 - MAX_GRAIN)
    picture[rows, columns] = luma.clip(16, 235 - MAX_GRAIN)  # the half above rounds what the cast cuts off
    chroma = picture[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    part = canvas[1:, rows, columns]
    mean = part[:, 0::2, 0::2] + part[:, 1::2, 0::2] + part[:, 0::2, 1::2] + part[:, 1::2, 1::2]
    half_rows, half_columns = (slice(extent.start // 2, extent.stop // 2) for extent in (rows, columns))
    chroma[:, half_rows, half_columns] = (mean * np.float32(0.25) + np.float32(128.5)).clip(16, 240)

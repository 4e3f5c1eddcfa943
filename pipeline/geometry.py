"""The map from a video's pixels to the small kept picture, the same for frames and joints.

In: the chosen joints of a whole video (M, T, V, 2) and the picture's size. Out: a Geometry: a box of source pixels and
the size it is scaled to. The decoder crops and scales by it, `Geometry.joints` maps the joints. Pixel centres are
integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.config import GEOMETRIES, one_of

KEPT_PIXELS = 128  # side of the kept picture, larger than the 112 px crop so that views can shift it
PRESET = (128, 171)  # torchvision's MC3-18 preset squashes to this before its 112 px centre crop
PADDING = 1.25  # the person's square, over the joints' own extent: hands, head and feet reach beyond their joints
MIN_SIDE = 32  # source pixels; else a single joint would be enlarged to the whole picture


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A box of source pixels, half-open (x0, y0, x1, y1), scaled to `size` (h, w).

    The box may reach outside the picture; the decoder fills those pixels with black.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]

    def joints(self, joints: np.ndarray) -> np.ndarray:
        """Source pixels (..., 2) to kept pixels (..., 2), float32; x first; NaN stays NaN.

        A source pixel x covers [x - 1/2, x + 1/2]; area scaling maps x to (x + 1/2 - x0) w / (x1 - x0) - 1/2.
        """
        x0, y0, x1, y1 = self.box
        height, width = self.size
        scale = np.array([width / (x1 - x0), height / (y1 - y0)])
        kept = (np.asarray(joints, np.float64) + 0.5 - np.array([x0, y0])) * scale - 0.5
        return kept.astype(np.float32)


def geometry_of(name: str, joints: np.ndarray, height: int, width: int) -> Geometry:
    """The geometry of a video.

    Args:
        name: "person": the square around all joints over the whole video, padded 1.25x, kept at 128 x 128;
            "center": the whole picture squashed to 128 x 171, of which view 0 crops the middle 112 (torchvision's
            preset); "full": the whole picture, letterboxed into 128 x 128.
        joints: (M, T, V, 2), pixels of the source video, NaN where absent; used by "person" alone.
        height, width: of the picture as displayed.

    Raises:
        ConfigError: no such geometry.
    """
    one_of("geometry", name, GEOMETRIES)
    if name == "center":
        return Geometry(box=(0, 0, width, height), size=PRESET)
    if name == "full":
        return Geometry(
            box=_square(width / 2, height / 2, max(height, width), height, width), size=(KEPT_PIXELS, KEPT_PIXELS)
        )
    return Geometry(box=_person_box(joints, height, width), size=(KEPT_PIXELS, KEPT_PIXELS))


def _person_box(joints: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    points = joints.reshape(-1, 2).astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    # a sensor's projection may lie far outside the picture (falls); invisible joints do not widen the box
    inside = points[((points > -0.5) & (points < np.array([width, height]) - 0.5)).all(axis=1)]
    if len(inside) == 0:  # no joint in the picture: keep the whole picture
        return _square(width / 2, height / 2, max(height, width), height, width)
    low, high = inside.min(axis=0) - 0.5, inside.max(axis=0) + 0.5
    centre = (low + high) / 2 + 0.5  # from pixel centres to edges
    side = min(max(PADDING * float((high - low).max()), MIN_SIDE), max(height, width))
    return _square(float(centre[0]), float(centre[1]), side, height, width)


def _square(x: float, y: float, side: float, height: int, width: int) -> tuple[int, int, int, int]:
    """A square of even side on even pixels (the chroma grid of 4:2:0), shifted into the picture where it fits."""
    even = 2 * int(np.ceil(side / 2))
    x0, y0 = _start(x, even, width), _start(y, even, height)
    return x0, y0, x0 + even, y0 + even


def _start(centre: float, side: int, extent: int) -> int:
    """The even pixel at which `side` pixels around `centre` start, on an axis of `extent` pixels."""
    extent += extent % 2  # an odd picture gets a black row rather than lose one
    start = centre - side / 2
    # too large for the picture: centred on it, black on both sides
    start = min(max(start, 0.0), float(extent - side)) if side <= extent else (extent - side) / 2
    return 2 * int(np.floor(start / 2))

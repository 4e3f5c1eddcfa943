"""Units of places in a pose file -> pixels of the video, by one rule for all formats.

In: places as the file holds them, and the sizes of the video and, if stated, of the picture that the file is about.
Out: places in pixels, and the name of the unit found. Places may be pixels of the video, pixels of a picture of another
size, shares of the picture (0 to 1), or [-1, 1] (OpenPose's keypoint_scale 4). Where two of these fit, it refuses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.pose_file import Size

SMALLEST = 8.0  # pixels, the diagonal of the smallest body: what is smaller is none
_REACH = 2.0  # 9 of 10 coordinates within this are no pixels: nobody is two pixels large
_ODD = 0.02  # the share of joints that may lie anywhere
_EDGE = 0.02  # shares of the picture that a joint at its edge may lie outside
_ROUNDING = 2.0  # pixels by which the sides of a scaled picture are rounded, to even numbers
_REMEDY = "write the places in pixels"


def in_pixels(
    path: str | Path, values: NDArray[np.float32], *, stated: Size | None, size: Size | None
) -> tuple[NDArray[np.float32], str]:
    """Values with x and y in pixels of the video, and the unit found.

    Args:
        values: (B, V, 3) x, y, score; joints of score 0 or without a place are no evidence.
        stated: (height, width) of the picture that the file's pixels are of, by the file or its format.
        size: (height, width) of the video; None where there is none, and then pixels stay as they are.

    Returns:
        values (the same array where nothing changes) and "pixels", "shares", "[-1, 1]" or "pixels of WIDTH x HEIGHT".
        Pixel centres are integers, so that x of a picture W pixels wide is (x + 0.5) w / W - 0.5 of one of w pixels.

    Raises SkeletonError: the unit cannot be told, the picture is of another aspect than the video, or places are shares
    and there is no `size`.
    """
    used = (values[..., 2] > 0) & np.isfinite(values[..., :2]).all(axis=-1)
    if not used.any():
        return values, "pixels"
    unit = _relative_unit(path, values[used][:, :2])
    if size is None and unit:
        raise SkeletonError(path, f"holds places as {_NAMES[unit]}", remedy="give the picture's size with it")
    if size is None or (not unit and stated in (None, size)):
        return values, "pixels"
    if stated is not None:
        _require_aspect(path, stated, size)
    extent = np.array([size[1], size[0]], dtype=np.float64)  # (2,) x, y
    places = values[..., :2].astype(np.float64)
    if unit == "shares":
        places *= extent
    elif unit:
        places = (places + 1) / 2 * extent
    else:
        assert stated is not None
        places = (places + 0.5) * (extent / [stated[1], stated[0]]) - 0.5
        unit = f"pixels of {stated[1]} x {stated[0]}"
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([places.astype(np.float32), values[..., 2:]], axis=-1), unit


_NAMES = {"shares": "shares of the picture", "[-1, 1]": "numbers from -1 to 1"}


def _relative_unit(path: str | Path, places: NDArray[np.float32]) -> str:
    """ "shares", "[-1, 1]", or "" for pixels. Args: (n, 2) places of used joints.

    Shares of people who leave the picture at its left or top look like [-1, 1], and the other way round. It is [-1, 1]
    only where, as shares, most joints would lie outside, and they reach beyond 0.5 on either side, as shares counted
    from the middle do not. It is shares where hardly a joint is below 0: hardly a video keeps everybody in the quarter
    of its picture at the lower right.
    """
    if float(np.quantile(np.abs(places), 0.9)) > _REACH:
        return ""
    far = float((np.abs(places) > _REACH).any(axis=1).mean())
    if far > _ODD:
        got = f"{1 - far:.0%} of the joints within {_REACH:g} of 0, the others beyond"
        raise SkeletonError(path, "mixes pixels with shares of the picture", got=got, remedy=_REMEDY)
    before = float((places < -_EDGE).any(axis=1).mean())
    if before <= _ODD / 2:
        return "shares"
    within = float((np.abs(places) <= 1 + _EDGE).all(axis=1).mean())
    beyond = float((np.abs(places) > 0.5 + _EDGE).any(axis=1).mean())
    if before > 0.5 and within >= 0.9 and beyond > 5 * _ODD:
        return "[-1, 1]"
    got = f"{before:.0%} of the joints below 0"
    raise SkeletonError(path, "holds shares of the picture or numbers from -1 to 1", got=got, remedy=_REMEDY)


def _require_aspect(path: str | Path, stated: Size, size: Size) -> None:
    """SkeletonError unless the one picture is the other scaled, its sides rounded to whole or even numbers."""
    (height, width), (h, w) = stated, size
    if min(stated) < 1 or min(abs(width * h / height - w), abs(height * w / width - h)) > _ROUNDING:
        got, expected = f"places in a picture of {width} x {height}", f"the video's {w} x {h}, or that scaled"
        remedy = "use the poses of this video, or the video that the poses were made from"
        raise SkeletonError(
            path, "is of a picture of another shape than the video", got=got, expected=expected, remedy=remedy
        )

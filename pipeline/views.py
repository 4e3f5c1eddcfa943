"""Views: the draw of a clip, and one crop and flip for its frames and joints together.

In: frames (..., T, H, W, C) as kept by the prepared clips, joints (..., T, V, 2) in their pixels, visible (..., T, V).
Out: the same of the crop. View 0 is draw 0, centred, unflipped; of view k, draw k mod R, crop and flip come from the
seed, the clip's key and k alone. A view neither resizes pictures nor changes colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.errors import ConfigError
from pipeline.records import keyed_rng

CROP = 112


class View(NamedTuple):
    """Draw number, upper left pixel of the crop, and whether the crop is mirrored."""

    draw: int
    top: int
    left: int
    flip: bool


def view_of(record_key: str, k: int, *, seed: int, draws: int, kept: tuple[int, int], crop: int = CROP) -> View:
    """View `k` of a clip.

    Args:
        record_key: `VideoRecord.key` (never `clip_id`: a view must not depend on the label).
        seed: of all views. draws: R, the number of draws that the prepared clip holds.
        kept: (H, W) of the kept frames. crop: side of the square crop.

    Raises:
        ConfigError: the frames are smaller than the crop.
    """
    spare = (kept[0] - crop, kept[1] - crop)
    if min(spare) < 0:
        raise ConfigError("crop", "is larger than the kept frames", got=crop, expected=f"at most {min(kept)}")
    if k == 0:
        # Python's round, as torchvision's center_crop: 128 x 171 gives top 8, left 30.
        return View(0, round(spare[0] / 2), round(spare[1] / 2), False)
    rng = keyed_rng(seed, record_key, "view", k)
    top, left = (int(rng.integers(pixels + 1)) for pixels in spare)
    return View(k % draws, top, left, bool(rng.random() < 0.5))


def crop_frames(frames: np.ndarray, view: View, *, crop: int = CROP) -> np.ndarray:
    """Frames (..., H, W, C) to (..., crop, crop, C): a new, contiguous array."""
    part = frames[..., view.top : view.top + crop, view.left : view.left + crop, :]
    return np.ascontiguousarray(part[..., ::-1, :] if view.flip else part)


def crop_joints(joints: np.ndarray, view: View, pairs: Sequence[tuple[int, int]], *, crop: int = CROP) -> np.ndarray:
    """Joints (..., V, 2), in pixels of the kept frames, to pixels of the crop; they may lie outside it.

    A mirrored left hand is a right hand: under a flip the `pairs` (left, right) of the topology are swapped.
    """
    moved = joints - np.array((view.left, view.top), dtype=joints.dtype)
    if view.flip:
        moved[..., 0] = crop - 1 - moved[..., 0]
        moved = moved[..., mirrored_order(joints.shape[-2], pairs), :]
    return moved


def mirror_xyz(xyz: np.ndarray, view: View, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Places (..., V, 3) in the camera's frame, x along the picture's rows, to those of the view's scene.

    A crop does not move the camera; under a flip x changes its sign, and the `pairs` are swapped as in `crop_joints`.
    """
    if not view.flip:
        return xyz.copy()
    return xyz[..., mirrored_order(xyz.shape[-2], pairs), :] * np.array((-1, 1, 1), dtype=xyz.dtype)


def crop_visible(visible: np.ndarray, view: View, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Values for each joint (..., V), in the order of `crop_joints`."""
    return visible[..., mirrored_order(visible.shape[-1], pairs)] if view.flip else visible.copy()


def mirrored_order(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(V,) int64: joint `i` of the mirrored picture is joint `order[i]` of the original."""
    order = np.arange(count)
    for left, right in pairs:
        order[left], order[right] = right, left
    return order

"""Joint heatmaps on the grid of a feature map.

In: joints (..., M, T, V, 2) as (x, y) in cells of the grid, and which of them are visible (..., M, T, V).
Out: heatmaps (..., T, V, h, w), float32: exp(-d^2 / 2 sigma^2) around each joint, d and sigma in cells, the highest
value where persons overlap; an absent joint gives a map of zeros. numpy in, numpy out; torch in, torch out, on the
same device. Gaussians are neither truncated nor normalised; `pipeline.tokens` may divide by their sum.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ConfigError, DataError

Array = TypeVar("Array", np.ndarray, Tensor)


def to_cells(joints: Array, stride: int) -> Array:
    """Joints from pixels to cells of a grid whose cell `i` covers the pixels `stride * i` to `stride * i + stride - 1`.

    Centres of pixels and of cells are integers, so the left edge of the picture is -0.5 in both: pixel x lies at
    (x + 0.5) / stride - 0.5. Any shape; returns a new array.
    """
    return (joints + 0.5) / stride - 0.5


def joint_heatmaps(joints: Array, visible: Array, *, size: tuple[int, int], sigma: float) -> Array:
    """Gaussian heatmaps (..., T, V, h, w) float32, in [0, 1], of all joints: the maximum over persons.

    Args:
        joints: (..., M, T, V, 2), (x, y) in cells; may lie outside the grid; M may be 0. NaN or infinite: absent.
        visible: (..., M, T, V) bool; False: absent, whatever the coordinates are.
        size: (h, w) of the grid.
        sigma: standard deviation in cells, > 0.

    Raises:
        ConfigError: sigma is not positive.
        DataError: the shapes do not match.
    """
    if isinstance(joints, np.ndarray):
        maps = joint_heatmaps(torch.from_numpy(joints), torch.from_numpy(np.asarray(visible)), size=size, sigma=sigma)
        return maps.numpy()
    if not sigma > 0:
        raise ConfigError("sigma", "must be a positive number of cells", got=sigma)
    if joints.ndim < 4 or joints.shape[-1] != 2 or joints.shape[:-1] != visible.shape:
        got = f"joints {tuple(joints.shape)}, visible {tuple(visible.shape)}"
        raise DataError(
            "heatmaps", "have shapes that do not match", got=got, expected="(..., M, T, V, 2) and (..., M, T, V)"
        )
    height, width = size
    *leading, persons, frames, count, _ = joints.shape
    if persons == 0:
        return torch.zeros(*leading, frames, count, height, width, device=joints.device)

    drawn = visible.bool() & joints.isfinite().all(-1)
    centre = torch.where(drawn[..., None], joints, 0).float()
    # a Gaussian is the product of its two profiles: h + w exponentials for each joint instead of h * w
    column = _profile(centre[..., 0], width, sigma)
    row = _profile(centre[..., 1], height, sigma) * drawn[..., None]
    return (row[..., :, None] * column[..., None, :]).amax(-5)  # (..., M, T, V, h, w) -> (..., T, V, h, w)


def _profile(centre: Tensor, length: int, sigma: float) -> Tensor:
    """exp(-d^2 / 2 sigma^2) at the cells 0 to `length` - 1: (...) -> (..., length)."""
    distance = torch.arange(length, device=centre.device, dtype=torch.float32) - centre[..., None]
    return torch.exp(distance.square() * (-0.5 / sigma**2))

"""GG and JM tokens from feature maps: the two poolings of the paper.

In: feature maps (B, D, T, h, w) of `pipeline.backbone`, joint heatmaps (B, T, V, h, w) of `pipeline.heatmaps`.
Out: GG tokens (B, T, P, D), one for each cell of the grid; JM tokens (B, T, V, D'), one for each joint. Class tokens
and projections are the model's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import DataError


def global_grid_tokens(features: Tensor) -> Tensor:
    """GG tokens (B, T, P, D) of a feature map (B, D, T, h, w): P = h * w cells, row by row (Ahn et al., WACV 2023)."""
    return features.permute(0, 2, 3, 4, 1).flatten(2, 3)


def joint_map_tokens(features: Tensor, heatmaps: Tensor, *, normalize: bool = False) -> Tensor:
    """JM tokens (B, T, V, D') float32: j_n = concatenation over channels c of the sum over (x, y) of
    F_c(x, y) * h_n(x, y), zero where the heatmap is zero.

    Args:
        features: F, (B, D', T, h, w). heatmaps: h, (B, T, V, h, w), of the same grid.
        normalize: divide each token by its heatmap's sum, so that it is a mean over cells: a joint at the border, with
            half of its heatmap outside, then weighs as much as one in the middle.

    Raises:
        DataError: the grids, frames or batches differ.
    """
    batch, _, frames, *grid = features.shape
    if heatmaps.ndim != 5 or heatmaps.shape[:2] != (batch, frames) or list(heatmaps.shape[3:]) != grid:
        got = f"features {tuple(features.shape)}, heatmaps {tuple(heatmaps.shape)}"
        raise DataError(
            "JM tokens", "have shapes that do not match", got=got, expected="(B, D, T, h, w) and (B, T, V, h, w)"
        )
    weights = heatmaps.flatten(3).float()  # (B, T, V, h * w)
    tokens = weights @ global_grid_tokens(features).float()
    if normalize:
        total = weights.sum(-1, keepdim=True)
        tokens = torch.where(total > 0, tokens / total, 0)
    return tokens

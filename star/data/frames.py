"""Fewer token frames than a store holds: every n-th one, or the mean of each n.

In: tokens (B, T, ...) and the mask of present joints, as read from a store. Out: the same with ceil(T / n) frames.
The mean keeps what happens between the kept frames; of a joint it is taken over the frames where it is present.
"""

from __future__ import annotations

import numpy as np


def thinned(values: np.ndarray, step: int, *, mean: bool) -> np.ndarray:
    """Float values (B, T, ...) with every `step`-th frame, or (B, T', ...) float32 means; the last may be of fewer."""
    if not mean or step == 1:
        return values[:, ::step]
    return _sums(values, step) / _counts(values.shape[1], step)[:, None, None]


def thinned_joints(jm: np.ndarray, mask: np.ndarray, step: int, *, mean: bool) -> tuple[np.ndarray, np.ndarray]:
    """JM tokens (B, T, V, D') and their mask (B, T, V), thinned alike.

    With `mean` a joint is present where it is in one of the frames; it is zero where it is in none.
    """
    if not mean or step == 1:
        return jm[:, ::step], mask[:, ::step]
    present = _sums(mask, step)
    tokens = _sums(jm * mask[..., None], step) / np.maximum(present, 1)[..., None]
    return tokens, present > 0


def frames_of(total: int, step: int) -> int:
    """T': the frames that are left of T."""
    return -(-total // step)


def _sums(values: np.ndarray, step: int) -> np.ndarray:
    return np.add.reduceat(values.astype(np.float32), np.arange(0, values.shape[1], step), axis=1)


def _counts(total: int, step: int) -> np.ndarray:
    return np.diff(np.append(np.arange(0, total, step), total)).astype(np.float32)

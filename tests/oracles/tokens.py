"""Slow loop versions of heatmaps and tokens: one number at a time, in Python floats, straight from the definitions."""

from __future__ import annotations

import math

import numpy as np


def heatmaps(joints: np.ndarray, visible: np.ndarray, size: tuple[int, int], sigma: float) -> np.ndarray:
    """joints (M, T, V, 2) in cells, visible (M, T, V) -> (T, V, h, w)."""
    persons, frames, count, _ = joints.shape
    maps = np.zeros((frames, count, *size))
    for m in range(persons):
        for t in range(frames):
            for v in range(count):
                x, y = (float(value) for value in joints[m, t, v])
                if not visible[m, t, v] or not math.isfinite(x) or not math.isfinite(y):
                    continue
                for row in range(size[0]):
                    for column in range(size[1]):
                        squared = (column - x) ** 2 + (row - y) ** 2
                        value = math.exp(-squared / (2 * sigma**2))
                        maps[t, v, row, column] = max(maps[t, v, row, column], value)
    return maps


def global_grid(features: np.ndarray) -> np.ndarray:
    """(B, D, T, h, w) -> (B, T, h * w, D)."""
    batch, width, frames, height, columns = features.shape
    tokens = np.zeros((batch, frames, height * columns, width))
    for b in range(batch):
        for t in range(frames):
            for y in range(height):
                for x in range(columns):
                    for d in range(width):
                        tokens[b, t, y * columns + x, d] = features[b, d, t, y, x]
    return tokens


def joint_map(features: np.ndarray, maps: np.ndarray, *, normalize: bool = False) -> np.ndarray:
    """(B, D', T, h, w) and (B, T, V, h, w) -> (B, T, V, D')."""
    batch, width, frames, height, columns = features.shape
    count = maps.shape[2]
    tokens = np.zeros((batch, frames, count, width))
    for b in range(batch):
        for t in range(frames):
            for v in range(count):
                total = 0.0
                for y in range(height):
                    for x in range(columns):
                        weight = float(maps[b, t, v, y, x])
                        total += weight
                        for d in range(width):
                            tokens[b, t, v, d] += float(features[b, d, t, y, x]) * weight
                if normalize and total > 0:
                    tokens[b, t, v] /= total
    return tokens

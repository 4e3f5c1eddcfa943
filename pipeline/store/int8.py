"""Tokens as int8 with one float16 scale each: half the bytes of float16.

In: tokens (..., D) float16. Out: (..., D) int8 and scales (...) float16, and tokens back. A value comes back within
0.57 of its token's scale (half a step, and float16's own rounding); the scale is the token's largest magnitude / 127,
and zero comes back as zero.
"""

from __future__ import annotations

import numpy as np

MAX_STEPS = 127
MAX_SCALE = np.float16(515.5)  # the largest whose product with 127 is finite in float16


def quantize(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., D) float16, finite, to int8 of the same shape and scales (...) float16."""
    values = tokens.astype(np.float32)
    exact = np.abs(values).max(axis=-1) / MAX_STEPS
    scale = exact.astype(np.float16)
    # rounded up, else the largest value of a token would need more than 127 steps
    scale = np.minimum(np.where(scale < exact, np.nextafter(scale, np.float16(np.inf)), scale), MAX_SCALE)
    steps = np.divide(values, scale.astype(np.float32)[..., None], out=np.zeros_like(values), where=values != 0)
    return np.clip(np.rint(steps), -MAX_STEPS, MAX_STEPS).astype(np.int8), scale


def dequantize(steps: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    """The inverse: (..., D) int8 and (...) float16 into (..., D) float16."""
    # through float32: numpy's own float16 product is slower
    out[...] = steps * scale.astype(np.float32)[..., None]


def stored(name: str, tokens: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """The arrays of a store that hold the tokens `name` (float16): one, or steps and scales for "int8"."""
    if dtype == "float16":
        return {name: tokens}
    steps, scale = quantize(tokens)
    return {name: steps, f"{name}_scale": scale}

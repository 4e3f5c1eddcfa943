"""Tokens as int8: the largest error, and the limits of float16."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.store.int8 import dequantize, quantize, stored

HALF = st.floats(-65504, 65504, width=16)


def back(tokens: np.ndarray) -> np.ndarray:
    steps, scale = quantize(tokens)
    assert (steps.dtype, scale.dtype) == (np.int8, np.float16)
    assert steps.shape == tokens.shape
    assert scale.shape == tokens.shape[:-1]
    out = np.empty(tokens.shape, np.float16)
    dequantize(steps, scale, out)
    return out


@given(tokens=arrays(np.float16, (3, 7), elements=HALF))
@settings(max_examples=300, deadline=None)
def test_every_value_comes_back_within_a_good_half_of_its_scale(tokens: np.ndarray) -> None:
    again = back(tokens)
    assert np.isfinite(again).all()
    largest = np.abs(tokens.astype(np.float64)).max(axis=-1, keepdims=True)
    step = np.maximum(largest / 127, 6e-8)  # float16's smallest number is 6e-8
    assert (np.abs(again.astype(np.float64) - tokens) <= 0.57 * step + 6e-8).all()
    assert (again[tokens == 0] == 0).all()


def test_the_ends_of_float16() -> None:
    tokens = np.asarray([[65504, -65504, 1], [0, 0, 0], [6e-8, 0, -6e-8]], np.float16)
    again = back(tokens)
    assert np.abs(again[0].astype(np.float64) - [65504, -65504, 0]).max() < 40
    assert (again[1] == 0).all()
    assert np.array_equal(again[2], tokens[2])


def test_a_token_of_one_magnitude_is_exact_enough_to_keep_its_sign_and_size() -> None:
    tokens = np.asarray([[3.5, -3.5, 3.5]], np.float16)
    assert np.allclose(back(tokens), tokens, rtol=1e-3)


def test_stored_names_what_the_store_holds() -> None:
    tokens = np.ones((2, 3), np.float16)
    assert stored("gg", tokens, "float16")["gg"] is tokens
    assert set(stored("jm", tokens, "int8")) == {"jm", "jm_scale"}

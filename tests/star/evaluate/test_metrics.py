"""Metrics against loops and numbers from textbooks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from star.evaluate.metrics import confusion, holm, mcnemar, mean_class_accuracy, per_class, top_k, wilson_interval


@settings(max_examples=40, deadline=None)
@given(
    scores=arrays(np.float64, (9, 4), elements=st.integers(0, 3)),
    labels=arrays(np.int64, 9, elements=st.integers(0, 3)),
)
def test_counts_equal_loops(scores: np.ndarray, labels: np.ndarray) -> None:
    order = [sorted(range(4), key=lambda c, row=row: (-row[c], c)) for row in scores]
    for k in (1, 2, 5):
        assert top_k(scores, labels, k) == pytest.approx(
            sum(label in best[:k] for best, label in zip(order, labels, strict=True)) / 9
        )
    counts = confusion(scores, labels)
    for true in range(4):
        for seen in range(4):
            pairs = zip(order, labels, strict=True)
            assert counts[true, seen] == sum(best[0] == seen and label == true for best, label in pairs)
    shares = [counts[c, c] / counts[c].sum() if counts[c].sum() else math.nan for c in range(4)]
    assert np.array_equal(per_class(scores, labels), shares, equal_nan=True)
    assert mean_class_accuracy(scores, labels) == pytest.approx(np.nanmean(shares))


def test_the_interval_is_wilsons() -> None:
    for right, clips in [(0, 10), (10, 10), (81, 263), (15, 148), (1, 2)]:
        low, high = wilson_interval(right, clips)
        expected = binomtest(right, clips).proportion_ci(method="wilson")
        assert (low, high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))


@settings(max_examples=30, deadline=None)
@given(only_a=st.integers(0, 60), only_b=st.integers(0, 60), both=st.integers(0, 5))
def test_mcnemar_is_the_exact_sign_test(only_a: int, only_b: int, both: int) -> None:
    a = np.asarray([True] * only_a + [False] * only_b + [True] * both, bool)
    b = np.asarray([False] * only_a + [True] * only_b + [True] * both, bool)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many_clips_does_not_underflow() -> None:
    a = np.arange(4000) < 1900
    assert mcnemar(a, ~a) == pytest.approx(binomtest(1900, 4000).pvalue, rel=1e-6)


def test_holms_correction_is_the_textbooks() -> None:
    # the example of "Holm-Bonferroni method" in Wikipedia; R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_holm_rejects_step_by_step(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for i in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[i] * (len(p_values) - len(rejected)) > level:
            break
        rejected.add(i)
    assert {i for i, p_value in enumerate(holm(p_values)) if p_value <= level} == rejected

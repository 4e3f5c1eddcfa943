"""Metrics against loops and numbers from textbooks; score files and their fusion."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest

from pipeline.errors import ArtifactError, ConfigError, CorruptError
from star.evaluate.metrics import confusion, mcnemar, mean_class_accuracy, per_class, top_k, wilson_interval
from star.evaluate.scores import Scores, fuse, load_scores, save_scores


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


def scores(probabilities: list[list[float]], ids: str = "abc", classes: str = "xy") -> Scores:
    return Scores(
        clip_ids=np.asarray(list(ids)), labels=np.asarray([0, 1, 1]), probabilities=np.asarray(probabilities),
        class_names=tuple(classes), split="test", protocol="xsub", **UNKNOWN,
    )  # fmt: skip


def test_scores_survive_their_file(tmp_path: Path) -> None:
    ours = scores([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    save_scores(ours, tmp_path / "s.npz")
    again = load_scores(tmp_path / "s.npz")
    assert again.summary() == ours.summary()
    assert again.top1 == pytest.approx(2 / 3)
    assert np.array_equal(again.probabilities, ours.probabilities)
    assert again.clip_ids.tolist() == ["a", "b", "c"]
    assert again.class_names == ("x", "y")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(CorruptError, match="not a score file"):
        load_scores(tmp_path / "bad.npz")
    with pytest.raises(ArtifactError, match="does not exist"):
        load_scores(tmp_path / "none.npz")


def test_fusion_is_the_weighted_mean_of_the_same_clips() -> None:
    a, b = scores([[1, 0], [1, 0], [0, 1]]), scores([[0, 1], [0, 1], [0, 1]])
    assert fuse([a, b], [3, 1]).probabilities.tolist() == [[0.75, 0.25], [0.75, 0.25], [0, 1]]
    assert fuse([a, b]).probabilities[0].tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match="different clips"):
        fuse([a, scores([[0, 1]] * 3, ids="abd")])
    with pytest.raises(ConfigError, match="different classes"):
        fuse([a, scores([[0, 1]] * 3, classes="xz")])
    with pytest.raises(ConfigError, match="a weight"):
        fuse([a, b], [1])
    with pytest.raises(ConfigError, match="at least one"):
        fuse([])

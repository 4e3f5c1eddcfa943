"""Linear controls against scikit-learn on the plain matrix and the closed form; strengths chosen on held-out clips."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from star.controls.inputs import Input
from star.controls.linear import METHODS, Trial, logistic, projected, ridge, validated

CLASSES = 4


def matrix(seed: int, clips: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) float32 with a mean, and labels (n,) of which each class has some."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % CLASSES
    rows = rng.normal(size=(clips, columns)) + 5 + rng.normal(size=(CLASSES, columns))[labels]
    return rows.astype(np.float32), labels


def plain(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred and scaled in float64."""
    centre = rows.astype(np.float64).mean(axis=0)
    scale = np.sqrt(np.square(rows - centre).sum(axis=1).mean())
    return (rows - centre) / scale, (others - centre) / scale


@pytest.mark.parametrize(("clips", "columns"), [(24, 200), (60, 7), (24, 24)])
def test_inner_products_are_those_of_the_plain_rows(clips: int, columns: int) -> None:
    rows, _ = matrix(0, clips, columns)
    others, _ = matrix(1, 9, columns)
    found, project = projected(rows)
    assert found.shape[1] <= min(clips, columns)
    left, right = plain(rows, others)
    np.testing.assert_allclose(found @ found.T, left @ left.T, atol=2e-5)
    np.testing.assert_allclose(project(others) @ found.T, right @ left.T, atol=2e-5)
    assert np.square(found).sum(axis=1).mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("strength", [0.001, 0.1, 10])
@pytest.mark.parametrize(("clips", "columns"), [(24, 200), (60, 7)])
def test_ridge_is_scikits_on_the_whole_matrix_and_the_closed_form(clips: int, columns: int, strength: float) -> None:
    rows, labels = matrix(2, clips, columns)
    others, _ = matrix(3, 9, columns)
    found, project = projected(rows)
    got = ridge(found, labels, project(others), strength=strength, classes=CLASSES)
    left, right = plain(rows, others)
    model = RidgeClassifier(alpha=strength, fit_intercept=False).fit(left, labels)
    np.testing.assert_allclose(got, softmax(model.decision_function(right), axis=1), atol=1e-4)
    wanted = np.where(labels[:, None] == np.arange(CLASSES), 1.0, -1.0)
    weights = np.linalg.solve(left.T @ left + strength * np.eye(columns), left.T @ wanted)
    np.testing.assert_allclose(got, softmax(right @ weights, axis=1), atol=1e-4)


@pytest.mark.parametrize("strength", [0.01, 1])
def test_logistic_regression_is_scikits_on_the_whole_matrix(strength: float) -> None:
    rows, labels = matrix(4, 24, 200)
    others, _ = matrix(5, 9, 200)
    found, project = projected(rows)
    got = logistic(found, labels, project(others), strength=strength, classes=CLASSES)
    left, right = plain(rows, others)
    model = LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-8).fit(left, labels)
    np.testing.assert_allclose(got, model.predict_proba(right), atol=2e-3)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("known", [[0, 2, 3], [1, 3], [2]])
def test_a_class_without_clips_has_probability_0(method: str, known: list[int]) -> None:
    rows, labels = matrix(6, 24, 50)
    labels = np.asarray(known)[labels % len(known)]
    side = learnt_from(rows, labels)
    trial = Trial(side, seen(rows))
    found = trial.probabilities(method, 0.01, trial.of(side))
    assert found.shape == (24, CLASSES)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (found[:, np.setdiff1d(range(CLASSES), known)] == 0).all()
    assert (found.argmax(axis=1) == labels).mean() > 0.6


class FakeSide(SimpleNamespace):
    """Rows of a matrix in place of a `Side`."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: np.ndarray) -> FakeSide:
        return FakeSide(rows=self.rows[indices], labels=self.labels[indices], classes=CLASSES)

    def spread(self, most: int) -> FakeSide:
        return self

    def parts(self) -> list[FakeSide]:
        return [self.take(np.arange(0, 5)), self.take(np.arange(5, len(self)))]


def learnt_from(rows: np.ndarray, labels: np.ndarray) -> Any:
    return FakeSide(rows=np.arange(len(rows)), labels=labels, classes=CLASSES)


def seen(rows: np.ndarray) -> Input:
    return Input("a matrix", rows.shape[1], lambda _: lambda side: rows[side.rows])


def test_the_strength_is_the_best_on_held_out_clips_and_the_strongest_of_equals() -> None:
    rows, labels = matrix(7, 80, 30)
    side = learnt_from(rows, labels)
    halves = [(np.arange(40), np.arange(40, 80)), (np.arange(40, 80), np.arange(40))]
    found = validated(seen(rows), list(METHODS), side, side, halves)
    assert list(found) == list(METHODS)
    for method, (strength, held) in found.items():
        fit, strengths = METHODS[method]
        assert list(strengths) == sorted(strengths, reverse=True)
        right = {}
        for one in strengths:
            probabilities = np.zeros((80, CLASSES))
            for learn, left in halves:
                projection, project = projected(rows[learn])
                probabilities[left] = fit(projection, labels[learn], project(rows[left]), strength=one, classes=CLASSES)
            right[one] = (probabilities.argmax(axis=1) == labels).mean()
            if one == strength:
                np.testing.assert_allclose(held, probabilities, atol=1e-4)
        assert right[strength] == max(right.values())
        assert all(right[one] < right[strength] for one in strengths if one > strength)


def test_nothing_warns(tmp_path: Path) -> None:
    rows, labels = matrix(8, 40, 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        side = learnt_from(rows, labels)
        validated(seen(rows), list(METHODS), side, side, [(np.arange(30), np.arange(30, 40))])

"""Ridge and logistic regression, with the strength of their penalty chosen on held-out clips.

In: an `Input`, the clips to learn from, others. Out: class probabilities (n, A) of the others. Both are scikit-learn's.
Where there are fewer clips than columns, both see the clips in the coordinates of their own span: an L2 penalty is
blind to rotations and to directions without data, so the models are the same, and one decomposition serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from star.controls.inputs import Input, Rows
from star.controls.sides import Fold, Side

MOST_STEPS, TOLERANCE = 1000, 1e-5  # of L-BFGS
Project = Callable[[np.ndarray], np.ndarray]  # (n, d) to (n, r)


def ridge(rows: np.ndarray, labels: np.ndarray, others: np.ndarray, *, strength: float, classes: int) -> np.ndarray:
    """(n', A): softmax of the decision values, which are 1 for the class and -1 for others where they fit exactly."""
    model = RidgeClassifier(alpha=strength, fit_intercept=False).fit(rows, labels)
    values = model.decision_function(others)
    pair = np.column_stack([-values, values]) if values.ndim == 1 else values
    return _of_all_classes(softmax(pair.astype(np.float64), axis=1), model.classes_, classes)


def logistic(rows: np.ndarray, labels: np.ndarray, others: np.ndarray, *, strength: float, classes: int) -> np.ndarray:
    """(n', A): the probabilities of multinomial regression; `strength` is 1 / C."""
    model = LogisticRegression(C=1 / strength, max_iter=MOST_STEPS, tol=TOLERANCE).fit(rows, labels)
    return _of_all_classes(model.predict_proba(others), model.classes_, classes)


# By name: how it is fitted, and the strengths that are tried, the strongest first, for rows whose mean squared length
# is 1. They reach from too strong to too weak on the drawn set and on UTD-MHAD.
METHODS: Mapping[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "ridge": (ridge, (10, 3, 1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)),
    "logistic regression": (logistic, (1, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6)),
}


def _of_all_classes(found: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Probability 0 for the classes that no clip to learn from has."""
    whole = np.zeros((len(found), classes))
    whole[:, known] = found
    return whole


def projected(rows: np.ndarray) -> tuple[np.ndarray, Project]:
    """Rows (n, d) centred, scaled to a mean squared length of 1 and, if n <= d, in coordinates of their span (n, r);
    and the same for other rows.

    Inner products between results are those between the centred and scaled rows.
    """
    centre = rows.mean(axis=0)
    rows = rows - centre
    scale = np.float32(np.linalg.norm(rows) / np.sqrt(len(rows)) or 1)
    rows /= scale
    if len(rows) > rows.shape[1]:
        return rows, lambda others: (others - centre) / scale
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    kept = values > len(rows) * np.finfo(np.float32).eps * values[-1]
    if not kept.any():  # all rows are the same
        return np.zeros((len(rows), 1), np.float32), lambda others: np.zeros((len(others), 1), np.float32)
    roots = np.sqrt(values[kept])
    back = (vectors[:, kept] / roots).astype(np.float32)
    return (vectors[:, kept] * roots).astype(np.float32), lambda others: ((others - centre) / scale) @ rows.T @ back


class Trial:
    """An input of the clips to learn from, projected, ready to be fitted."""

    def __init__(self, learnt: Side, seen: Input) -> None:
        self.learnt = learnt.spread(seen.most_clips)
        self._rows: Rows = seen.begin(self.learnt)
        self._projected, self._project = projected(self._rows(self.learnt))

    def of(self, side: Side) -> np.ndarray:
        """(n, r) of other clips, read in parts: they may be many more than those that are learnt from."""
        return np.concatenate([self._project(self._rows(part)) for part in side.parts()])

    def probabilities(self, method: str, strength: float, others: np.ndarray) -> np.ndarray:
        """(n, A) of rows of `of`."""
        labels, classes = self.learnt.labels, self.learnt.classes
        if len(np.unique(labels)) == 1:  # nothing to fit
            return _of_all_classes(np.ones((len(others), 1)), labels[:1], classes)
        fit, _ = METHODS[method]
        return fit(self._projected, labels, others, strength=strength, classes=classes)


def validated(
    seen: Input, methods: Sequence[str], train: Side, held: Side, folds: Sequence[Fold]
) -> dict[str, tuple[float, np.ndarray]]:
    """For each method the best strength by accuracy on `held`, the strongest of equals, and its probabilities (n, A).

    Each fold names the training clips to learn from and the clips of `held` that are scored with them.
    """
    tried = {
        (method, strength): np.zeros((len(held), held.classes)) for method in methods for strength in METHODS[method][1]
    }
    for learn, left in folds:
        trial = Trial(train.take(learn), seen)
        others = trial.of(held.take(left))
        for (method, strength), found in tried.items():
            found[left] = trial.probabilities(method, strength, others)
    best = {}
    for method in methods:
        right = {s: float((tried[method, s].argmax(axis=1) == held.labels).mean()) for s in METHODS[method][1]}
        strength = max(right, key=lambda s: right[s])  # the first of equals
        best[method] = strength, tried[method, strength]
    return best

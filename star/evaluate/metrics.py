"""Numbers from scores: top-k, mean class accuracy, confusion, an interval, a paired test, Holm's correction.

In: probabilities (N, A) or any scores that rank alike, labels (N,). Out: numbers and small arrays. No models, no files.
Takes clips for independent; `star.evaluate.clusters` does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def top_k(scores: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Share of clips whose label is among the k best classes; ties go to the lower class number.

    With fewer than k classes every clip is correct.
    """
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def predictions(scores: np.ndarray) -> np.ndarray:
    """(N,) the best class of each clip; ties go to the lower number."""
    return scores.argmax(axis=1)


def confusion(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(A, A) int64 counts: row the true class, column the predicted one."""
    classes = scores.shape[1]
    flat = labels * classes + predictions(scores)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def per_class(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(A,) accuracy of each class; NaN for a class without clips."""
    counts = confusion(scores, labels)
    clips = counts.sum(axis=1)
    return np.divide(np.diag(counts), clips, out=np.full(len(clips), np.nan), where=clips > 0)


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean of `per_class` over the classes that have clips."""
    return float(np.nanmean(per_class(scores, labels)))


def wilson_interval(right: float, clips: float, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share (95 % by default): valid near 0 and 1 and for few clips.

    `right` may be a mean over seeds, and `clips` an effective number: neither need be an integer.
    """
    share = right / clips
    middle = share + z * z / (2 * clips)
    spread = z * math.sqrt(share * (1 - share) / clips + z * z / (4 * clips * clips))
    scale = 1 + z * z / clips
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Two-sided exact McNemar p-value for two classifiers on the same clips.

    Args:
        right_a, right_b: bool (N,), true where the classifier is correct.

    Only clips on which exactly one is correct count: under equality each goes either way with probability 1/2.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    trials, fewer = only_a + only_b, min(only_a, only_b)
    if trials == 0:
        return 1.0
    # in logarithms: 0.5 ** trials underflows from about a thousand discordant clips on
    logs = [
        math.lgamma(trials + 1) - math.lgamma(i + 1) - math.lgamma(trials - i + 1) - trials * math.log(2)
        for i in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(value) for value in logs))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down method (1979): the chance that any of them is this small
    by luck alone is at most the corrected value."""
    corrected, largest = [1.0] * len(p_values), 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        corrected[i] = largest
    return corrected

"""Scores of a model on a split, as a value and as a file.

In: probabilities (N, A), labels and ids of clips. Out: `Scores`, metrics computed from them, .npz files, and the fusion
of several models. Runs no model.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.archives import UNREADABLE, is_sealed, opened_archive, sealed_archive
from pipeline.artifacts.files import write_atomic
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from pipeline.records import UNKNOWN
from star.evaluate.clusters import Clusters, cluster_interval, clusters_of
from star.evaluate.metrics import confusion, mean_class_accuracy, per_class, predictions, top_k, wilson_interval

ARRAYS = {  # of a score file: kind of type, number of axes
    "clip_ids": ("U", 1), "labels": ("i", 1), "probabilities": ("f", 2), "class_names": ("U", 1), "split": ("U", 0),
    "protocol": ("U", 0), "subjects": ("i", 1), "performances": ("i", 1), "trained_on": ("U", 1),
}  # fmt: skip
FORMAT = "star-scores/1"
SCORE_FILE = "an .npz from `star evaluate --scores`"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Class probabilities of each clip of a split.

    Attributes:
        clip_ids: (N,) str. labels: (N,) int64. probabilities: (N, A) float64, the mean over the views.
        class_names: by label. split, protocol: of the clips.
        subjects, performances: (N,) int64 of each clip, -1 where unknown (`star.evaluate.clusters.groups_of`).
        trained_on: (n,) str, ids of the clips that the model was trained on; None: unknown.
    """

    clip_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    split: str
    protocol: str
    subjects: np.ndarray
    performances: np.ndarray
    trained_on: np.ndarray | None = None

    @property
    def one_subject(self) -> bool:
        """Whether all clips are of one known subject: what they show may not hold for others."""
        return self.subjects[0] != UNKNOWN and bool((self.subjects == self.subjects[0]).all())

    @property
    def top1(self) -> float:
        return top_k(self.probabilities, self.labels, 1)

    @property
    def top5(self) -> float:
        return top_k(self.probabilities, self.labels, 5)

    @property
    def right(self) -> np.ndarray:
        """(N,) bool, true where the best class is the label."""
        return predictions(self.probabilities) == self.labels

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of top1 (Wilson) over the clips; it does not include the spread over seeds."""
        return wilson_interval(int(self.right.sum()), len(self.labels))

    @property
    def clusters(self) -> Clusters:
        """Which clips belong together."""
        return clusters_of(self.subjects, self.performances)

    @property
    def cluster_interval(self) -> tuple[float, float]:
        """The 95 % interval of top1 over the clusters."""
        return cluster_interval(self.right, self.clusters)

    @property
    def seen_in_training(self) -> int | None:
        """The number of these clips that the model was trained on; None: unknown."""
        return None if self.trained_on is None else int(np.isin(self.clip_ids, self.trained_on).sum())

    @property
    def mean_class_accuracy(self) -> float:
        return mean_class_accuracy(self.probabilities, self.labels)

    @property
    def per_class(self) -> np.ndarray:
        return per_class(self.probabilities, self.labels)

    @property
    def confusion(self) -> np.ndarray:
        return confusion(self.probabilities, self.labels)

    def worst_first(self) -> Iterator[tuple[str, int, float, str, int]]:
        """Of each class that has clips: name, clips, accuracy, most frequent wrong prediction, its clips (0: none)."""
        counts, shares = self.confusion, self.per_class
        for label in sorted(np.flatnonzero(~np.isnan(shares)).tolist(), key=lambda label: (shares[label], label)):
            wrong = counts[label].copy()
            wrong[label] = 0
            taken_for = self.class_names[int(wrong.argmax())]
            yield self.class_names[label], counts[label].sum(), shares[label], taken_for, wrong.max()

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        clusters = self.clusters
        return {
            "split": self.split,
            "protocol": self.protocol,
            "clips": len(self.labels),
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "interval95": list(self.interval),
            "over": clusters.over,
            "clusters": clusters.count,
            "cluster_interval95": list(cluster_interval(self.right, clusters)),
        }


def save_scores(scores: Scores, path: Path | str) -> None:
    """An .npz with the `ARRAYS` (`trained_on` empty where it is unknown), whole or absent, its checksum at its end."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=FORMAT,
        clip_ids=np.asarray(scores.clip_ids, dtype=np.str_),
        labels=scores.labels,
        probabilities=scores.probabilities,
        class_names=np.asarray(scores.class_names, dtype=np.str_),
        split=scores.split,
        protocol=scores.protocol,
        subjects=scores.subjects,
        performances=scores.performances,
        trained_on=np.asarray([] if scores.trained_on is None else scores.trained_on, dtype=np.str_),
    )
    write_atomic(Path(path), sealed_archive(buffer.getvalue()))


def load_scores(path: Path | str) -> Scores:
    """The scores in a file of `save_scores`.

    Raises:
        ArtifactError: no such file, or one of another version. CorruptError: it is damaged, or no score file.
    """
    try:
        with opened_archive(Path(path)) as file, np.load(file, allow_pickle=False) as held:
            found = str(held["format"]) if "format" in held.files else "none"
            arrays = {name: held[name] for name in ARRAYS if name in held.files}
            whole = is_sealed(file)
    except FileNotFoundError:
        raise ArtifactError(path, "does not exist", remedy="write it with `star evaluate --scores`") from None
    except (OSError, *UNREADABLE) as error:
        raise CorruptError(path, "is not a score file", expected=SCORE_FILE) from error
    if "probabilities" in arrays and found != FORMAT:
        problem, remedy = "is a score file of another version of this program", "write it again with this one"
        raise ArtifactError(path, problem, got=f"format {found[:40]}", expected=FORMAT, remedy=remedy)
    for name, (kind, axes) in ARRAYS.items():
        if name not in arrays:
            raise CorruptError(path, "is not a score file", got=f"no {name}", expected=SCORE_FILE)
        if arrays[name].dtype.kind != kind or arrays[name].ndim != axes:
            got = f"{name} of {arrays[name].dtype} {arrays[name].shape}"
            raise CorruptError(path, "is not a score file", got=got, expected=SCORE_FILE)
    if not whole:
        remedy = "restore it from a copy, or write it again with `star evaluate --scores`"
        raise CorruptError(path, "is damaged: it does not match its own checksum", remedy=remedy)
    return _scores_of(arrays, path)


def _scores_of(arrays: dict[str, np.ndarray], path: Path | str) -> Scores:
    """The scores in arrays of the right kinds; CorruptError where they do not fit together."""
    clips, classes = arrays["probabilities"].shape
    labels, subjects, performances = (arrays[name].astype(np.int64) for name in ("labels", "subjects", "performances"))
    fit = len(arrays["clip_ids"]) == len(labels) == len(subjects) == len(performances) == clips > 0
    fit = fit and len(arrays["class_names"]) == classes > 0
    fit = fit and min(subjects.min(), performances.min()) >= UNKNOWN and 0 <= labels.min() <= labels.max() < classes
    if not fit or not np.isfinite(arrays["probabilities"]).all():
        raise CorruptError(path, "holds scores, labels and names that do not fit together", expected=SCORE_FILE)
    return Scores(
        clip_ids=arrays["clip_ids"],
        labels=labels,
        probabilities=arrays["probabilities"].astype(np.float64),
        class_names=tuple(arrays["class_names"].tolist()),
        split=str(arrays["split"]),
        protocol=str(arrays["protocol"]),
        subjects=subjects,
        performances=performances,
        trained_on=arrays["trained_on"] if len(arrays["trained_on"]) else None,
    )


def fuse(several: Sequence[Scores], weights: Sequence[float] | None = None) -> Scores:
    """The weighted mean of several models' probabilities on the same clips.

    Raises:
        ConfigError: no scores, weights that do not fit, or different clips, labels or classes.

    What one of them was trained on, the fused ones were; unknown if it is of one.
    """
    if not several:
        raise ConfigError("fusion", "needs at least one score file")
    first = several[0]
    shares = np.asarray(weights if weights is not None else [1.0] * len(several), np.float64)
    if len(shares) != len(several) or not shares.sum() > 0 or (shares < 0).any():
        raise ConfigError("fusion", "needs a weight, 0 or more, for each score file", got=weights)
    for other in several[1:]:
        require_same_clips(first, other)
    fused = sum(share * scores.probabilities for share, scores in zip(shares / shares.sum(), several, strict=True))
    trained = [scores.trained_on for scores in several if scores.trained_on is not None]
    every = np.unique(np.concatenate(trained)) if len(trained) == len(several) else None
    return replace(first, probabilities=fused, trained_on=every)


def require_same_clips(a: Scores, b: Scores, *, what: str = "score files") -> None:
    """Raise ConfigError, which names the first difference of clips, labels or classes; `what` is its item."""
    if a.class_names != b.class_names:
        raise ConfigError(what, "have different classes", got=f"{len(a.class_names)} and {len(b.class_names)}")
    if not np.array_equal(a.clip_ids, b.clip_ids) or not np.array_equal(a.labels, b.labels):
        only = sorted(set(a.clip_ids.tolist()) ^ set(b.clip_ids.tolist()))
        raise ConfigError(
            what,
            "have different clips",
            got=f"{len(only)} clips in one of them alone" + (f", for instance {only[0]}" if only else ", other labels"),
            remedy="evaluate both on the same store, protocol and split",
        )
    for name in ("subjects", "performances"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise ConfigError(what, f"have other {name} of the same clips", remedy="evaluate both on the same store")

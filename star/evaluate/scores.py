"""Scores of a model on a split, as a value and as a file.

In: probabilities (N, A), labels and ids of clips. Out: `Scores`, metrics computed from them, .npz files, and the fusion
of several models. Runs no model.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.archives import UNREADABLE, opened_archive
from pipeline.artifacts.files import write_atomic
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from star.evaluate.metrics import confusion, mean_class_accuracy, per_class, predictions, top_k, wilson_interval

ARRAYS = {  # of a score file: kind of type, number of axes
    "clip_ids": ("U", 1), "labels": ("i", 1), "probabilities": ("f", 2), "class_names": ("U", 1), "split": ("U", 0),
    "protocol": ("U", 0),
}  # fmt: skip
SCORE_FILE = "an .npz from `star evaluate --scores`"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Class probabilities of each clip of a split.

    Attributes:
        clip_ids: (N,) str. labels: (N,) int64. probabilities: (N, A) float64, the mean over the views.
        class_names: by label. split, protocol: of the clips.
    """

    clip_ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    split: str
    protocol: str

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
        return {
            "split": self.split,
            "protocol": self.protocol,
            "clips": len(self.labels),
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "interval95": list(self.interval),
        }


def save_scores(scores: Scores, path: Path | str) -> None:
    """An .npz with clip_ids, labels, probabilities, class_names, split and protocol, whole or absent."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        clip_ids=np.asarray(scores.clip_ids, dtype=np.str_),
        labels=scores.labels,
        probabilities=scores.probabilities,
        class_names=np.asarray(scores.class_names, dtype=np.str_),
        split=scores.split,
        protocol=scores.protocol,
    )
    write_atomic(Path(path), buffer.getbuffer())


def load_scores(path: Path | str) -> Scores:
    """The scores in a file of `save_scores`.

    Raises:
        ArtifactError: no such file. CorruptError: it is not a score file.
    """
    try:
        with opened_archive(Path(path)) as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in ARRAYS}
    except FileNotFoundError:
        raise ArtifactError(path, "does not exist", remedy="write it with `star evaluate --scores`") from None
    except (OSError, *UNREADABLE) as error:
        raise CorruptError(path, "is not a score file", expected=SCORE_FILE) from error
    for name, (kind, axes) in ARRAYS.items():
        if arrays[name].dtype.kind != kind or arrays[name].ndim != axes:
            got = f"{name} of {arrays[name].dtype} {arrays[name].shape}"
            raise CorruptError(path, "is not a score file", got=got, expected=SCORE_FILE)
    clips, classes = arrays["probabilities"].shape
    labels = arrays["labels"].astype(np.int64)
    fit = len(arrays["clip_ids"]) == len(labels) == clips > 0 and len(arrays["class_names"]) == classes > 0
    if not fit or not 0 <= labels.min() <= labels.max() < classes or not np.isfinite(arrays["probabilities"]).all():
        raise CorruptError(path, "holds scores, labels and names that do not fit together", expected=SCORE_FILE)
    return Scores(
        clip_ids=arrays["clip_ids"],
        labels=labels,
        probabilities=arrays["probabilities"].astype(np.float64),
        class_names=tuple(arrays["class_names"].tolist()),
        split=str(arrays["split"]),
        protocol=str(arrays["protocol"]),
    )


def fuse(several: Sequence[Scores], weights: Sequence[float] | None = None) -> Scores:
    """The weighted mean of several models' probabilities on the same clips.

    Raises:
        ConfigError: no scores, weights that do not fit, or different clips, labels or classes.
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
    return Scores(**{**vars(first), "probabilities": fused})


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

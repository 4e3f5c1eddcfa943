"""The clips that controls learn from and are scored on, and their split into folds.

In: data sets of a run. Out: `Side`s, rows of a store with labels and groups, and (training, held-out) pairs of them.
Reads joints and tokens of a side in parts; trains nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.model_selection import GroupKFold, StratifiedKFold

from pipeline.errors import DataError
from pipeline.records import evenly_spread
from pipeline.store.batches import JOINT_FIELDS
from pipeline.store.token_store import TokenStore
from star.batch import Batch
from star.data.dataset import READ_AT_ONCE, TokenDataset
from star.evaluate.clusters import groups_of
from star.evaluate.scores import Scores

Fold = tuple[np.ndarray, np.ndarray]  # indices of clips to learn from, and of those that are scored
FOLDS = 5  # at most: with fewer training subjects, one for each


@dataclass(frozen=True, eq=False)
class Side:
    """Clips of one side of a protocol, in one view.

    Attributes:
        rows: (n,) of the store. labels: (n,). clip_ids: (n,) str. subjects: (n,), -1 where unknown.
        view: the number of the view. protocol: of the scores.
    """

    store: TokenStore
    rows: np.ndarray
    labels: np.ndarray
    clip_ids: np.ndarray
    subjects: np.ndarray
    view: int
    protocol: str

    @classmethod
    def of(cls, dataset: TokenDataset) -> Side:
        """The clips of a data set, in the first of its views."""
        subjects = np.asarray(dataset.store.array("subject")[:])[dataset.rows]
        view = int(dataset.views[0])
        rows, labels, clip_ids = dataset.rows, dataset.labels, dataset.clip_ids()
        return cls(dataset.store, rows, labels, clip_ids, subjects, view, dataset.protocol)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> int:
        return len(self.store.attrs["class_names"])

    def take(self, indices: np.ndarray) -> Side:
        """Some of the clips."""
        arrays = {name: getattr(self, name)[indices] for name in ("rows", "labels", "clip_ids", "subjects")}
        return replace(self, **arrays)

    def spread(self, most: int) -> Side:
        """At most `most` of the clips, evenly spread."""
        return self if len(self) <= most else self.take(evenly_spread(len(self), most))

    def parts(self) -> Iterator[Side]:
        """All clips in order, a few at a time."""
        for first in range(0, len(self), READ_AT_ONCE):
            yield self.take(np.arange(first, min(first + READ_AT_ONCE, len(self))))

    def batches(self, kinds: Sequence[str] = (), fields: Sequence[str] = ()) -> Iterator[Batch]:
        """All clips in order, a few at a time, with these kinds of tokens and these of the `JOINT_FIELDS`."""
        assert set(fields) <= set(JOINT_FIELDS)
        for part in self.parts():
            found = self.store.read(part.rows, view=self.view, tokens=tuple(kinds))
            joints = self.store.read_joints(part.rows, view=self.view, fields=tuple(fields)) if fields else {}
            yield Batch(
                gg=torch.from_numpy(found.gg),
                jm=torch.from_numpy(found.jm),
                joint_mask=torch.from_numpy(found.joint_mask),
                labels=torch.from_numpy(part.labels),
                clips=torch.from_numpy(part.rows),
                **{name: torch.from_numpy(values) for name, values in joints.items()},
            )

    def scores(self, probabilities: np.ndarray, *, split: str) -> Scores:
        """Scores of these clips from probabilities (n, A)."""
        records = self.store.records()
        return Scores(
            clip_ids=self.clip_ids,
            labels=self.labels,
            probabilities=np.asarray(probabilities, np.float64),
            class_names=tuple(self.store.attrs["class_names"]),
            split=split,
            protocol=self.protocol,
            **groups_of([records[row] for row in self.rows.tolist()]),
        )


def folds(train: Side) -> list[Fold]:
    """Folds of the training clips: together the held-out ones are all of them, once.

    Whole subjects are held out, each alone where there are at most `FOLDS`. Where no two are known, clips are, a share
    of every class. DataError: no class has two clips.
    """
    nothing, subjects = np.zeros(len(train)), np.unique(train.subjects)
    if len(subjects) > 1:  # clips of unknown subjects, if there are others, stay together
        return list(GroupKFold(min(FOLDS, len(subjects))).split(nothing, groups=train.subjects))
    most = int(np.bincount(train.labels).max())
    if most < 2:
        remedy = "hold clips out with a `val` side of the store, or train on more"
        raise DataError(train.store.url, "has no two training clips of a class, so none can be held out", remedy=remedy)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # it is in fewer folds
        return list(StratifiedKFold(min(FOLDS, most)).split(nothing, train.labels))

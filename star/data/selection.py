"""The rows and views of a token store that a data set takes.

In: an open store, its status (N, K), a protocol and a split. Out: arrays of row and view numbers. Reads no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline import manifest
from pipeline.errors import ArtifactError, ConfigError, DataError
from pipeline.records import VideoRecord, keyed_rng
from pipeline.store.batches import DONE
from pipeline.store.token_store import TokenStore
from star.config.options import VIEW_CHOICES
from star.data.folds import folds_of

PENDING = 0


def usable_views(
    store: TokenStore, status: np.ndarray, views: str | int, among: Sequence[int] | None = None
) -> np.ndarray:
    """The views to choose from: all in which no clip is pending, or exactly those of `among`."""
    finished = np.flatnonzero((status != PENDING).all(axis=0))
    if isinstance(views, int):
        if not 0 <= views < status.shape[1]:
            raise ConfigError("views", "no such view", got=views, expected=f"0 to {status.shape[1] - 1}")
        finished = finished[finished == views]
    elif views not in VIEW_CHOICES:
        raise ConfigError("views", "no such choice", got=repr(views), expected="random | all | a view's number")
    elif among is not None:
        absent = np.setdiff1d(among, finished)
        if len(absent):
            raise ArtifactError(
                store.url,
                "lacks views that the run was trained on",
                got=f"finished views {finished.tolist()}",
                expected=f"{list(among)} among them",
                remedy="run the same `star extract-tokens` again, with as many views",
            )
        finished = np.asarray(among, np.int64)
    if not len(finished):
        raise ArtifactError(
            store.url,
            "is not finished",
            got=f"{int((status == PENDING).any(axis=1).sum())} of {len(status)} clips pending",
            remedy="run the same `star extract-tokens` again; it resumes where it stopped",
        )
    return finished


def sides_of(
    store: TokenStore, protocol: str, *, validation: float = 0.0, fold: int = 0
) -> dict[str, list[VideoRecord]]:
    """The records of each side: "train", "test" and, where there is one, "val".

    Clips that the data assign to "val" are the validation side as it is, and none is held out of training; else it is a
    group of the training clips (`star.data.folds`), if `validation` is above 0.

    Raises:
        ConfigError: an unknown protocol, no such fold, or nothing would be left to train on.
    """
    sides = manifest.split(store.records(), store.attrs["dataset"], protocol)
    if "val" in sides:
        if fold:
            problem = f"there is nothing to rotate: {protocol} of this store has validation clips of its own"
            raise ConfigError("data.fold", problem, got=fold, expected=0)
        return sides
    if not validation or not sides["train"]:
        return sides
    groups = folds_of(sides["train"], validation)
    if fold > groups.max():
        raise ConfigError("data.fold", "no such group of training clips", got=fold, expected=f"0 to {groups.max()}")
    held_out = [record for record, group in zip(sides["train"], groups, strict=True) if group == fold]
    train = [record for record, group in zip(sides["train"], groups, strict=True) if group != fold]
    return {**sides, "train": train, "val": held_out}


def number_of_folds(store: TokenStore, protocol: str, validation: float) -> int:
    """How many groups of training clips can be held out in turn.

    Raises:
        ConfigError: none, since the store has its own validation clips or only one training subject.
    """
    sides = manifest.split(store.records(), store.attrs["dataset"], protocol)
    if "val" in sides:
        raise ConfigError(
            "folds",
            f"there is nothing to rotate: {protocol} of {store.url} has validation clips of its own",
            remedy="train without it: a run is scored on these clips",
        )
    return int(folds_of(sides["train"], validation).max()) + 1


def rows_of_split(
    store: TokenStore, status: np.ndarray, protocol: str, split: str, *, validation: float = 0.0, fold: int = 0
) -> tuple[np.ndarray, int]:
    """Rows of the split that are done in every view, and the number of its other clips; sides as in `sides_of`."""
    sides = sides_of(store, protocol, validation=validation, fold=fold)
    if split not in sides:
        remedy = "to have one, train with data.validation above 0" if split == "val" else None
        raise ConfigError("split", "no such split", got=repr(split), expected=" | ".join(sides), remedy=remedy)
    rows = np.asarray(store.rows_of(record.clip_id for record in sides[split]), np.int64)
    done = rows[(status[rows] == DONE).all(axis=1)]
    if not len(done):
        raise DataError(
            store.url,
            f"the {split} split of {protocol} has no clip with tokens",
            got=f"{len(rows)} clips, none of them done" if len(rows) else "no clip at all",
            remedy="look at the store with `star inspect`, or choose another `protocol`",
        )
    return done, len(rows) - len(done)


def share_of_each_class(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Indices into `labels` of the kept clips, rising."""
    kept = []
    for label in np.unique(labels).tolist():
        indices = keyed_rng(seed, "fraction", label).permutation(np.flatnonzero(labels == label))
        kept.append(indices[: max(1, round(fraction * len(indices)))])
    return np.sort(np.concatenate(kept))

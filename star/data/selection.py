"""The rows and views of a token store that a data set takes.

In: an open store, its status (N, K), a protocol and a split. Out: arrays of row and view numbers. Reads no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline import manifest
from pipeline.errors import ArtifactError, ConfigError, DataError
from pipeline.records import keyed_rng
from pipeline.store.batches import DONE
from pipeline.store.token_store import TokenStore
from star.config.options import VIEW_CHOICES

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


def rows_of_split(store: TokenStore, status: np.ndarray, protocol: str, split: str) -> tuple[np.ndarray, int]:
    """Rows of the split that are done in every view, and the number of its other clips."""
    sides = manifest.split(store.records(), store.attrs["dataset"], protocol)
    if split not in sides:
        raise ConfigError("split", "no such split", got=repr(split), expected=" | ".join(sides))
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

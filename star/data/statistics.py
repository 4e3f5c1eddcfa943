"""Mean and spread of each token channel over a training split.

In: a data set. Out: for each kind (mean, spread), (channels,) float64 each, for `standardise` of a model, which saves
them with its weights. Absent joints do not count. Only a training split may be measured.
"""

from __future__ import annotations

from torch import Tensor

from pipeline.errors import DataError
from pipeline.records import evenly_spread
from pipeline.store.statistics import RunningMoments
from star.batch import Batch
from star.data.dataset import READ_AT_ONCE, TokenDataset

Statistics = dict[str, tuple[Tensor, Tensor]]


def channel_statistics(dataset: TokenDataset, *, most: int = 4096) -> Statistics:
    """{"gg": (mean, spread), "jm": (mean, spread)} for the kinds that the data set reads.

    Args:
        dataset: a training split.
        most: at most so many of its items, evenly spread, are read.

    Raises:
        DataError: a token that is not finite; the clip is named.
    """
    assert dataset.split == "train", "statistics come from the training split alone"
    items = evenly_spread(len(dataset), most).tolist()
    moments = {kind: RunningMoments() for kind in dataset.tokens}
    for first in range(0, len(items), READ_AT_ONCE):
        batch = dataset.read(items[first : first + READ_AT_ONCE])
        require_finite(dataset, batch)
        if "gg" in moments:
            moments["gg"].add(batch.gg.flatten(0, 2).double())
        if "jm" in moments:
            moments["jm"].add(batch.jm[batch.joint_mask].double())
    return {kind: found.mean_and_spread() for kind, found in moments.items()}


def require_finite_held(dataset: TokenDataset) -> None:
    """`require_finite` of all tokens; they are in memory."""
    assert dataset.held is not None
    for first in range(0, len(dataset.held), READ_AT_ONCE):
        require_finite(dataset, dataset.held.rows(slice(first, first + READ_AT_ONCE)))


def require_finite(dataset: TokenDataset, batch: Batch) -> None:
    """Raise DataError, naming the clip, where a token is NaN or infinite."""
    for kind, tokens in (("GG", batch.gg), ("JM", batch.jm)):
        bad = ~tokens.isfinite().flatten(1).all(dim=1)
        if bad.any():
            row = int(batch.clips[bad.nonzero()[0, 0]])
            raise DataError(
                f"{dataset.url}: clip {dataset.store.clip_ids[row]}",
                f"has {kind} tokens that are not finite numbers (NaN or infinite)",
                got=f"{int(bad.sum())} such clips in a batch of {len(bad)}",
                remedy="make the store again: `star extract-tokens` into another folder lets no such token in",
            )

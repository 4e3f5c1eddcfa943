"""Mean and spread of each token channel over a training split.

In: a data set. Out: for each kind (mean, spread), (channels,) float64 each, to be set in a model (`standardise`), which
keeps them with its weights. Absent joints do not count. Only a training split may be measured.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import DataError
from star.batch import Batch
from star.data.dataset import READ_AT_ONCE, TokenDataset

Statistics = dict[str, tuple[Tensor, Tensor]]


def channel_statistics(dataset: TokenDataset, *, most: int = 4096) -> Statistics:
    """{"gg": (mean, spread), "jm": (mean, spread)} for the kinds that the data set gives.

    Args:
        dataset: a training split.
        most: at most so many of its items, evenly spread over them, are read.

    Raises:
        DataError: a token that is not finite; the clip is named.
    """
    assert dataset.split == "train", "statistics come from the training split alone"
    items = np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(np.int64))
    sums = {kind: _Sums() for kind in dataset.tokens}
    for first in range(0, len(items), READ_AT_ONCE):
        batch = dataset.read(items[first : first + READ_AT_ONCE].tolist())
        require_finite(dataset, batch)
        if "gg" in sums:
            sums["gg"].add(batch.gg.flatten(0, 2))
        if "jm" in sums:
            sums["jm"].add(batch.jm[batch.joint_mask])
    return {kind: found.result() for kind, found in sums.items()}


def require_finite_held(dataset: TokenDataset) -> None:
    """Raise DataError, naming the clip, where a token held in memory is NaN or infinite; others are not read."""
    if dataset.held is None:
        return
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
                remedy="make the store again: `star extract-tokens` into another --out lets no such token in",
            )


class _Sums:
    """Count, sum and sum of squares in float64: exact enough for float16 values, whatever their order."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, tokens: Tensor) -> None:
        values = tokens.double()  # (n, channels)
        self.count += len(values)
        self.total = self.total + values.sum(dim=0)
        self.squares = self.squares + values.square().sum(dim=0)

    def result(self) -> tuple[Tensor, Tensor]:
        mean = self.total / max(1, self.count)
        return mean, (self.squares / max(1, self.count) - mean.square()).clamp(min=0).sqrt()

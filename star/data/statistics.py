"""Mean and spread of each token channel over a training split, or the means of each place and their covariance.

In: a data set. Out: for each kind two float64 tensors, for `standardise` of a model, which saves them with its weights.
Absent joints do not count. Only a training split may be measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
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
    return channel_moments(_batches(dataset, most), dataset.tokens)


def place_statistics(dataset: TokenDataset, *, most: int = 4096) -> Statistics:
    """{"gg": (means (T, P, D), covariance (D, D)), "jm": (means (T, V, D'), covariance (D', D'))}.

    The means are those of each place, over the clips; the covariance is that of the channels about these means, over
    all places. A place where no joint is ever present has mean 0. Arguments and errors as above.
    """
    return place_moments(_batches(dataset, most), dataset.tokens)


def channel_moments(batches: Iterable[Batch], kinds: Sequence[str]) -> Statistics:
    """`channel_statistics` of training clips that somebody else has read and checked."""
    moments = {kind: RunningMoments() for kind in kinds}
    for batch in batches:
        if "gg" in moments:
            moments["gg"].add(batch.gg.flatten(0, 2).double())
        if "jm" in moments:
            moments["jm"].add(batch.jm[batch.joint_mask].double())
    return {kind: found.mean_and_spread() for kind, found in moments.items()}


def place_moments(batches: Iterable[Batch], kinds: Sequence[str]) -> Statistics:
    """`place_statistics`, likewise."""
    moments: dict[str, _PlaceMoments] = {}
    for batch in batches:
        for kind in kinds:
            tokens = batch.gg if kind == "gg" else batch.jm
            present = batch.joint_mask if kind == "jm" else tokens.new_ones(tokens.shape[:3], dtype=torch.bool)
            moments.setdefault(kind, _PlaceMoments(tokens, present)).add(tokens, present)
    return {kind: found.means_and_covariance() for kind, found in moments.items()}


class _PlaceMoments:
    """Sums over clips (B, T, S, channels), about the mean of the first ones, so that float32 products lose little."""

    def __init__(self, tokens: Tensor, present: Tensor) -> None:
        shape, channels = tokens.shape[1:], tokens.shape[-1]
        self.origin = tokens[present].float().mean(dim=0).nan_to_num()
        self.counts = torch.zeros(*shape[:2], 1, dtype=torch.float64)
        self.totals = torch.zeros(shape, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, tokens: Tensor, present: Tensor) -> None:
        from_origin = (tokens.float() - self.origin) * present[..., None]
        self.counts += present.sum(dim=0)[..., None]
        self.totals += from_origin.sum(dim=0, dtype=torch.float64)
        flat = from_origin.flatten(0, 2)
        self.products += (flat.T @ flat).double()

    def means_and_covariance(self) -> tuple[Tensor, Tensor]:
        means = self.totals / self.counts.clamp(min=1)
        between = torch.einsum("tsc,tsd->cd", self.totals, means)
        covariance = (self.products - between) / self.counts.sum().clamp(min=1)
        return (self.origin.double() + means) * (self.counts > 0), covariance


def _batches(dataset: TokenDataset, most: int) -> Iterator[Batch]:
    """Some of the clips of a training split, evenly spread, checked."""
    assert dataset.split == "train", "statistics come from the training split alone"
    items = evenly_spread(len(dataset), most).tolist()
    for first in range(0, len(items), READ_AT_ONCE):
        batch = dataset.read(items[first : first + READ_AT_ONCE])
        require_finite(dataset, batch)
        yield batch


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

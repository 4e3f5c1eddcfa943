"""What a control sees of a clip, as one row of a matrix.

In: a `Side`. Out: float32 rows (n, d) of it, and how many clips of so many columns fit into the memory. Each channel of
the tokens is standardised as the models do it, by the clips that are learnt from. Fits nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.store.statistics import RunningMoments
from star.batch import Batch
from star.controls.sides import Side
from star.coordinates import CHANNELS, IN_PICTURE, coordinate_features
from star.distributed.machine import free_bytes
from star.model import Standardise

Pictures = Callable[[np.ndarray], np.ndarray]  # rows of the store (n,) to grey pictures (n, h, w) uint8
Rows = Callable[[Side], np.ndarray]  # a side to its rows (n, d) float32
Statistics = dict[str, Standardise]  # by the kind of tokens
SHARE = 4  # of the free memory a control takes one part
COPIES = 3  # of its matrix, at most: in parts, whole, and centred


@dataclass(frozen=True)
class Input:
    """One kind of input.

    Attributes:
        name: what is seen, for people.
        columns: d.
        begin: takes the clips to learn from and gives the function from a side to its rows.
    """

    name: str
    columns: int
    begin: Callable[[Side], Rows]

    @property
    def most_clips(self) -> int:
        """How many rows fit into a quarter of the memory that is free now; at least 2."""
        return max(2, free_bytes(torch.device("cpu")) // (SHARE * COPIES * 4 * self.columns))


def coordinates(side: Side) -> list[Input]:
    """Joints in the picture, and both those and joints in space, with velocities, as far as some clip has them."""
    s = side.store.sizes
    columns = s.persons * s.frames * (s.joints + 1)

    def rows(side: Side) -> np.ndarray:
        return features_of(side).flatten(1).numpy()

    def flat(side: Side) -> np.ndarray:
        return features_of(side)[..., :IN_PICTURE].flatten(1).numpy()

    known = set[str]()
    for batch in side.batches(fields=("joints", "xyz")):
        known |= {name for name in ("joints", "xyz") if getattr(batch, name).isfinite().any()}
    name = "joint coordinates in the picture"
    found = [Input(name, columns * IN_PICTURE, lambda _: flat)] if known else []
    return found + [Input(f"{name} and in space", columns * CHANNELS, lambda _: rows)] * ("xyz" in known)


def features_of(side: Side) -> Tensor:
    """(n, M, T, V + 1, `CHANNELS`): `star.coordinates.coordinate_features` of the clips."""
    found = []
    for batch in side.batches(fields=("joints", "xyz")):
        assert batch.joints is not None
        assert batch.xyz is not None
        found.append(coordinate_features(batch.joints, batch.xyz))
    return torch.cat(found)


def pixels(pictures: Pictures, side: Side) -> Input:
    """Grey pixels of one picture of each clip, in 0..1."""

    def rows(side: Side) -> np.ndarray:
        return pictures(side.rows).reshape(len(side), -1).astype(np.float32) / np.float32(255)

    return Input("one frame's pixels", pictures(side.rows[:1]).size, lambda _: rows)


def tokens(side: Side, kinds: Sequence[str]) -> list[Input]:
    """Tokens of these kinds: one frame, the mean of all, means over time, all."""
    s = side.store.sizes
    width = {"gg": (s.cells, s.gg_channels), "jm": (s.joints, s.jm_channels)}
    channels = sum(width[kind][1] for kind in kinds)
    places = sum(width[kind][0] * width[kind][1] for kind in kinds)
    name = " and ".join(kind.upper() for kind in kinds) + " tokens"
    middle = s.frames // 2
    reduced: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
        f"one frame's {name}": (places, lambda x: x[:, middle]),
        f"the mean of all {name}": (channels, lambda x: x.mean(dim=(1, 2))),
        f"{name} averaged over time": (places, lambda x: x.mean(dim=1)),
        f"all {name}": (s.frames * places, lambda x: x),
    }
    statistics: dict[bytes, Statistics] = {}  # of the clips that are learnt from: the inputs share them

    def begin(learnt: Side, reduce: Callable[[Tensor], Tensor]) -> Rows:
        key = learnt.rows.tobytes()
        if key not in statistics:
            statistics[key] = _statistics(learnt, kinds)
        return _token_rows(statistics[key], kinds, reduce)

    return [Input(label, columns, partial(begin, reduce=reduce)) for label, (columns, reduce) in reduced.items()]


def _token_rows(standard: Statistics, kinds: Sequence[str], reduce: Callable[[Tensor], Tensor]) -> Rows:
    def rows(side: Side) -> np.ndarray:
        return np.concatenate([reduced(side, batch).numpy() for batch in side.batches(kinds)])

    def reduced(side: Side, batch: Batch) -> Tensor:
        _require_finite(side, batch)
        parts = []
        if "gg" in kinds:
            parts.append(standard["gg"](batch.gg))
        if "jm" in kinds:
            parts.append(standard["jm"](batch.jm) * batch.joint_mask[..., None])  # an absent joint is the mean
        return torch.cat([reduce(part).flatten(1) for part in parts], dim=1)

    return rows


def _statistics(learnt: Side, kinds: Sequence[str]) -> Statistics:
    """Of each kind's channels; absent joints do not count. Raises as `_require_finite`."""
    moments = {kind: RunningMoments() for kind in kinds}
    for batch in learnt.batches(kinds):
        _require_finite(learnt, batch)
        for kind, found in moments.items():
            found.add((batch.gg.flatten(0, 2) if kind == "gg" else batch.jm[batch.joint_mask]).double())
    standard = {}
    for kind, found in moments.items():
        mean, spread = found.mean_and_spread()
        standard[kind] = Standardise(len(mean)).requires_grad_(False)
        standard[kind].set(mean, spread)
    return standard


def _require_finite(side: Side, batch: Batch) -> None:
    """Raise DataError, naming the clip, where a token is NaN or infinite."""
    bad = ~torch.cat([batch.gg.isfinite().flatten(1), batch.jm.isfinite().flatten(1)], dim=1).all(dim=1)
    if bad.any():
        name = side.store.clip_ids[int(batch.clips[bad.nonzero()[0, 0]])]
        problem = "has tokens that are not finite numbers (NaN or infinite)"
        remedy = "make the store again: `star extract-tokens` into another folder lets no such token in"
        raise DataError(f"{side.store.url}: clip {name}", problem, remedy=remedy)

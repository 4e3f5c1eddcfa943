"""What a control sees of a clip, as one row of a matrix.

In: a `Side`. Out: float32 rows (n, d) of it, and how many clips of so many columns fit into the memory. Each channel of
the tokens is standardised as the models do it, by the clips that are learnt from. Fits nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import DataError
from star.batch import Batch
from star.config.text import TrainConfig
from star.controls.sides import Side
from star.coordinates import CHANNELS, IN_PICTURE, coordinate_features
from star.data.frames import frames_of, thinned, thinned_joints
from star.data.statistics import channel_moments, place_moments
from star.distributed.machine import free_bytes
from star.inputs import Standardise, Whiten

Pictures = Callable[[np.ndarray], np.ndarray]  # rows of the store (n,) to grey pictures (n, h, w) uint8
Rows = Callable[[Side], np.ndarray]  # a side to its rows (n, d) float32
Reduce = Callable[[Tensor], Tensor]  # tokens (B, T, S, channels) to fewer
Standards = dict[str, Standardise | Whiten]  # by the kind of tokens
COORDINATES, PIXELS = "joint coordinates in the picture", "one frame's pixels"
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


@dataclass(frozen=True)
class Reading:
    """How a model reads tokens: `data.frame_step`, `data.frame_mean`, `model.whiten`; as a text, what differs."""

    step: int = 1
    mean: bool = False
    whiten: bool = False

    @classmethod
    def of(cls, config: TrainConfig) -> Reading:
        step = config.data.frame_step
        return cls(step, config.data.frame_mean and step > 1, config.model.whiten and config.data.standardise)

    def __str__(self) -> str:
        frames = f"means of {self.step} frames" if self.mean else f"1 of {self.step} frames"
        return ", ".join([frames] * (self.step > 1) + ["whitened"] * self.whiten)


AS_STORED = Reading()


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
    found = [Input(COORDINATES, columns * IN_PICTURE, lambda _: flat)] if known else []
    return found + [Input(f"{COORDINATES} and in space", columns * CHANNELS, lambda _: rows)] * ("xyz" in known)


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

    return Input(PIXELS, pictures(side.rows[:1]).size, lambda _: rows)


def tokens(side: Side, kinds: Sequence[str]) -> list[Input]:
    """Tokens of these kinds: one frame, the mean of all, means over time, all."""
    s = side.store.sizes
    width = _widths(side, kinds)
    channels, places = sum(d for _, d in width.values()), sum(n * d for n, d in width.values())
    name, middle, known = name_of(kinds), s.frames // 2, dict[bytes, Standards]()
    reduced: dict[str, tuple[int, Reduce]] = {
        f"one frame's {name}": (places, lambda x: x[:, middle]),
        f"the mean of all {name}": (channels, lambda x: x.mean(dim=(1, 2))),
        f"{name} averaged over time": (places, lambda x: x.mean(dim=1)),
        f"all {name}": (s.frames * places, lambda x: x),
    }
    return [
        Input(label, columns, partial(_begin, kinds=kinds, reading=AS_STORED, known=known, reduce=reduce))
        for label, (columns, reduce) in reduced.items()
    ]


def tokens_as_read(side: Side, kinds: Sequence[str], reading: Reading) -> list[Input]:
    """All tokens of these kinds as a model reads them; none where that is as they are stored."""
    if reading == AS_STORED:
        return []
    frames = frames_of(side.store.sizes.frames, reading.step)
    columns = frames * sum(n * d for n, d in _widths(side, kinds).values())
    begin = partial(_begin, kinds=kinds, reading=reading, known={}, reduce=lambda x: x)
    return [Input(f"{name_of(kinds)} as the model reads them ({reading})", columns, begin)]


def name_of(kinds: Sequence[str]) -> str:
    """For instance "GG and JM tokens"."""
    return " and ".join(kind.upper() for kind in kinds) + " tokens"


def _widths(side: Side, kinds: Sequence[str]) -> dict[str, tuple[int, int]]:
    """{kind: (places of a frame, channels)}."""
    s = side.store.sizes
    width = {"gg": (s.cells, s.gg_channels), "jm": (s.joints, s.jm_channels)}
    return {kind: width[kind] for kind in kinds}


def _begin(
    learnt: Side, *, kinds: Sequence[str], reading: Reading, known: dict[bytes, Standards], reduce: Reduce
) -> Rows:
    """The function from a side to its rows. `known`: by the rows of the clips that are learnt from; inputs share it."""
    key = learnt.rows.tobytes()
    if key not in known:
        known[key] = _standards(learnt, kinds, reading)
    standard = known[key]

    def rows(side: Side) -> np.ndarray:
        return np.concatenate([of(batch).numpy() for batch in _batches(side, kinds, reading)])

    def of(batch: Batch) -> Tensor:
        parts = []
        if "gg" in kinds:
            parts.append(standard["gg"](batch.gg))
        if "jm" in kinds:
            parts.append(standard["jm"](batch.jm) * batch.joint_mask[..., None])  # an absent joint is the mean
        return torch.cat([reduce(part).flatten(1) for part in parts], dim=1)

    return rows


def _standards(learnt: Side, kinds: Sequence[str], reading: Reading) -> Standards:
    """As a model that trains on these clips has them."""
    moments = place_moments if reading.whiten else channel_moments
    frames, found = frames_of(learnt.store.sizes.frames, reading.step), Standards()
    for kind, statistics in moments(_batches(learnt, kinds, reading), kinds).items():
        places, channels = _widths(learnt, kinds)[kind]
        standard = Whiten(frames, places, channels) if reading.whiten else Standardise(channels)
        standard.set(*statistics)
        found[kind] = standard.requires_grad_(False)
    return found


def _batches(side: Side, kinds: Sequence[str], reading: Reading) -> Iterator[Batch]:
    """All clips in order, a few at a time, checked and thinned."""
    for batch in side.batches(kinds):
        _require_finite(side, batch)
        gg = thinned(batch.gg.numpy(), reading.step, mean=reading.mean)
        jm, mask = thinned_joints(batch.jm.numpy(), batch.joint_mask.numpy(), reading.step, mean=reading.mean)
        yield replace(batch, **{k: torch.from_numpy(v) for k, v in {"gg": gg, "jm": jm, "joint_mask": mask}.items()})


def _require_finite(side: Side, batch: Batch) -> None:
    """Raise DataError, naming the clip, where a token is NaN or infinite."""
    bad = ~torch.cat([batch.gg.isfinite().flatten(1), batch.jm.isfinite().flatten(1)], dim=1).all(dim=1)
    if bad.any():
        name = side.store.clip_ids[int(batch.clips[bad.nonzero()[0, 0]])]
        problem = "has tokens that are not finite numbers (NaN or infinite)"
        remedy = "make the store again: `star extract-tokens` into another folder lets no such token in"
        raise DataError(f"{side.store.url}: clip {name}", problem, remedy=remedy)

"""The choice of persons: which of the bodies of a video are the actors.

In: bodies, each with its joints in the frames it is in. Out: at most a few of them, unchanged. Only joints and scores
decide: neither the label, nor the file's name, nor the order of the bodies. It repairs nothing: a person whose body ID
changes half way is two bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.skeletons.skeleton import Skeleton

PERSONS_BY = ("motion", "size", "score")
WIDE_RATIO, WIDE_SHARE = 0.8, 0.7
STILL = 0.005
BRIEF_FRAMES, BRIEF_SHARE = 12, 0.25


@dataclass(frozen=True)
class Body:
    """What the choice knows of a body.

    Attributes:
        number: its body ID.
        frames: the number of frames in which it has a usable joint.
        motion: the root mean square distance of its usable joints from their own mean position over time, divided by
            its size; 0 where it has no size.
        size: the median diagonal of the box around its joints, in pixels, over the frames with two joints or more.
        wide: the share of its frames in which the box is wider than 0.8 of its height.
        score: the mean score of its joints, 0 for those that are not usable.
    """

    number: int
    frames: int
    motion: float
    size: float
    wide: float
    score: float


def choose_persons(skeleton: Skeleton, *, by: str = "motion", most: int = 2) -> Skeleton:
    """At most `most` of the bodies of a skeleton, the first of `ranked` first. ConfigError as there."""
    bodies = [
        body_of(int(number), joints, scores)
        for number, joints, scores in zip(skeleton.body_ids, skeleton.joints, skeleton.scores, strict=True)
    ]
    return skeleton.take(np.array(ranked(bodies, by=by, most=most), dtype=np.int64))


def ranked(bodies: Sequence[Body], *, by: str, most: int) -> list[int]:
    """The indices of at most `most` bodies, the first person first; ties: the smaller body ID first.

    - "motion": who moves most, by motion times number of frames.
    - "size": who is large and there for long, by size times number of frames.
    - "score": who is found most surely and for long, by score times number of frames.

    A *ghost* is no person: a body that is brief, in fewer than 12 frames and in less than a quarter of those of the
    longest-lived body (a flicker of the tracker). For "motion", meant for sensors that take chairs, coats and
    reflections for bodies, a ghost is also one that is wide, its box wider than 0.8 of its height in more than 0.7 of
    its frames, or still, its motion below 0.005 (the stillest person in the real files that the tests read has 0.012;
    nobody stands as still as a chair). Where all are ghosts, only the first of them stays, so that a lying person is
    not lost. A body without a usable joint is never a person.

    Wide and brief follow public preparations of NTU RGB+D (CTR-GCN: 0.8, 0.69754 and 11 frames); unlike them nothing
    is removed from the frames of a body that stays.

    Raises ConfigError: `most` is below 1, or `by` is none of these.
    """
    if most < 1:
        raise ConfigError("max_persons", "is too small", got=most, expected="at least 1")
    if by not in PERSONS_BY:
        raise ConfigError("persons_by", "is not known", got=by, expected=" | ".join(PERSONS_BY))
    longest = max((body.frames for body in bodies), default=0)
    ranks: list[tuple[bool, float, int, int]] = []
    for index, body in enumerate(bodies):
        weight = {"motion": body.motion, "size": body.size, "score": body.score}[by]
        if body.frames:
            ranks.append((_is_ghost(body, longest, by), -weight * body.frames, body.number, index))
    ranks.sort()
    return [index for ghost, _, _, index in ranks if not ghost][:most] or [index for *_, index in ranks[:1]]


def _is_ghost(body: Body, longest: int, by: str) -> bool:
    brief = body.frames < BRIEF_FRAMES and body.frames < BRIEF_SHARE * longest
    return brief or (by == "motion" and (body.wide > WIDE_SHARE or body.motion < STILL))


def body_of(number: int, joints: NDArray[np.float32], scores: NDArray[np.float32]) -> Body:
    """The facts of one body from its joints (n, V, 2) in pixels and scores (n, V), frame by frame."""
    usable = scores > 0
    seen = usable.any(axis=1)
    if not seen.any():
        return Body(number, 0, 0.0, 0.0, 0.0, 0.0)
    usable, places = usable[seen][..., None], joints[seen].astype(np.float64)
    low = np.where(usable, places, np.inf).min(axis=1)
    extent = np.where(usable, places, -np.inf).max(axis=1) - low  # (frames, 2)
    some = usable.sum(axis=(1, 2)) > 1
    size = float(np.median(np.hypot(extent[some, 0], extent[some, 1]))) if some.any() else 0.0
    counts = usable.sum(axis=0)  # (V, 1)
    mean = np.where(usable, places, 0).sum(axis=0) / np.maximum(counts, 1)
    squared = np.where(usable, (places - mean) ** 2, 0).sum()
    motion = float(np.sqrt(squared / counts.sum())) / size if size > 0 else 0.0
    wide = float(np.mean(extent[:, 0] > WIDE_RATIO * extent[:, 1]))
    return Body(number, int(seen.sum()), motion, size, wide, float(scores[seen].mean()))

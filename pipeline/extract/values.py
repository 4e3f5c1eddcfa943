"""The values that a worker of stage 2 passes on: a shard's job, groups of its rows, their pictures and their tokens.

In: a prepared shard's rows. Out: plain values, and the arrays and entries of a ShardJob, filled group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline.cluster.lookahead import Pending
from pipeline.config import ExtractOptions
from pipeline.prepare.hdf5 import ClipContent
from pipeline.prepare.shard import Shard
from pipeline.store.commit_records import clip_digest
from pipeline.store.int8 import stored
from pipeline.store.layout import StoreSizes

# frames (B, T, H, W, 3) uint8, joints (B, M, T, V, 2), visible (B, M, T, V) to pending gg, jm float16 and joint_mask: a
# GPU computes them while the next clips are decoded
Compute = Callable[[np.ndarray, np.ndarray, np.ndarray], Pending[tuple[np.ndarray, np.ndarray, np.ndarray]]]


class ClipView(NamedTuple):
    """One view of a clip: frames (T, H, W, 3) uint8; in their pixels joints (M, T, V, 2), scores (M, T, V); xyz
    (M, T, V, 3) in metres, None where unknown; and frame_index (T,)."""

    frames: np.ndarray
    joints: np.ndarray
    scores: np.ndarray
    xyz: np.ndarray | None
    frame_index: np.ndarray


@dataclass
class ShardJob:
    """A shard of a view that is being made.

    Attributes:
        source: its prepared shard. view, options, sizes: of the store.
        arrays: by name (n, *tail), as stored. entries: each row's entry in the commit record.
        clips: the prepared clips still to be computed, by row.
        remade: it was committed before, with failed clips. unchanged: and none of those can be computed now.
    """

    source: Shard
    view: int
    options: ExtractOptions
    sizes: StoreSizes
    arrays: dict[str, np.ndarray]
    entries: list[dict[str, Any]]
    clips: dict[int, ClipContent] = field(default_factory=dict)
    remade: bool = False
    unchanged: bool = False

    def groups(self) -> Iterator[Group]:
        """The rows to compute, `batch_clips` at a time; at least one group, since the last group ends the job."""
        rows, size = sorted(self.clips), self.options.batch_clips
        parts = [rows[a : a + size] for a in range(0, len(rows), size)] or [[]]
        for number, part in enumerate(parts):
            yield Group(self, part, number + 1 == len(parts))

    def fail(self, row: int, reason: str) -> None:
        """Record that a row has no tokens."""
        self.entries[row] = {"id": self.entries[row]["id"], "outcome": "failed", "reason": reason}

    def absorb(self, group: ComputedGroup) -> None:
        """Copy a group's tokens into the arrays, and hash them."""
        rows = list(group.pictures)
        for name, tokens in (("gg", group.gg), ("jm", group.jm)):
            for key, values in stored(name, tokens, self.sizes.dtype).items():
                self.arrays[key][rows] = values
        self.arrays["joint_mask"][rows] = group.joint_mask
        for row, picture in group.pictures.items():
            self.arrays["joints"][row], self.arrays["frame_index"][row] = picture.joints, picture.frame_index
            self.arrays["joint_scores"][row] = picture.scores
            if picture.xyz is not None:
                self.arrays["xyz"][row] = picture.xyz
            self.arrays["persons"][row] = (picture.scores > 0).any(axis=(1, 2)).sum()
            self.entries[row]["sha256"] = clip_digest(self.sizes, self.arrays, row)


class Group(NamedTuple):
    """Rows of a job that go through the backbone together; the last one of a job ends it."""

    job: ShardJob
    rows: list[int]
    last: bool


class DecodedGroup(NamedTuple):
    """A group's pictures by row, without the rows that failed."""

    group: Group
    pictures: dict[int, ClipView]


class ComputedGroup(NamedTuple):
    """Pictures and tokens of a group's rows: gg (B, T, P, D) and jm (B, T, V, D') float16, joint_mask (B, T, V)."""

    pictures: dict[int, ClipView]
    gg: np.ndarray
    jm: np.ndarray
    joint_mask: np.ndarray

"""The value that every skeleton reader returns: persons over all frames of a video.

Axes: M persons, T frames of the video, V joints. Time is sacred: index t is frame t of the file, and frames without a
body stay, as absence. It reads no file and chooses no persons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints of M persons over T frames.

    Attributes:
        joints: (M, T, V, 2) float32, x and y in pixels of the colour picture, centres at integers; NaN exactly where
            the score is 0.
        xyz: (M, T, V, 3) float32, metres in the camera's frame; NaN where absent, and throughout for 2-D sources.
        present: (M, T) bool, the source holds this person in this frame.
        body_ids: (M,) int64, exact; a person is a body ID and keeps its slot over all frames.
        scores: (M, T, V) float32 in [0, 1], the confidence of each joint; 0 where it must not be used: the person is
            absent, the source says so, or a coordinate is not finite.
    """

    joints: NDArray[np.float32]
    xyz: NDArray[np.float32]
    present: NDArray[np.bool_]
    body_ids: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        m, t, v = self.scores.shape
        assert self.joints.shape == (m, t, v, 2), self.joints.shape
        assert self.xyz.shape == (m, t, v, 3), self.xyz.shape
        assert self.present.shape == (m, t), self.present.shape
        assert self.body_ids.shape == (m,), self.body_ids.shape
        assert self.body_ids.dtype == np.int64, self.body_ids.dtype

    @property
    def num_frames(self) -> int:
        """T."""
        return self.present.shape[1]

    @property
    def num_joints(self) -> int:
        """V."""
        return self.scores.shape[2]

    def take(self, persons: NDArray[np.int64]) -> Skeleton:
        """The persons of these slots, in this order."""
        return Skeleton(
            self.joints[persons], self.xyz[persons], self.present[persons], self.body_ids[persons], self.scores[persons]
        )

    def __repr__(self) -> str:
        m, t, v = self.scores.shape
        return f"Skeleton(M={m}, T={t}, V={v}, body_ids={self.body_ids.tolist()})"


def make_skeleton(
    joints: NDArray[np.float32],
    scores: NDArray[np.float32],
    present: NDArray[np.bool_],
    *,
    xyz: NDArray[np.float32] | None = None,
    body_ids: NDArray[np.int64] | None = None,
) -> Skeleton:
    """A Skeleton from the arrays of a reader, with NaN and 0 where `Skeleton` requires them.

    Scores are clipped to [0, 1]. Without body IDs persons are numbered 0 to M-1. The arguments are not modified.
    """
    usable = np.isfinite(joints).all(axis=-1) & (scores > 0) & present[..., None]
    if xyz is None:
        xyz = np.full((*scores.shape, 3), np.nan, dtype=np.float32)
    placed = np.isfinite(xyz).all(axis=-1) & present[..., None]
    return Skeleton(
        joints=np.where(usable[..., None], joints, np.nan).astype(np.float32, copy=False),
        xyz=np.where(placed[..., None], xyz, np.nan).astype(np.float32, copy=False),
        present=present,
        body_ids=np.arange(len(present), dtype=np.int64) if body_ids is None else body_ids,
        scores=np.where(usable, np.minimum(scores, 1), 0).astype(np.float32, copy=False),
    )

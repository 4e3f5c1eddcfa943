"""Detections with names -> Skeleton: each body into its slot, each detection into its frame.

In: a PoseFile whose persons are known, or its rows of some bodies. Out: a Skeleton, axes (M, T, V, ...), frames without
a body as absence. Only what is asked for becomes an array of persons times frames, and that is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.pose_file import PoseFile
from pipeline.skeletons.skeleton import Skeleton, make_skeleton

MOST_BODIES = 64  # in one Skeleton; those in most frames
_MOST_JOINTS = 20_000_000  # M x T x V, half a gigabyte: an hour of seven persons

Rows = NDArray[np.int64]  # indices of detections


def rows_by_body(bodies: NDArray[np.int64], frames: NDArray[np.int64], *, most: int) -> tuple[list[Rows], int]:
    """The rows of each body by frame, in the order of body IDs, and the number of bodies in all.

    Only the `most` bodies that have the most rows are kept, of equals those with the smaller IDs. A negative ID is
    nobody's. Args: (B,) each.
    """
    order = np.lexsort((frames, bodies))
    order = order[bodies[order] >= 0]
    starts = np.flatnonzero(np.diff(bodies[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    return [order[starts[k] : starts[k] + counts[k]] for k in kept], len(starts)


def skeleton_of_rows(poses: PoseFile, bodies: NDArray[np.int64], rows: Sequence[Rows], num_frames: int) -> Skeleton:
    """The Skeleton of some bodies, slot by slot, over `num_frames` frames; `poses.frames` are frames from 0 now.

    Args: bodies: (B,) the body of each detection. rows: of each body.
    """
    m, v = len(rows), poses.num_joints
    table = np.full((m, num_frames, v, 3), np.nan, dtype=np.float32)
    xyz = None if poses.xyz is None else np.full((m, num_frames, v, 3), np.nan, dtype=np.float32)
    present = np.zeros((m, num_frames), dtype=bool)
    for slot, own in enumerate(rows):
        table[slot, poses.frames[own]], present[slot, poses.frames[own]] = poses.values[own], True
        if xyz is not None and poses.xyz is not None:
            xyz[slot, poses.frames[own]] = poses.xyz[own]
    ids = np.array([bodies[own[0]] for own in rows], dtype=np.int64)
    return make_skeleton(table[..., :2], table[..., 2], present, xyz=xyz, body_ids=ids)


def all_bodies(path: str | Path, poses: PoseFile, bodies: NDArray[np.int64], num_frames: int) -> Skeleton:
    """The Skeleton of all bodies, sorted by ID; of more than `MOST_BODIES` those in most frames.

    Raises SkeletonError: it would not fit into memory.
    """
    rows, _ = rows_by_body(bodies, poses.frames, most=MOST_BODIES)
    if len(rows) * num_frames * poses.num_joints > _MOST_JOINTS:
        got = f"{len(rows)} bodies of {poses.num_joints} joints over {num_frames} frames"
        raise SkeletonError(path, "is too large", got=got, expected=f"{_MOST_JOINTS} joints", remedy="split the video")
    return skeleton_of_rows(poses, bodies, rows, num_frames)

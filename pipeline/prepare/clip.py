"""One row of stage 1, whatever becomes of it: the order of the steps from a record to a clip.

In: a VideoRecord and where its files lie. Out: its clip, or None, and its entry in the commit record: done, excluded
(it is no clip) or failed (it should have been one), with the reason. skeleton -> persons -> frame indices -> geometry
-> frames; frames and joints go through the same indices and the same map. Writes nothing. What a codec cannot tell
is not found here: a region of a video that was overwritten with bytes that still decode ends as done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.config import FRAMES, PrepareOptions
from pipeline.decode.child_process import DecodeProcess
from pipeline.errors import DataError, DecodeError, SkeletonError
from pipeline.geometry import Geometry, geometry_of
from pipeline.prepare.hdf5 import PERSONS, ClipContent, encode_picture
from pipeline.records import VideoRecord, keyed_rng
from pipeline.sampling import sample_indices
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.read import read_skeleton
from pipeline.skeletons.skeleton import Skeleton

Entry = dict[str, Any]  # a row of a commit record: "id", "outcome", then "reason", or "sha256" and the ledger


def attempt(
    record: VideoRecord, roots: Mapping[str, str], topology: str, options: PrepareOptions, decoder: DecodeProcess
) -> tuple[ClipContent | None, Entry]:
    """A row's clip, or None, and its entry.

    Args:
        roots: folders "videos" and "skeletons", below which the record names its files.
        topology: of the data set; a skeleton with another number of joints fails.
    """
    entry: Entry = {"id": record.clip_id}
    if record.excluded:
        return None, {**entry, "outcome": "excluded", "reason": record.excluded}
    video, pose = Path(roots["videos"]) / record.video, Path(roots["skeletons"]) / record.skeleton
    corrupt = {}
    try:
        try:
            clip, ledger = make_clip(video, pose, record.key, topology, options, decoder)
        except DecodeError as error:
            if not options.allow_corrupt:
                raise
            corrupt = {"corrupt": _plainly(error, video, pose)}
            clip, ledger = make_clip(video, pose, record.key, topology, options, decoder, allow_corrupt=True)
    except DataError as error:
        return None, {**entry, "outcome": "failed", "reason": _plainly(error, video, pose)}
    if clip is None:
        return None, {**entry, "outcome": "excluded", **ledger}
    return clip, {**entry, "outcome": "done", "sha256": clip.digest(), **corrupt, **ledger}


def make_clip(
    video: Path,
    pose: Path,
    key: str,
    topology: str,
    options: PrepareOptions,
    decoder: DecodeProcess,
    *,
    allow_corrupt: bool = False,
) -> tuple[ClipContent | None, dict[str, Any]]:
    """A clip and what the ledger keeps of it ("reader", "video_frames"); or None and the "reason" why it is none.

    Args:
        key: of the record; keys the random draws.
        allow_corrupt: keep frames that the decoder marks corrupt.

    Raises:
        DecodeError: the frames cannot be had exactly. SkeletonError: nor the joints.
    """
    info = decoder.probe(video, allow_corrupt=allow_corrupt)
    skeleton = _skeleton(pose, topology, size=(info.height, info.width))
    if not (skeleton.scores > 0).any():
        what = "usable joint" if skeleton.present.any() else "body"
        return None, {"reason": f"no {what} in any frame of the skeleton"}
    persons = choose_persons(skeleton, most=PERSONS)
    geometry = geometry_of(options.geometry, persons.joints, info.height, info.width)
    frames, length = info.frames, min(info.frames, skeleton.num_frames)
    if length < 1:
        raise DecodeError(video, "holds no frame that has a skeleton", got=f"{frames} frames")
    try:
        index, pictures, reader = _pictures(video, length, key, geometry, options, decoder, allow_corrupt)
    except DecodeError as error:
        # decoding gave another count than the container claims: the indices are drawn again, once
        if error.frames is None or not 0 < error.frames < length:
            raise
        frames = error.frames
        index, pictures, reader = _pictures(video, frames, key, geometry, options, decoder, allow_corrupt)
    joints, scores = _kept_joints(persons, index, geometry)
    content = ClipContent(frames=pictures, joints=joints, scores=scores, frame_index=index, box=geometry.box)
    return content, {"reader": reader, "video_frames": frames}


def joints_of(topology: str) -> int:
    """V of a topology."""
    return len(manifest.topology(topology).joint_names)


def _skeleton(path: Path, topology: str, size: tuple[int, int]) -> Skeleton:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise SkeletonError(path, "is no regular file")  # reading a pipe or a device would wait for ever
    skeleton = read_skeleton(path, size=size)
    if skeleton.num_joints != joints_of(topology):
        raise SkeletonError(path, "has other joints", got=skeleton.num_joints, expected=joints_of(topology))
    return skeleton


def _pictures(
    video: Path,
    length: int,
    key: str,
    geometry: Geometry,
    options: PrepareOptions,
    decoder: DecodeProcess,
    allow_corrupt: bool,
) -> tuple[np.ndarray, tuple[tuple[bytes, ...], ...], str]:
    """Frame indices (R, T) in [0, length), the encoded pictures, R tuples of T, and the reader that served."""
    index = frame_index(length, key, options)
    wanted, place = np.unique(index, return_inverse=True)
    decoded = decoder.read_frames(
        video, wanted, reader=options.reader, box=geometry.box, size=geometry.size, allow_corrupt=allow_corrupt
    )
    encoded = [encode_picture(picture, options.frame_codec) for picture in decoded.frames]
    return index, tuple(tuple(encoded[p] for p in draw) for draw in place.reshape(index.shape)), decoded.reader


def frame_index(length: int, key: str, options: PrepareOptions) -> np.ndarray:
    """(R, T) int64 frame indices in [0, length): draw 0 by the policy, the others random within the segments."""
    draws = []
    for draw in range(options.draws):
        policy = options.sampling if draw == 0 else "random"
        draws.append(sample_indices(length, FRAMES, policy=policy, rng=keyed_rng(options.seed, key, "draw", draw)))
    return np.stack(draws)


def _kept_joints(persons: Skeleton, index: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Joints (R, M, T, V, 2) in kept pixels and scores (R, M, T, V), M filled up with empty slots."""
    have = persons.joints.shape[0]
    joints = np.full((PERSONS, *persons.joints.shape[1:]), np.nan, np.float32)
    scores = np.zeros((PERSONS, *persons.scores.shape[1:]), np.float32)
    joints[:have] = geometry.joints(persons.joints)
    scores[:have] = np.where(np.isfinite(joints[:have]).all(axis=-1), persons.scores, 0)
    joints[scores == 0] = np.nan  # what overflowed has no place either
    return np.moveaxis(joints[:, index], 0, 1), np.moveaxis(scores[:, index], 0, 1)


def _plainly(error: DataError, video: Path, pose: Path) -> str:
    """The error without the names of the files, which the listing holds: equal causes read equal, wherever data lie."""
    return str(error).replace(str(video), "video").replace(str(pose), "skeleton")

"""One row of stage 1: the steps from a record to a clip.

In: a VideoRecord and the folders of its files. Out: its clip, or None, and its entry in the commit record: done,
excluded (not a clip) or failed (an error), with the reason. skeleton -> persons -> frame indices ->
geometry -> frames; frames and joints go through the same indices and the same map. It writes nothing, and finds only
the damage that the codec reports: a video overwritten with bytes that still decode gives a clip that is done.
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

# a row of a commit record: "id", "outcome", then "reason", or "sha256", "reader", "video_frames"
Entry = dict[str, Any]


def attempt(
    record: VideoRecord, roots: Mapping[str, str], topology: str, options: PrepareOptions, decoder: DecodeProcess
) -> tuple[ClipContent | None, Entry]:
    """A row's clip, or None, and its entry.

    `roots` are the folders "videos" and "skeletons"; a skeleton whose number of joints is not the topology's fails.
    """
    entry: Entry = {"id": record.clip_id}
    if record.excluded:
        return None, {**entry, "outcome": "excluded", "reason": record.excluded}
    video, pose = Path(roots["videos"]) / record.video, Path(roots["skeletons"]) / record.skeleton
    corrupt = {}
    try:
        try:
            clip, facts = make_clip(video, pose, record.key, topology, options, decoder)
        except DecodeError as error:
            if not options.allow_corrupt:
                raise
            corrupt = {"corrupt": _without_paths(error, video, pose)}
            clip, facts = make_clip(video, pose, record.key, topology, options, decoder, allow_corrupt=True)
    except DataError as error:
        return None, {**entry, "outcome": "failed", "reason": _without_paths(error, video, pose)}
    if clip is None:
        return None, {**entry, "outcome": "excluded", **facts}
    return clip, {**entry, "outcome": "done", "sha256": clip.digest(), **corrupt, **facts}


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
    """A clip and its facts for the commit record ("reader", "video_frames"); or None and the "reason".

    Args:
        key: of the record; keys the random draws.
        allow_corrupt: keep frames that the decoder marks corrupt.

    Raises DecodeError: the frames cannot be read exactly. SkeletonError: the skeleton cannot be read.
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
        raise DecodeError(video, "has no frame with a skeleton", got=f"{frames} frames")
    try:
        index, pictures, reader = _pictures(video, length, key, geometry, options, decoder, allow_corrupt)
    except DecodeError as error:
        # fewer frames were decoded than the container claims: draw the indices again, once
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
        raise SkeletonError(path, "is not a regular file")  # reading a pipe or a device could wait forever
    skeleton = read_skeleton(path, size=size)
    if skeleton.num_joints != joints_of(topology):
        expected = joints_of(topology)
        raise SkeletonError(path, "has the wrong number of joints", got=skeleton.num_joints, expected=expected)
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
    """Frame indices (R, T) in [0, length), the encoded pictures, R tuples of T, and the reader used."""
    index = frame_index(length, key, options)
    wanted, position = np.unique(index, return_inverse=True)
    decoded = decoder.read_frames(
        video, wanted, reader=options.reader, box=geometry.box, size=geometry.size, allow_corrupt=allow_corrupt
    )
    encoded = [encode_picture(picture, options.frame_codec) for picture in decoded.frames]
    return index, tuple(tuple(encoded[p] for p in draw) for draw in position.reshape(index.shape)), decoded.reader


def frame_index(length: int, key: str, options: PrepareOptions) -> np.ndarray:
    """(R, T) int64 frame indices in [0, length): draw 0 by the policy, the others random within the segments."""
    draws = []
    for draw in range(options.draws):
        policy = options.sampling if draw == 0 else "random"
        draws.append(sample_indices(length, FRAMES, policy=policy, rng=keyed_rng(options.seed, key, "draw", draw)))
    return np.stack(draws)


def _kept_joints(persons: Skeleton, index: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Joints (R, M, T, V, 2) in kept pixels and scores (R, M, T, V), M filled up with empty slots."""
    count = persons.joints.shape[0]
    joints = np.full((PERSONS, *persons.joints.shape[1:]), np.nan, np.float32)
    scores = np.zeros((PERSONS, *persons.scores.shape[1:]), np.float32)
    joints[:count] = geometry.joints(persons.joints)
    scores[:count] = np.where(np.isfinite(joints[:count]).all(axis=-1), persons.scores, 0)
    joints[scores == 0] = np.nan  # also where a coordinate overflowed
    return np.moveaxis(joints[:, index], 0, 1), np.moveaxis(scores[:, index], 0, 1)


def _without_paths(error: DataError, video: Path, pose: Path) -> str:
    """The error without the paths, which the listing holds: equal causes give equal reasons, wherever the data lie."""
    return str(error).replace(str(video), "video").replace(str(pose), "skeleton")

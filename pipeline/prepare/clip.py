"""One row of stage 1: the steps from a record to a clip.

In: a VideoRecord and the folders of its files. Out: its clip, or None, and its entry in the commit record: done,
excluded (not a clip), missing (a file is not there) or failed (an error), with the reason. persons -> frame indices ->
geometry -> frames; frames and joints go through the same indices and the same map. A child process reads all raw files
(`pipeline.child`). It writes nothing, and finds only the damage that the codec reports: a video overwritten with bytes
that still decode gives a clip that is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.boundary import BoundaryError, confined
from pipeline.config import FRAMES, PrepareOptions
from pipeline.decode.child_process import DecodeProcess
from pipeline.decode.read import VideoInfo
from pipeline.errors import DataError, DecodeError, StarError, printable
from pipeline.geometry import Geometry, geometry_of
from pipeline.prepare.hdf5 import ClipContent, encode_picture
from pipeline.prepare.pinned import pinned, stamp
from pipeline.prepare.raw_files import POSE_FILES, VIDEO_FILES
from pipeline.prepare.shard import joints_of
from pipeline.records import UNKNOWN, VideoRecord, keyed_rng
from pipeline.sampling import sample_indices
from pipeline.skeletons.skeleton import Skeleton

# a row of a commit record: "id", "outcome", then "reason", or "sha256", "reader"; "raw", "poses" where they were read
Entry = dict[str, Any]


def attempt(
    record: VideoRecord, roots: Mapping[str, str], topology: str, options: PrepareOptions, child: DecodeProcess
) -> tuple[ClipContent | None, Entry]:
    """A row's clip, or None, and its entry.

    `roots` are the folders "videos" and "skeletons"; a skeleton whose number of joints is not the topology's fails. The
    entry's "seen" (path -> stamp and SHA-256) is for `pipeline.prepare.raw_files`, and no part of the record. Files are
    pinned: whatever is renamed meanwhile, their digests, persons and pictures are of the same two.
    """
    entry: Entry = {"id": record.clip_id}
    for outcome in ("excluded", "missing"):
        if reason := getattr(record, outcome):
            return None, {**entry, "outcome": outcome, "reason": reason}
    corrupt = {}
    video, pose = Path(record.video), Path(record.skeleton)
    with ExitStack() as held:
        try:
            video, pose = confined(roots["videos"], record.video), confined(roots["skeletons"], record.skeleton)
            paths = str(video), str(pose)
            video, pose = held.enter_context(pinned(video)), held.enter_context(pinned(pose))
            stamps = stamp(video), stamp(pose)
            try:
                clip, facts = make_clip(video, pose, record.key, topology, options, child)
            except DecodeError as error:
                if not options.allow_corrupt:
                    raise
                corrupt = {"corrupt": _without_paths(error, video, pose)}
                clip, facts = make_clip(video, pose, record.key, topology, options, child, allow_corrupt=True)
            if record.label == UNKNOWN:
                raise DataError(pose, "names a class that is none of the data set's")
            if (stamp(video), stamp(pose)) != stamps:
                raise DataError(video, "or its skeleton changed while it was read", remedy="run `star retry`")
        except (DataError, BoundaryError) as error:
            return None, {**entry, "outcome": "failed", "reason": _without_paths(error, video, pose)}
    digests = facts["raw"]["video"]["sha256"], facts["raw"]["pose"]["sha256"]
    facts["seen"] = {path: [*known] for path, *known in zip(paths, stamps, digests, strict=True)}
    if clip is None:
        return None, {**entry, "outcome": "excluded", **facts}
    return clip, {**entry, "outcome": "done", "sha256": clip.digest(), **corrupt, **facts}


def make_clip(
    video: Path,
    pose: Path,
    key: str,
    topology: str,
    options: PrepareOptions,
    child: DecodeProcess,
    *,
    allow_corrupt: bool = False,
) -> tuple[ClipContent | None, dict[str, Any]]:
    """A clip and its facts for the commit record ("reader", "raw", "poses"); or None, the "reason" and the others.

    Args:
        key: of the record; keys the random draws.
        allow_corrupt: keep frames that the decoder marks corrupt.

    Raises DecodeError: the frames cannot be read exactly. SkeletonError: the skeleton cannot be read, or does not fit
        the video.
    """
    info = child.probe(video, allow_corrupt=allow_corrupt)
    raw = {
        "video": child.call("pipeline.decode.identity:identity", path=video, suffixes=VIDEO_FILES),
        "pose": child.call("pipeline.decode.identity:identity", path=pose, suffixes=POSE_FILES),
    }
    frames = info.frames
    if frames < 1:
        raise DecodeError(video, "has no frame")
    for last_try in (False, True):
        persons, poses = _persons(pose, video, replace(info, frames=frames), topology, options, child)
        raw["video"]["frames"], raw["pose"]["frames"] = frames, poses.pop("pose_frames")
        facts = {"raw": raw, "poses": poses}
        if not (persons.scores > 0).any():
            scored = f" with a joint scored {options.min_score:g} or more" if options.min_score else ""
            return None, {"reason": f"no body in any frame of the skeleton{scored}", **facts}
        geometry = geometry_of(options.geometry, persons.joints, info.height, info.width)
        try:
            index, pictures, reader = _pictures(video, frames, key, geometry, options, child, allow_corrupt)
            break
        except DecodeError as error:
            # fewer frames were decoded than the container claims: all again, with that number
            if last_try or error.frames is None or not 0 < error.frames < frames:
                raise
            frames = error.frames
    joints, scores, xyz = _kept_joints(persons, index, geometry, options.max_persons)
    content = ClipContent(frames=pictures, joints=joints, scores=scores, xyz=xyz, frame_index=index, box=geometry.box)
    return content, {"reader": reader, **facts}


def _persons(
    pose: Path, video: Path, info: VideoInfo, topology: str, options: PrepareOptions, child: DecodeProcess
) -> tuple[Skeleton, dict[str, Any]]:
    persons, facts = child.call(
        "pipeline.skeletons.of_video:persons_of_video",
        path=pose,
        frames=info.frames,
        height=info.height,
        width=info.width,
        turned=info.turned,
        pictures=None if info.first_picture is None else str(video),
        first_picture=info.first_picture,
        num_joints=joints_of(topology),
        topology=topology,
        first_frame=options.first_frame,
        min_score=options.min_score,
        persons_by=options.persons_by,
        max_persons=options.max_persons,
    )
    return persons, facts


def _pictures(
    video: Path,
    length: int,
    key: str,
    geometry: Geometry,
    options: PrepareOptions,
    child: DecodeProcess,
    allow_corrupt: bool,
) -> tuple[np.ndarray, tuple[tuple[bytes, ...], ...], str]:
    """Frame indices (R, T) in [0, length), the encoded pictures, R tuples of T, and the reader used."""
    index = frame_index(length, key, options)
    wanted, position = np.unique(index, return_inverse=True)
    decoded = child.read_frames(
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


def _kept_joints(
    persons: Skeleton, index: np.ndarray, geometry: Geometry, slots: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Joints (R, M, T, V, 2) in kept pixels, scores (R, M, T, V), and xyz (R, M, T, V, 3), None where no chosen frame
    has any; M filled up to `slots` with empty ones."""
    count = persons.joints.shape[0]
    joints = np.full((slots, *persons.joints.shape[1:]), np.nan, np.float32)
    scores = np.zeros((slots, *persons.scores.shape[1:]), np.float32)
    joints[:count] = geometry.joints(persons.joints)
    scores[:count] = np.where(np.isfinite(joints[:count]).all(axis=-1), persons.scores, 0)
    joints[scores == 0] = np.nan  # also where a coordinate overflowed
    xyz = np.full((slots, *persons.xyz.shape[1:]), np.nan, np.float32)
    xyz[:count] = persons.xyz
    joints, scores, xyz = (np.moveaxis(array[:, index], 0, 1) for array in (joints, scores, xyz))
    return joints, scores, xyz if np.isfinite(xyz).any() else None


def _without_paths(error: StarError, video: Path, pose: Path) -> str:
    """The error without the paths, which the listing holds: equal causes give equal reasons, wherever the data lie."""
    text = str(error)
    for path, name in ((video, "video"), (pose, "skeleton")):
        text = text.replace(printable(" ".join(str(path).split())), name)  # as an error shows it
    return text

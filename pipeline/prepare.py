"""Stage 1: from a listing to a prepared folder. The only file that knows the order of the steps.

In: a Listing, PrepareOptions, a folder. Out: the folder complete: for each row skeleton -> persons -> frame indices ->
geometry -> frames, as one ClipContent; a shard's clips in one file; its commit record last. A clip that cannot be
made ends as `excluded` (it is none) or `failed` (it should have been one), with the reason; nothing is dropped.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.account import Account
from pipeline.clips import PERSONS, ClipContent, encode_picture, encode_shard
from pipeline.cluster import report, run_shards
from pipeline.commit import sole_writer, sweep_temporaries
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import DataError, DecodeError, SkeletonError
from pipeline.geometry import Geometry, geometry_of
from pipeline.prepared import PreparedFolder
from pipeline.records import Listing, VideoRecord, keyed_rng
from pipeline.sampling import sample_indices
from pipeline.skeletons import Skeleton, choose_persons, read_skeleton
from pipeline.watchdog import DecodeProcess

Progress = Callable[[dict[str, Any]], None]


def prepare(
    listing: Listing,
    options: PrepareOptions,
    out: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> Account:
    """Make every clip of `listing` that is not made yet.

    Args:
        workers: local processes; `scheduler`: an existing Dask cluster instead, which must see the same paths.
        retry: try failed clips again (done and excluded ones are kept as they are).
        progress: called with {"total", "done"} once and {"clip", "outcome"} for each clip, from this process.

    Raises:
        ArtifactError: `out` holds other content, cannot be written, or is in another coordinator's hands.
    """
    with sole_writer(out):
        sweep_temporaries(out)
        folder = PreparedFolder.create(out, listing, options)
        open_shards, rows_done = [], 0
        for shard in range(folder.shards):
            record = folder.record(shard)
            failed = record is not None and any(clip["outcome"] == "failed" for clip in record["clips"])
            if record is None or (retry and failed):
                open_shards.append(shard)
            else:
                rows_done += len(record["clips"])
        if progress is not None:
            progress({"total": len(listing.records), "done": rows_done})
        location = (str(out.resolve()), dict(listing.roots), options.reader, options.budget_s)
        for summary in run_shards(
            prepare_shard, open_shards, *location, workers=workers, scheduler=scheduler, progress=progress
        ):
            _log(out, summary)
        folder.write_manifest()
        return folder.account()


def prepare_shard(shard: int, out: str, roots: dict[str, str], reader: str, budget_s: float) -> dict[str, Any]:
    """Make and commit one shard; clips that an earlier attempt made are taken over. Runs in any process."""
    start = time.monotonic()
    folder = _folder(out, os.stat(Path(out) / "dataset.json").st_mtime_ns)
    rows = folder.rows(shard)
    before = folder.record(shard)
    made = folder.clips(shard, before) if before is not None else [None] * len(rows)
    clips: list[ClipContent | None] = []
    entries: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        record = folder.listing.records[row]
        kept = before["clips"][i] if before is not None else None
        if kept is not None and kept["outcome"] != "failed":
            clip, entry = made[i], kept
        else:
            clip, entry = _attempt(record, folder, roots, reader, budget_s)
        clips.append(clip)
        entries.append(entry)
        report({"clip": record.clip_id, "outcome": entry["outcome"]})
    data = encode_shard(
        clips,
        ids=[folder.listing.records[row].clip_id for row in rows],
        labels=[folder.listing.records[row].label for row in rows],
        draws=folder.options.draws,
        num_frames=FRAMES,
        num_joints=len(manifest.topology(folder.listing.topology).joint_names),
    )
    folder.commit(shard, data, entries)
    outcomes = [entry["outcome"] for entry in entries]
    return {
        "shard": shard,
        "clips": len(rows),
        "failed": outcomes.count("failed"),
        "seconds": round(time.monotonic() - start, 3),
        "host": socket.gethostname(),
    }


def make_clip(
    skeleton: Skeleton, video: Path, key: str, options: PrepareOptions, decoder: DecodeProcess, reader: str
) -> tuple[ClipContent, dict[str, Any]]:
    """One clip from a skeleton and its video, and what the ledger keeps of it ("reader", "video_frames").

    Raises:
        DecodeError: the frames cannot be had exactly.
    """
    info = decoder.probe(video)
    persons = choose_persons(skeleton, most=PERSONS)
    geometry = geometry_of(options.geometry, _seen(persons), info.height, info.width)
    num_frames = info.frames
    for last_try in (False, True):
        length = min(num_frames, skeleton.joints.shape[1])
        if length < 1:
            raise DecodeError(video, "holds no frame that has a skeleton", got=f"{num_frames} frames")
        index = _frame_index(length, key, options)
        wanted, place = np.unique(index, return_inverse=True)
        try:
            read = decoder.read_frames(
                video,
                wanted,
                reader=reader,
                box=geometry.box,
                size=geometry.size,
                allow_corrupt=options.allow_corrupt,
            )
            break
        except DecodeError as error:
            # decoding gave another count than the container claims: the indices are drawn again, once
            decoded = getattr(error, "frames", None)
            if last_try or not decoded or decoded >= length:
                raise
            num_frames = decoded
    pictures = [encode_picture(picture, options.frame_codec) for picture in read.frames]
    frames = tuple(tuple(pictures[p] for p in draw) for draw in place.reshape(index.shape))
    joints, scores = _kept_joints(persons, index, geometry)
    content = ClipContent(frames=frames, joints=joints, scores=scores, frame_index=index, box=geometry.box)
    ledger: dict[str, Any] = {"reader": read.reader, "video_frames": num_frames}
    return content, ledger


def _attempt(
    record: VideoRecord, folder: PreparedFolder, roots: dict[str, str], reader: str, budget_s: float
) -> tuple[ClipContent | None, dict[str, Any]]:
    entry: dict[str, Any] = {"id": record.clip_id}
    if record.excluded:
        return None, {**entry, "outcome": "excluded", "reason": record.excluded}
    try:
        skeleton = read_skeleton(Path(roots["skeletons"]) / record.skeleton)
        expected = len(manifest.topology(folder.listing.topology).joint_names)
        if skeleton.joints.shape[2] != expected:
            raise SkeletonError(record.skeleton, "has other joints", got=skeleton.joints.shape[2], expected=expected)
        if not skeleton.present.any():
            return None, {**entry, "outcome": "excluded", "reason": "no body in any frame of the skeleton"}
        video = Path(roots["videos"]) / record.video
        clip, ledger = make_clip(skeleton, video, record.key, folder.options, _decoder(budget_s), reader)
    except DataError as error:
        return None, {**entry, "outcome": "failed", "reason": _portable(str(error), roots)}
    return clip, {**entry, "outcome": "done", "sha256": clip.digest(), **ledger}


def _frame_index(length: int, key: str, options: PrepareOptions) -> np.ndarray:
    """(R, T) frame indices in [0, length): draw 0 by the policy, the others random within the segments."""
    draws = []
    for draw in range(options.draws):
        policy = options.sampling if draw == 0 else "random"
        draws.append(sample_indices(length, FRAMES, policy=policy, rng=keyed_rng(options.seed, key, "draw", draw)))
    return np.stack(draws)


def _seen(persons: Skeleton) -> np.ndarray:
    """The joints (M, T, V, 2) with those of no score hidden: they may hold any coordinates."""
    return np.where((persons.scores > 0)[..., None], persons.joints, np.nan)


def _kept_joints(persons: Skeleton, index: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Joints (R, M, T, V, 2) in kept pixels and scores (R, M, T, V), M filled up with empty slots."""
    have = persons.joints.shape[0]
    joints = np.full((PERSONS, *persons.joints.shape[1:]), np.nan, np.float32)
    scores = np.zeros((PERSONS, *persons.scores.shape[1:]), np.float32)
    joints[:have] = geometry.joints(persons.joints)
    scores[:have] = np.where(np.isfinite(joints[:have]).all(axis=-1), persons.scores, 0)
    joints[scores == 0] = np.nan  # one rule for all readers: no score, no coordinates
    return np.moveaxis(joints[:, index], 0, 1), np.moveaxis(scores[:, index], 0, 1)


@functools.lru_cache(maxsize=2)
def _folder(out: str, modified_ns: int) -> PreparedFolder:
    """A worker reads the listing once, not once a shard."""
    return PreparedFolder.open(out)


@functools.lru_cache(maxsize=1)
def _decoder(budget_s: float) -> DecodeProcess:
    """One decoding child for each worker process, reused from clip to clip."""
    return DecodeProcess(budget_s=budget_s)


def _portable(reason: str, roots: dict[str, str]) -> str:
    """Reasons are part of the content: they name files below the roots, wherever those lie."""
    for root in sorted(roots.values(), key=len, reverse=True):
        reason = reason.replace(root.rstrip("/") + "/", "")
    return reason


def _log(out: Path, summary: dict[str, Any]) -> None:
    """`log/attempts.jsonl`: when, where and how long; no part of the content."""
    (out / "log").mkdir(exist_ok=True)
    with open(out / "log" / "attempts.jsonl", "a") as file:
        file.write(json.dumps({"time": time.time(), **summary}) + "\n")

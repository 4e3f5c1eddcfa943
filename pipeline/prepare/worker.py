"""The work of one task of stage 1: a shard, from raw files to a committed file of clips.

In: a shard number and the prepared folder. Out: the shard's file and its commit record. Clips of an earlier attempt are
kept. Runs in any process; each thread keeps one decoding child.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import BoundaryError
from pipeline.artifacts.lock import require_writer
from pipeline.artifacts.outcomes import AGAIN
from pipeline.cluster.run_shards import report
from pipeline.config import FRAMES
from pipeline.decode.child_process import DecodeProcess
from pipeline.errors import CorruptError, DataError
from pipeline.prepare.clip import Entry, attempt, joints_of
from pipeline.prepare.hdf5 import ClipContent, encode_shard
from pipeline.prepare.raw_files import remember
from pipeline.prepare.shard import Shard, read_shard


def prepare_shard(number: int, out: str, lease: str, shard_clips: int) -> dict[str, Any]:
    """Make and commit one shard.

    Args:
        lease: of the coordinator that holds `out` (`pipeline.artifacts.lock.sole_writer`).

    Raises:
        ArtifactError: that coordinator has ended, or the folder cannot be read or written from here.
        DataError: the data cannot be read from here.
    """
    start = time.monotonic()
    require_writer(Path(out), lease)
    shard = read_shard(Path(out), number, shard_clips=shard_clips)
    kept = _kept(shard)
    clips: list[ClipContent | None] = []
    entries: list[Entry] = []
    seen: dict[str, list[str | None]] = {}
    for i, record in enumerate(shard.records):
        if i in kept:
            clip, entry = kept[i]
        else:
            require_writer(Path(out), lease)  # on a cluster, a worker can outlive its coordinator
            clip, entry = attempt(record, shard.roots, shard.topology, shard.options, _decoder(shard.options.budget_s))
        seen.update(entry.pop("seen", {}))
        clips.append(clip)
        entries.append(entry)
        report({"clip": record.clip_id, "outcome": entry["outcome"]})
    failed = sum(entry["outcome"] == "failed" for entry in entries)
    if failed:
        _require_roots(shard.roots)  # otherwise a lost mount would fail every clip from then on
    data = _encoded(shard, clips)
    require_writer(Path(out), lease)
    remember(Path(out), number, seen)
    shard.commit(data, entries)
    return {
        "shard": number,
        "clips": len(entries),
        "failed": failed,
        "seconds": round(time.monotonic() - start, 3),
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


def _kept(shard: Shard) -> dict[int, tuple[ClipContent | None, Entry]]:
    """By row: the clips and entries of an earlier attempt at this shard that are whole."""
    try:
        record = shard.committed()
        rows = [] if record is None else list(zip(record["clips"], shard.clips(record), strict=True))
    except (CorruptError, BoundaryError):
        return {}
    return {
        i: (clip, entry)
        for i, (entry, clip) in enumerate(rows)
        if entry["outcome"] not in AGAIN and (clip is None or clip.digest() == entry["sha256"])
    }


def _encoded(shard: Shard, clips: list[ClipContent | None]) -> memoryview:
    return encode_shard(
        clips,
        ids=[record.clip_id for record in shard.records],
        labels=[record.label for record in shard.records],
        draws=shard.options.draws,
        persons=shard.options.max_persons,
        num_frames=FRAMES,
        num_joints=joints_of(shard.topology),
    )


_of_thread = threading.local()


def _decoder(budget_s: float) -> DecodeProcess:
    """One decoding child for each thread that makes shards, reused from clip to clip."""
    if getattr(_of_thread, "budget_s", None) != budget_s:
        _of_thread.decoder, _of_thread.budget_s = DecodeProcess(budget_s=budget_s), budget_s
    return _of_thread.decoder


def _require_roots(roots: Mapping[str, str]) -> None:
    for root in roots.values():
        if not Path(root).is_dir():
            remedy = "check the mount on every worker, then run the same command again"
            raise DataError(root, f"cannot be read on {socket.gethostname()}", remedy=remedy)

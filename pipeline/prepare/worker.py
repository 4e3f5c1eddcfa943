"""The work of one task of stage 1: a shard, from raw files to a committed file of clips.

In: a shard number and the prepared folder. Out: the shard's file and its commit record. Clips of an earlier attempt are
kept, row by row, where their digests tell that they are whole; a file of clips without digests is never replaced by one
of fewer clips because raw files are away. Runs in any process; each thread keeps one decoding child.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import BoundaryError, confined
from pipeline.artifacts.lock import require_writer
from pipeline.artifacts.outcomes import AGAIN
from pipeline.cluster.run_shards import report
from pipeline.config import FRAMES
from pipeline.decode.child_process import DecodeProcess
from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.prepare.clip import Entry, attempt
from pipeline.prepare.hdf5 import ClipContent, ShardReader, encode_shard
from pipeline.prepare.raw_files import remember
from pipeline.prepare.shard import Shard, joints_of, read_shard


def prepare_shard(number: int, out: str, lease: str, shard_clips: int) -> dict[str, Any]:
    """Make and commit one shard.

    Args:
        lease: of the coordinator that holds `out` (`pipeline.artifacts.lock.sole_writer`).

    Raises:
        ArtifactError: that coordinator has ended; the folder cannot be read or written from here; or the shard's file
            holds clips that would be lost.
        DataError: the data cannot be read from here.
    """
    start = time.monotonic()
    require_writer(Path(out), lease)
    shard = read_shard(Path(out), number, shard_clips=shard_clips)
    kept, unproven = _earlier(shard)
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
        _require_files(shard, [i for i, record in enumerate(shard.records) if i not in kept and record.usable])
    _require_no_loss(shard, entries, unproven)
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


def _earlier(shard: Shard) -> tuple[dict[int, tuple[ClipContent | None, Entry]], set[int]]:
    """What an earlier attempt at this shard left: by row, the clips and entries that are whole; and the rows that hold
    pictures of which no record tells whether they are whole."""
    try:
        record = shard.record()
    except (CorruptError, BoundaryError):
        record = None
    try:
        with shard.reader() as reader:
            if record is None:
                return {}, {row for row in range(len(shard.records)) if reader.holds_pictures(row)}
            clips = [_whole_clip(reader, row, entry) for row, entry in enumerate(record["clips"])]
    except (CorruptError, BoundaryError):
        return {}, set()
    rows = enumerate(zip(clips, record["clips"], strict=True))
    lost = (*AGAIN, "done")  # of which there is no clip
    return {row: (clip, entry) for row, (clip, entry) in rows if clip or entry["outcome"] not in lost}, set()


def _whole_clip(reader: ShardReader, row: int, entry: Entry) -> ClipContent | None:
    """The clip of a row that is done; None where it is not, or its bytes are no longer those."""
    if entry["outcome"] != "done":
        return None
    with suppress(CorruptError):
        clip = reader.clip(row)
        return clip if clip.digest() == entry["sha256"] else None
    return None


def _require_no_loss(shard: Shard, entries: list[Entry], unproven: set[int]) -> None:
    """Raises ArtifactError: the new file would hold nothing where the old one holds clips, since files are away."""
    lost = [entries[row] for row in sorted(unproven) if entries[row]["outcome"] in AGAIN]
    if lost:
        where, record = " and ".join(sorted({*shard.roots.values()})), shard.commit_path.name
        raise ArtifactError(
            shard.path,
            f"holds {len(lost)} clips that cannot be made again from {where}",
            got=f"{lost[0]['id']}: {lost[0]['reason']}",
            remedy=f"check the mount, or restore {record} from a copy; to go on without them, delete {shard.path.name}",
        )


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


def _require_files(shard: Shard, tried: list[int]) -> None:
    """Raises DataError: a folder is away, is empty, or lacks most of what was listed.

    A mount that is lost looks so, and would fail every clip from then on.
    """
    for kind, root in shard.roots.items():
        names = [shard.records[row].video if kind == "videos" else shard.records[row].skeleton for row in tried]
        gone = sum(_is_gone(root, name) for name in names)
        if _is_empty(root):
            problem = f"cannot be read on {socket.gethostname()}, or is empty"
        elif gone > 1 and 2 * gone > len(tried):
            problem = f"lacks {gone} of {len(tried)} files on {socket.gethostname()} that were there"
        else:
            continue
        remedy = "check the mount on every worker, then run the same `star prepare` again"
        raise DataError(root, problem, remedy=remedy)


def _is_empty(root: str) -> bool:
    """Or away: a mountpoint without its mount is an empty folder."""
    try:
        with os.scandir(root) as found:
            return next(found, None) is None
    except PermissionError:  # files in it may be read all the same
        return False
    except OSError:
        return True


def _is_gone(root: str, name: str) -> bool:
    try:
        return not os.path.exists(confined(root, name))
    except BoundaryError:
        return False

"""Stage 1: from a listing to a prepared folder.

In: a Listing, PrepareOptions, a folder. Out: the folder complete: every row made by `pipeline.prepare_clip`, a shard's
clips in one file, its commit record last, then `manifest.jsonl`. The coordinator lists and waits; workers make shards.
The same call goes on after any stop: what is committed stays, what is not is made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.account import Account
from pipeline.clips import LEAST_PICTURE, ClipContent, encode_shard, known_bytes
from pipeline.cluster import report, run_shards
from pipeline.commit import require_writer, sole_writer, sweep_temporaries, unwritable
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import CorruptError, DataError
from pipeline.prepare_clip import Entry, attempt, joints_of
from pipeline.prepared import PreparedFolder
from pipeline.prepared_shards import Shard, read_shard
from pipeline.records import Listing
from pipeline.room import require_room
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
        ArtifactError: `out` holds other content, cannot be written, has no room, or is in another coordinator's hands.
        ConfigError: there is no such cluster. DataError: nothing is listed, or the data went away in mid-run.
    """
    folder = PreparedFolder.match(out, listing, options)  # before anything is written: `out` may be something else
    with sole_writer(out) as word:
        sweep_temporaries(out)
        folder.freeze()
        todo, rows_done = unfinished(folder, retry=retry)
        if todo:
            require_room(out, least_bytes(folder, todo))
            folder.drop_manifest()
        if progress is not None:
            progress({"total": len(listing.records), "done": rows_done})
        where = (str(out.resolve()), word, options.shard_clips)
        summaries = run_shards(prepare_shard, todo, *where, workers=workers, scheduler=scheduler, progress=progress)
        with contextlib.closing(summaries):
            for summary in summaries:
                _log(out, summary)
        entries = folder.outcomes()
        folder.write_manifest(entries)
        return folder.account(entries)


def unfinished(folder: PreparedFolder, *, retry: bool = False) -> tuple[list[int], int]:
    """The shards to make, with `retry` also those with failed clips, and how many rows the others hold.

    A shard whose record is damaged, or whose file is not there in its full length, is made again.
    """
    todo, rows_done = [], 0
    for number in range(folder.shards):
        try:
            record = folder.record(number)
        except CorruptError:
            record = None
        if record is None or (retry and any(entry["outcome"] == "failed" for entry in record["clips"])):
            todo.append(number)
        else:
            rows_done += len(record["clips"])
    return todo, rows_done


def least_bytes(folder: PreparedFolder, todo: list[int]) -> int:
    """Fewer bytes than the shards `todo` can take: what is known, and pictures smaller than any of people."""
    rows = [record for number in todo for record in folder.shard(number).records]
    pictures = sum(not record.excluded for record in rows) * folder.options.draws * FRAMES
    known = known_bytes(len(rows), len(todo), folder.options.draws, FRAMES, joints_of(folder.listing.topology))
    return known + pictures * LEAST_PICTURE[folder.options.frame_codec]


def prepare_shard(number: int, out: str, word: str, shard_clips: int) -> dict[str, Any]:
    """Make and commit one shard; clips that an earlier attempt made are taken over. Runs in any process.

    Args:
        word: of the coordinator that holds `out` (`pipeline.commit.sole_writer`).

    Raises:
        ArtifactError: that coordinator is gone, or the folder is not to be seen or written from here.
        DataError: the data are not to be seen from here.
    """
    start = time.monotonic()
    require_writer(Path(out), word)
    shard = read_shard(Path(out), number, shard_clips=shard_clips)
    kept = _kept(shard)
    clips: list[ClipContent | None] = []
    entries: list[Entry] = []
    for i, record in enumerate(shard.records):
        if i in kept:
            clip, entry = kept[i]
        else:
            require_writer(Path(out), word)  # on a cluster, work would go on when its coordinator has ended
            clip, entry = attempt(record, shard.roots, shard.topology, shard.options, _decoder(shard.options.budget_s))
        clips.append(clip)
        entries.append(entry)
        report({"clip": record.clip_id, "outcome": entry["outcome"]})
    failed = sum(entry["outcome"] == "failed" for entry in entries)
    if failed:
        _require_roots(shard.roots)  # a mount that went away must not fail every clip from then on
    data = _encoded(shard, clips)
    require_writer(Path(out), word)
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
    """By row: what an earlier attempt at this shard made, and is still as it was made."""
    try:
        before = shard.committed()
        rows = list(zip(before["clips"], shard.clips(before), strict=True)) if before is not None else []
    except CorruptError:
        return {}
    return {
        i: (clip, entry)
        for i, (entry, clip) in enumerate(rows)
        if entry["outcome"] != "failed" and (clip is None or clip.digest() == entry["sha256"])
    }


def _encoded(shard: Shard, clips: list[ClipContent | None]) -> memoryview:
    return encode_shard(
        clips,
        ids=[record.clip_id for record in shard.records],
        labels=[record.label for record in shard.records],
        draws=shard.options.draws,
        num_frames=FRAMES,
        num_joints=joints_of(shard.topology),
    )


_of_thread = threading.local()


def _decoder(budget_s: float) -> DecodeProcess:
    """One decoding child for each thread that makes shards, reused from clip to clip."""
    if getattr(_of_thread, "budget_s", None) != budget_s:
        _of_thread.decoder, _of_thread.budget_s = DecodeProcess(budget_s=budget_s), budget_s
    decoder: DecodeProcess = _of_thread.decoder
    return decoder


def _require_roots(roots: Mapping[str, str]) -> None:
    for root in roots.values():
        if not Path(root).is_dir():
            raise DataError(
                root,
                f"is not to be seen from {socket.gethostname()}",
                remedy="check the mount on every worker, then run the same command again",
            )


def _log(out: Path, summary: dict[str, Any]) -> None:
    """`log/attempts.jsonl`: when, where and how long; no part of the content."""
    path = out / "log" / "attempts.jsonl"
    try:
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as file:
            file.write(json.dumps({"time": time.time(), **summary}) + "\n")
    except OSError as error:
        raise unwritable(path, error) from error

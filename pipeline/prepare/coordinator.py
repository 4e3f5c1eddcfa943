"""Stage 1: from a listing to a prepared folder.

In: a Listing, PrepareOptions, a folder. Out: the folder complete: every shard made by `pipeline.prepare.worker`, then
`manifest.jsonl`. The coordinator lists and waits. After any stop the same call resumes: committed shards stay, the
others are made again, and so are those with a missing clip whose files are there by now.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from pipeline.artifacts.files import append_line, require_disk_space, sweep_temporaries, write_atomic
from pipeline.artifacts.lock import sole_writer
from pipeline.artifacts.outcomes import Account
from pipeline.cluster.run_shards import ShardProgress, run_shards
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import ArtifactError, CorruptError
from pipeline.prepare.folder import Entries, PreparedFolder
from pipeline.prepare.hdf5 import MIN_PICTURE, known_bytes
from pipeline.prepare.raw_files import require_same_raw_files
from pipeline.prepare.shard import joints_of
from pipeline.prepare.verify import damaged_shards
from pipeline.prepare.worker import prepare_shard
from pipeline.records import Listing


def prepare(
    listing: Listing,
    options: PrepareOptions,
    out: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    damaged: bool = False,
    progress: ShardProgress | None = None,
) -> Account:
    """Make every clip of `listing` that does not exist yet.

    Args:
        workers: local processes; `scheduler`: an existing Dask cluster instead, which must see the same paths.
        retry: try failed clips again (done and excluded ones are kept as they are). Missing ones are tried by every
            call whose listing says that their files are there by now.
        damaged: read every byte first, and make again what `verify_prepared` names.
        progress: called with {"total", "done"} once and {"clip", "outcome"} for each clip, from this process.

    Raises:
        ArtifactError: `out` holds other content, or clips that were made from other raw files than there are now; it
            cannot be written, lacks disk space, or has another coordinator.
        ConfigError: the cluster cannot be used. DataError: nothing is listed, or the data went away during the run.
    """
    folder = PreparedFolder.match(out, listing, options)  # before anything is written: `out` may be something else
    if not {"videos", "skeletons"} <= listing.roots.keys():
        raise ArtifactError(out, "does not say where its videos and skeletons lie", remedy="prepare it again")
    with sole_writer(out) as lease:
        sweep_temporaries(out)
        folder.freeze()
        require_same_raw_files(folder, folder.recorded())
        todo, rows_done = unfinished(folder, retry=retry)
        if damaged:
            todo = sorted({*todo, *damaged_shards(folder)})
            rows_done = len(listing.records) - sum(len(folder.rows(number)) for number in todo)
        if todo:
            require_disk_space(out, least_bytes(folder, todo))
            folder.drop_manifest()
        if progress is not None:
            progress({"total": len(listing.records), "done": rows_done})
        where = (str(out.resolve()), lease, options.shard_clips)
        summaries = run_shards(prepare_shard, todo, *where, workers=workers, scheduler=scheduler, progress=progress)
        with contextlib.closing(summaries):
            for summary in summaries:
                _log(out, summary)
        entries = folder.outcomes()
        write_atomic(folder.manifest_path, folder.manifest(entries))
        return folder.account(entries)


def unfinished(folder: PreparedFolder, *, retry: bool = False) -> tuple[list[int], int]:
    """The shards to make (with `retry` also those with failed clips), and the number of rows in the others.

    A shard with a damaged record, a file that is gone or has another length, or a missing clip whose files are there
    now, is made again.
    """
    todo, rows_done = [], 0
    for number in range(folder.shards):
        try:
            record = folder.record(number)
        except CorruptError:
            record = None
        if record is None or _is_open(folder, number, record["clips"], retry):
            todo.append(number)
        else:
            rows_done += len(record["clips"])
    return todo, rows_done


def _is_open(folder: PreparedFolder, number: int, entries: Entries, retry: bool) -> bool:
    outcomes = {entry["outcome"] for entry in entries}
    if retry and "failed" in outcomes:
        return True
    if "missing" not in outcomes:
        return False
    rows = zip(folder.shard(number).records, entries, strict=True)
    return any(entry["outcome"] == "missing" and not record.missing for record, entry in rows)


def least_bytes(folder: PreparedFolder, todo: list[int]) -> int:
    """A lower bound of the bytes of the shards `todo`: the known sizes, and pictures smaller than any of people."""
    rows = [record for number in todo for record in folder.shard(number).records]
    pictures = sum(record.usable for record in rows) * folder.options.draws * FRAMES
    known = known_bytes(len(rows), len(todo), folder.options, joints_of(folder.listing.topology))
    return known + pictures * MIN_PICTURE[folder.options.frame_codec]


def _log(out: Path, summary: dict[str, Any]) -> None:
    """Append to `log/attempts.jsonl`: when, where and how long; not part of the content."""
    append_line(out, "log/attempts.jsonl", json.dumps({"time": time.time(), **summary}).encode())

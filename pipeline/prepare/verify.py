"""Checks every byte of a prepared folder against its digests.

In: a folder. Out: one Damage for each file that differs from what was committed, with the clips that are lost. It
repairs nothing: `star retry --damaged` makes the shards again. It does not find a video that was damaged before it was
prepared; `verify_raw` finds one that has changed since.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import BoundaryError, open_regular
from pipeline.artifacts.outcomes import DIFFERS, Damage
from pipeline.errors import ArtifactError, CorruptError
from pipeline.prepare.folder import PreparedFolder, holds
from pipeline.prepare.hdf5 import ShardReader
from pipeline.prepare.shard import Shard


def verify_prepared(path: Path) -> Iterator[Damage]:
    """Every committed shard of a prepared folder, and `manifest.jsonl` against the records it is derived from.

    Raises ArtifactError: it is not a prepared folder. CorruptError: `dataset.json` or `rows.jsonl` is damaged.
    """
    folder = PreparedFolder.open(path)
    whole = True
    for number in range(folder.shards):
        for damage in _shard(folder.shard(number)):
            whole = False
            yield damage
    manifest = folder.manifest_path
    if whole and os.path.lexists(manifest) and not holds(manifest, folder.manifest(folder.outcomes())):
        yield Damage(str(manifest), (), str(manifest))


def verify_raw(path: Path) -> Iterator[Damage]:
    """Read the raw files of all clips again: one Damage for each that is gone or is not what a clip was made from.

    Raises as `verify_prepared`.
    """
    from pipeline.prepare.raw_files import changed_raw_files  # not above: it needs a video library

    folder = PreparedFolder.open(path)
    for file in changed_raw_files(folder, folder.recorded()):
        problem = DIFFERS if os.path.exists(file.path) else "is missing"
        yield Damage(file.path, (file.clip_id,), "", problem)


def damaged_shards(folder: PreparedFolder) -> list[int]:
    """The numbers of the shards of which something is lost or damaged."""
    return [number for number in range(folder.shards) if any(_shard(folder.shard(number)))]


def _shard(shard: Shard) -> Iterator[Damage]:
    try:
        record = shard.record()
    except ArtifactError as error:  # damaged, or another folder's
        clips = tuple(row.clip_id for row in shard.records)
        yield Damage(str(shard.commit_path), clips, str(shard.commit_path), error.problem)
        return
    problem = "" if record is None else _problem(shard, record)
    if record is not None and problem:
        yield Damage(str(shard.path), _clips_lost(shard, record), str(shard.commit_path), problem)


def _problem(shard: Shard, record: dict[str, Any]) -> str:
    """What is wrong with the file of a shard; "" where it is as it was committed."""
    try:
        with open(open_regular(shard.path, root=os.path.realpath(shard.folder)), "rb") as file:
            same = os.fstat(file.fileno()).st_size == record["bytes"]  # before a file of any size is read
            if not same or hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
                return DIFFERS
        shard.reader().close()  # the digest may be a stranger's, of a file that is none of this folder's sizes
        return ""
    except FileNotFoundError:
        return "is missing"
    except (CorruptError, BoundaryError) as error:
        return error.problem


def _clips_lost(shard: Shard, record: dict[str, Any]) -> tuple[str, ...]:
    """The done clips of a damaged file that cannot be read or have another digest; the others are still usable."""
    done = [(i, entry) for i, entry in enumerate(record["clips"]) if entry["outcome"] == "done"]
    try:
        with shard.reader() as reader:
            return tuple(entry["id"] for i, entry in done if not _is_whole(reader, i, entry["sha256"]))
    except CorruptError:
        return tuple(entry["id"] for _, entry in done)


def _is_whole(reader: ShardReader, row: int, digest: str) -> bool:
    try:
        return reader.clip(row).digest() == digest
    except CorruptError:
        return False

"""The check of every byte of a token store against its checksum.

In: a path or URL. Out: one Damage for each file that is not as it was committed, with the clips that are lost. Which
files there must be follows from the sizes; they are compared with the commit records, which carry their own checksums.
Metadata are not trusted. Repairs nothing; `log/` is not part of the content.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.boundary import LARGEST_JSON
from pipeline.artifacts.checksum import crc64
from pipeline.artifacts.outcomes import DIFFERS, Damage
from pipeline.cluster.lookahead import prefetch
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.chunks import decode_chunk, decode_clip, file_bytes
from pipeline.store.commit_records import (
    CONTENT,
    ViewShard,
    checked_record,
    clip_digest,
    each_data,
    is_whole,
    read_content_record,
    read_metadata_record,
    record_key,
    view_shards,
)
from pipeline.store.layout import StoreSizes, chunk_key, specs
from pipeline.store.metadata import METADATA_RECORD, attributes_of, read_group
from pipeline.store.token_store import TokenStore

# a damaged commit record; else a record and a file that it names, or None for all of its clips
Part = Damage | tuple[dict[str, Any], dict[str, Any] | None]


def verify_store(url: str | Path, *, deep: bool = False) -> Iterator[Damage]:
    """Check every file of a token store: shards and chunks, commit records, metadata, and columns.

    Args:
        deep: also decode every clip and compare its SHA-256, which detects deliberate changes where a checksum detects
            damage only. Several times slower.

    Raises:
        ArtifactError: no token store.
    """
    blobs = open_blobs(url)
    metadata, damage = _metadata(blobs)
    if metadata is None:
        TokenStore.open(url)  # raises the error
        return
    yield from damage
    sizes = StoreSizes.of(metadata, blobs.url)
    damaged = {one.file for one in damage}
    ids = [] if f"{blobs.url}/clips.txt" in damaged else _ids(blobs, sizes)
    with ThreadPoolExecutor(blobs.threads) as pool:
        try:
            named = read_content_record(blobs, metadata["fingerprint"], sizes)
        except ArtifactError as error:
            named, of_all = {}, f"{blobs.url}/{CONTENT}"
            yield Damage(of_all, (), of_all, error.problem)
        parts = _parts(blobs, sizes, metadata["fingerprint"], ids, named, deep=deep)
        for part in prefetch(pool, partial(_damaged_or_none, blobs), parts, depth=8):
            if isinstance(part, Damage):
                yield part
            elif part is not None:
                record, entry = part
                clips = tuple(_damaged_clips(blobs, sizes, record))
                key = f"{blobs.url}/{record_key((record['view'], record['shard']))}"
                if entry is not None:
                    yield Damage(f"{blobs.url}/{entry['key']}", clips, key, _problem(blobs, entry["key"]))
                elif clips:
                    yield Damage(key, clips, key)


def _parts(
    blobs: Blobs, sizes: StoreSizes, fingerprint: str, ids: list[str], named: dict[ViewShard, str], *, deep: bool
) -> Iterator[Part]:
    """Damaged commit records, the files that the others name, and the shards whose clips are to be decoded."""
    for view_shard, data in each_data(blobs, view_shards(sizes)):
        rows = sizes.rows(view_shard[1])
        try:
            record = checked_record(blobs, data, fingerprint, sizes, view_shard)
            if ids and record is not None and [e["id"] for e in record["clips"]] != ids[rows.start : rows.stop]:
                raise CorruptError(blobs.url, "names other clips")
            if data is not None and named.get(view_shard) not in (None, f"{crc64(data):016x}"):
                raise CorruptError(blobs.url, f"is another one than {CONTENT} names: of another store, or older")
        except ArtifactError as error:
            key = f"{blobs.url}/{record_key(view_shard)}"
            yield Damage(key, tuple(ids[rows.start : rows.stop] or [f"row {row}" for row in rows]), key, error.problem)
            continue
        if record is not None:
            yield from ((record, entry) for entry in record["files"])
            if deep:
                yield record, None


def _damaged_or_none(blobs: Blobs, part: Part) -> Part | None:
    """None for a file that is as it was committed."""
    return None if not isinstance(part, Damage) and part[1] is not None and is_whole(blobs, part[1]) else part


def _problem(blobs: Blobs, key: str) -> str:
    try:
        return "is missing" if blobs.parts(key) is None else DIFFERS
    except ArtifactError as error:  # a link, or no file
        return error.problem


def _metadata(blobs: Blobs) -> tuple[dict[str, Any] | None, list[Damage]]:
    """Fingerprint and sizes of the store, and the damage of its metadata."""
    of_all = f"{blobs.url}/{METADATA_RECORD}"
    try:
        record = read_metadata_record(blobs)
    except CorruptError:
        record = None
    if record is None:
        return _attributes(blobs), [Damage(of_all, (), of_all, _problem(blobs, METADATA_RECORD))]
    damaged = [entry["key"] for entry in record["files"] if not is_whole(blobs, entry)]
    return record, [Damage(f"{blobs.url}/{key}", (), of_all, _problem(blobs, key)) for key in damaged]


def _attributes(blobs: Blobs) -> dict[str, Any] | None:
    """The attributes of the group, where the metadata have no commit record."""
    try:
        return attributes_of(blobs, read_group(blobs) or b"")
    except ArtifactError:
        return None


def _ids(blobs: Blobs, sizes: StoreSizes) -> list[str]:
    """Clip ids by row; none where they are damaged."""
    ids = _bytes_of(blobs, "clips.txt").decode(errors="replace").splitlines()
    return ids if len(ids) == sizes.clips else []


def _damaged_clips(blobs: Blobs, sizes: StoreSizes, record: dict[str, Any]) -> Iterator[str]:
    """The done clips of a shard that cannot be read, or whose digest has changed."""
    view, shard = record["view"], record["shard"]
    clips = len(record["clips"])
    files = {
        spec.name: _bytes_of(blobs, chunk_key(spec, shard, view), most=file_bytes(spec, clips, sizes))
        for spec in specs(sizes)
    }
    for row, entry in enumerate(record["clips"]):
        if entry["outcome"] != "done":
            continue
        try:
            whole = clip_digest(sizes, _row(files, row, len(record["clips"]), sizes), 0) == entry["sha256"]
        except CorruptError:
            whole = False
        if not whole:
            yield entry["id"]


def _bytes_of(blobs: Blobs, key: str, *, most: int = LARGEST_JSON) -> bytes:
    """The bytes of a file, none where it cannot be read: the damage is told by whoever found it."""
    try:
        return blobs.get(key, most=most) or b""
    except ArtifactError:
        return b""


def _row(files: dict[str, bytes], row: int, clips: int, sizes: StoreSizes) -> dict[str, np.ndarray]:
    """(1, *tail) of every array. Raises CorruptError where one cannot be decoded."""
    arrays = {}
    for spec in specs(sizes):
        data = files[spec.name]
        if spec.sharded:
            arrays[spec.name] = decode_clip(spec, data, row, sizes, spec.name)[None]
        else:
            arrays[spec.name] = decode_chunk(spec, data, clips, sizes, spec.name)[row : row + 1]
    return arrays

"""Re-reads every byte of a token store against its digest.

In: a path or URL. Out: one Damage for each file that is not as it was committed, naming the clips that it costs. The
commit records say what each file is to be; they are checked against their own checksums, so nothing here trusts the
metadata that it checks. Repairs nothing; `log/` is no part of the content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.outcomes import Damage
from pipeline.cluster.lookahead import prefetch
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.chunks import decode_chunk, decode_clip
from pipeline.store.commit_records import (
    METADATA_RECORD,
    checked_record,
    clip_digest,
    each_data,
    is_whole,
    read_metadata_record,
    record_key,
    view_shards,
)
from pipeline.store.layout import FORMAT, StoreSizes, chunk_key, specs
from pipeline.store.token_store import TokenStore

AHEAD = 8  # files that are read while the caller looks at one

# a damaged commit record; else a record and a file that it names, or None for all of its clips
Part = Damage | tuple[dict[str, Any], dict[str, Any] | None]


def verify_store(url: str | Path, *, deep: bool = False) -> Iterator[Damage]:
    """Every file of a token store: shards and chunks, commit records, metadata, and the columns of the rows.

    Args:
        deep: also decode every clip and compare its SHA-256, which tells content from content where a checksum only
            tells damage: for stores that have been through other hands. Several times slower.

    Raises:
        ArtifactError: it is none.
    """
    blobs = open_blobs(url)
    told, damage = _metadata(blobs)
    if told is None:
        TokenStore.open(url)  # raises, and says what is there instead
        return
    yield from damage
    sizes = StoreSizes.of(told)
    ids = _ids(blobs, sizes)
    with ThreadPoolExecutor(blobs.threads) as pool:
        parts = _parts(blobs, sizes, told["fingerprint"], ids, deep=deep)
        for part in prefetch(pool, partial(_damaged_or_none, blobs), parts, depth=AHEAD):
            if isinstance(part, Damage):
                yield part
            elif part is not None:
                record, entry = part
                clips = tuple(_damaged_clips(blobs, sizes, record))
                key = f"{blobs.url}/{record_key(record['shard'], record['view'])}"
                if entry is not None:
                    yield Damage(f"{blobs.url}/{entry['key']}", clips, key)
                elif clips:
                    yield Damage(key, clips, key)


def _parts(blobs: Blobs, sizes: StoreSizes, fingerprint: str, ids: list[str], *, deep: bool) -> Iterator[Part]:
    """Damaged commit records, the files that the others name, and the shards whose clips are to be decoded."""
    for view_shard, data in each_data(blobs, view_shards(sizes)):
        try:
            record = checked_record(blobs, data, fingerprint, view_shard)
        except (CorruptError, ArtifactError):
            key, rows = f"{blobs.url}/{record_key(view_shard[1], view_shard[0])}", sizes.rows(view_shard[1])
            yield Damage(key, tuple(ids[rows.start : rows.stop]), key)
            continue
        if record is not None:
            yield from ((record, entry) for entry in record["files"])
            if deep:
                yield record, None


def _damaged_or_none(blobs: Blobs, part: Part) -> Part | None:
    """None for a file that is as it was committed."""
    return None if not isinstance(part, Damage) and part[1] is not None and is_whole(blobs, part[1]) else part


def _metadata(blobs: Blobs) -> tuple[dict[str, Any] | None, list[Damage]]:
    """What the store says of itself (fingerprint, sizes), and which of the files that say so are damaged."""
    of_all = f"{blobs.url}/{METADATA_RECORD}"
    try:
        record = read_metadata_record(blobs)
    except CorruptError:
        record = None
    if record is None:
        return _attributes(blobs), [Damage(of_all, (), of_all)]
    damaged = [entry["key"] for entry in record["files"] if not is_whole(blobs, entry)]
    return record, [Damage(f"{blobs.url}/{key}", (), of_all) for key in damaged]


def _attributes(blobs: Blobs) -> dict[str, Any] | None:
    """The group's own, where there is no record of them."""
    try:
        attributes = json.loads(blobs.get("zarr.json") or b"")["attributes"]
        return dict(attributes) if attributes["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None


def _ids(blobs: Blobs, sizes: StoreSizes) -> list[str]:
    """The clips' ids by row, as far as they can be told."""
    ids = (blobs.get("clips.txt") or b"").decode(errors="replace").splitlines()
    return ids if len(ids) == sizes.clips else [f"row {row}" for row in range(sizes.clips)]


def _damaged_clips(blobs: Blobs, sizes: StoreSizes, record: dict[str, Any]) -> list[str]:
    """Which done clips of a shard cannot be read any more, or give another digest."""
    files = {}
    for spec in specs(sizes):
        key = chunk_key(spec, record["shard"], record["view"])
        files[spec.name] = blobs.get(key) or b""
    damaged = []
    for row, entry in enumerate(record["clips"]):
        if entry["outcome"] != "done":
            continue
        try:
            arrays = _row(files, row, len(record["clips"]), sizes)
            whole = clip_digest(sizes, arrays, 0) == entry["sha256"]
        except CorruptError:
            whole = False
        if not whole:
            damaged.append(entry["id"])
    return damaged


def _row(files: dict[str, bytes], row: int, clips: int, sizes: StoreSizes) -> dict[str, np.ndarray]:
    """(1, *tail) of every array. Raises CorruptError where one of them cannot be decoded."""
    arrays = {}
    for spec in specs(sizes):
        data = files[spec.name]
        if spec.sharded:
            arrays[spec.name] = decode_clip(spec, data, row, sizes, spec.name)[None]
        else:
            arrays[spec.name] = decode_chunk(spec, data, clips, sizes, spec.name)[row : row + 1]
    return arrays

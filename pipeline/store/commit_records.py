"""Commit records of a token store: what is complete, how each clip ended, and the digests of both.

In: Blobs. Out: records as dicts: one for each shard and view, and one for the metadata. Each carries its own checksum
and is put after all files that it names. Nothing here decodes an array.

A shard's record: {"format", "fingerprint", "shard", "view", "files": [{"key", "bytes", "crc64"}], "clips": [{"id",
"outcome", "reason" | "source" and "sha256"}]}. The metadata's: {"format", "fingerprint", "sizes", "dtype", "codec",
"files"}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.artifacts.checksum import crc64
from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs
from pipeline.store.layout import FORMAT, StoreSizes, specs

METADATA_RECORD = "commits/metadata.json"
CONCURRENT_RECORDS = 64  # an object store serves many requests in the time of one

ViewShard = tuple[int, int]  # view, shard


def record_key(view_shard: ViewShard) -> str:
    """The key of a commit record."""
    view, shard = view_shard
    return f"commits/{view:03d}/{shard:05d}.json"


def view_shards(sizes: StoreSizes, views: Iterable[int] | None = None) -> list[ViewShard]:
    """All shards of all views, in the order in which they are made."""
    return [(view, shard) for view in (range(sizes.views) if views is None else views) for shard in range(sizes.shards)]


def each_record(
    blobs: Blobs, fingerprint: str, wanted: Sequence[ViewShard], *, skip_damaged: bool = False
) -> Iterator[tuple[ViewShard, dict[str, Any] | None]]:
    """Commit records in the order of `wanted`, None where one is missing; a few are held at a time.

    With `skip_damaged`, a damaged record counts as missing, so that its shard is made again.

    Raises:
        CorruptError: one is damaged. ArtifactError: it belongs to another store.
    """
    for view_shard, data in each_data(blobs, wanted):
        try:
            record = checked_record(blobs, data, fingerprint, view_shard)
        except CorruptError:
            if not skip_damaged:
                raise
            record = None
        yield view_shard, record


def each_data(blobs: Blobs, wanted: Sequence[ViewShard]) -> Iterator[tuple[ViewShard, bytes | None]]:
    """The unchecked bytes of commit records in the order of `wanted`; a few are held at a time."""
    for first in range(0, len(wanted), CONCURRENT_RECORDS):
        part = wanted[first : first + CONCURRENT_RECORDS]
        yield from zip(part, blobs.get_many([record_key(view_shard) for view_shard in part]), strict=True)


def checked_record(blobs: Blobs, data: bytes | None, fingerprint: str, view_shard: ViewShard) -> dict[str, Any] | None:
    """The record in `data`, or None for None.

    Raises:
        CorruptError: it is damaged. ArtifactError: it belongs to another store, shard or view.
    """
    if data is None:
        return None
    view, shard = view_shard
    item = f"{blobs.url}/{record_key(view_shard)}"
    record = unseal(data, item)
    if (record["fingerprint"], record["shard"], record["view"]) != (fingerprint, shard, view):
        raise ArtifactError(item, "belongs to another store", remedy="delete it and run the same command again")
    return record


def shard_record(
    fingerprint: str, view_shard: ViewShard, files: list[dict[str, Any]], clips: list[dict[str, Any]]
) -> dict[str, Any]:
    """The commit record of a shard and view."""
    view, shard = view_shard
    return {"format": FORMAT, "fingerprint": fingerprint, "shard": shard, "view": view, "files": files, "clips": clips}


def write_record(
    blobs: Blobs, fingerprint: str, view_shard: ViewShard, files: list[dict[str, Any]], clips: list[dict[str, Any]]
) -> None:
    """Commit a shard and view whose files have all been put."""
    blobs.put(record_key(view_shard), seal(shard_record(fingerprint, view_shard, files, clips)))


def read_metadata_record(blobs: Blobs) -> dict[str, Any] | None:
    """The record of the coordinator's files, or None. Raises CorruptError where it is damaged."""
    data = blobs.get(METADATA_RECORD)
    return None if data is None else unseal(data, f"{blobs.url}/{METADATA_RECORD}")


def fingerprint_of_records(blobs: Blobs) -> str | None:
    """The fingerprint in the first whole commit record."""
    for key in blobs.keys("commits"):
        with suppress(CorruptError):
            return str(unseal(blobs.get(key) or b"", key)["fingerprint"])
    return None


def metadata_record(fingerprint: str, sizes: StoreSizes, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The commit record of the metadata."""
    entries = [file_entry(key, data) for key, data in files.items()]
    return {"format": FORMAT, "fingerprint": fingerprint, **sizes.attributes(), "files": entries}


def file_entry(key: str, data: bytes) -> dict[str, Any]:
    """A record's entry for a file: enough to detect damage at the speed of reading."""
    return {"key": key, "bytes": len(data), "crc64": f"{crc64(data):016x}"}


def is_whole(blobs: Blobs, entry: Mapping[str, Any]) -> bool:
    """Whether a file is, byte for byte, the one that was committed."""
    found = blobs.checksum(entry["key"])
    return found is not None and (found[0], f"{found[1]:016x}") == (entry["bytes"], entry["crc64"])


def clip_digest(sizes: StoreSizes, arrays: Mapping[str, np.ndarray], i: int) -> str:
    """SHA-256 over row i of every array but `status`, in the order of `specs`, as little-endian bytes.

    It identifies a clip's tokens whatever the codec, shard or store.
    """
    names = [spec.name for spec in specs(sizes) if spec.name != "status"]
    return sha256(*(np.ascontiguousarray(arrays[name][i]).reshape(-1).view(np.uint8).data for name in names))

"""Commit records of a token store: what is complete, how each clip ended, and the digests of both.

In: Blobs. Out: records as dicts: one for each shard and view, and one for the metadata. Each carries its own checksum
and is put after all files that it names. Which files and rows a record must name follows from the sizes: one that
names others is damaged. Nothing here decodes an array.

A shard's record: {"format", "fingerprint", "shard", "view", "files": [{"key", "bytes", "crc64", "crc32c"}], "clips":
[{"id", "outcome", "reason" | "source" and "sha256"}]}, where "crc32c" holds the checksums of a sharded file's clips, 8
hexadecimal digits each, by which a reader notices a file in another's place. The metadata's: {"format", "fingerprint",
"sizes", "dtype", "codec", "files"}, and while views are added "growing": [entry of the `zarr.json` to come], so that
readers know either. That of a finished store: {"format", "fingerprint", "records"}, the CRC-64 of each
shard's record, by which `verify` notices a shard that came, with its record, from another store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.artifacts.boundary import LARGEST_JSON, BoundaryError
from pipeline.artifacts.checksum import crc64
from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.outcomes import OUTCOMES
from pipeline.artifacts.schema import REMEDY, check, sha256_hex, whole
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs
from pipeline.store.layout import FORMAT, StoreSizes, chunk_key, metadata_keys, specs
from pipeline.store.metadata import GROUP, METADATA_RECORD

HEX = "0123456789abcdef"


def _hex(value: Any) -> bool:
    """16 hexadecimal digits."""
    return isinstance(value, str) and len(value) == 16 and not value.strip(HEX)


FILE = {"key": str, "bytes": whole(), "crc64": _hex}
RECORD = {
    "format": str, "fingerprint": sha256_hex, "shard": whole(), "view": whole(), "files": [FILE],
    "clips": [{"id": str, "outcome": OUTCOMES}],
}  # fmt: skip
OF_CONTENT = {"format": str, "fingerprint": sha256_hex, "records": [_hex]}
OF_METADATA = {"format": str, "fingerprint": sha256_hex, "files": [FILE]}
CONTENT = "commits/content.json"  # written last, and deleted before a shard is made again
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
    blobs: Blobs, fingerprint: str, sizes: StoreSizes, wanted: Sequence[ViewShard], *, skip_damaged: bool = False
) -> Iterator[tuple[ViewShard, dict[str, Any] | None]]:
    """Commit records in the order of `wanted`, None where one is missing; a few are held at a time.

    With `skip_damaged`, a damaged record counts as missing, so that its shard is made again.

    Raises:
        CorruptError: one is damaged. ArtifactError: it belongs to another store.
    """
    for view_shard, data in each_data(blobs, wanted):
        try:
            record = checked_record(blobs, data, fingerprint, sizes, view_shard)
        except CorruptError:
            if not skip_damaged:
                raise
            record = None
        yield view_shard, record


def each_data(blobs: Blobs, wanted: Sequence[ViewShard]) -> Iterator[tuple[ViewShard, bytes | None]]:
    """The unchecked bytes of commit records in the order of `wanted`; a few are held at a time."""
    for first in range(0, len(wanted), CONCURRENT_RECORDS):
        part = wanted[first : first + CONCURRENT_RECORDS]
        keys = [record_key(view_shard) for view_shard in part]
        yield from zip(part, blobs.get_many(keys, most=LARGEST_JSON), strict=True)


def checked_record(
    blobs: Blobs, data: bytes | None, fingerprint: str, sizes: StoreSizes, view_shard: ViewShard
) -> dict[str, Any] | None:
    """The record in `data`, or None for None.

    Raises:
        CorruptError: it is damaged, or does not name exactly the files and rows of its shard. ArtifactError: it belongs
            to another store, shard or view.
    """
    if data is None:
        return None
    view, shard = view_shard
    item = f"{blobs.url}/{record_key(view_shard)}"
    record = unseal(data, item, RECORD)
    if (record["fingerprint"], record["shard"], record["view"]) != (fingerprint, shard, view):
        raise ArtifactError(item, "belongs to another store", remedy="delete it and run the same command again")
    _check_contents(record, sizes, item)
    return record


def _check_contents(record: dict[str, Any], sizes: StoreSizes, item: str) -> None:
    """Raise CorruptError where a record names other files or rows than those of its shard."""
    rows, kept = sizes.rows(record["shard"]), specs(sizes)
    keys = [chunk_key(spec, record["shard"], record["view"]) for spec in kept]
    if [entry["key"] for entry in record["files"]] != keys:
        found = ", ".join(entry["key"] for entry in record["files"][:2]) or "none"
        raise CorruptError(item, "does not name the files of its shard", got=found, expected=keys[0], remedy=REMEDY)
    if len(record["clips"]) != len(rows):
        got, expected = len(record["clips"]), f"{len(rows)} clips"
        raise CorruptError(item, "does not name the clips of its shard", got=got, expected=expected, remedy=REMEDY)
    for spec, entry in zip(kept, record["files"], strict=True):
        if spec.sharded:
            found = entry.get("crc32c")
            if not isinstance(found, str) or len(found) != 8 * len(rows) or found.strip(HEX):
                raise CorruptError(item, "has not one checksum for each clip", remedy=REMEDY)
    for clip in record["clips"]:
        done = clip["outcome"] == "done"
        check(clip, {"sha256": sha256_hex} if done else {"reason": str}, item, "clips")
        if done and not isinstance(clip.get("source", ""), str):
            raise CorruptError(item, "has a wrong source of a clip", remedy=REMEDY)


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
    data, item = blobs.get(METADATA_RECORD, most=LARGEST_JSON), f"{blobs.url}/{METADATA_RECORD}"
    if data is None:
        return None
    record = unseal(data, item, OF_METADATA)
    check(record.get("growing", []), [FILE], item, "growing")
    if [entry["key"] for entry in record["files"]] != metadata_keys(StoreSizes.of(record, blobs.url)):
        raise CorruptError(item, "does not name the metadata of its store", remedy=REMEDY)
    return record


def content_record(fingerprint: str, records: Iterable[int]) -> dict[str, Any]:
    """The record of all shards' records, from their CRC-64 in the order of `view_shards`."""
    return {"format": FORMAT, "fingerprint": fingerprint, "records": [f"{crc:016x}" for crc in records]}


def read_content_record(blobs: Blobs, fingerprint: str, sizes: StoreSizes) -> dict[ViewShard, str]:
    """The CRC-64 of each shard's commit record, as 16 hexadecimal digits; none of an unfinished store.

    Raises:
        CorruptError: it is damaged, or of a store of another fingerprint or size.
    """
    data, item, every = blobs.get(CONTENT, most=LARGEST_JSON), f"{blobs.url}/{CONTENT}", view_shards(sizes)
    if data is None:
        return {}
    record = unseal(data, item, OF_CONTENT)
    if record["fingerprint"] != fingerprint or len(record["records"]) != len(every):
        raise CorruptError(item, "names the records of another store", remedy=REMEDY)
    return dict(zip(every, record["records"], strict=True))


def fingerprint_of_records(blobs: Blobs) -> str | None:
    """The fingerprint in the first whole commit record."""
    for key in blobs.keys("commits"):
        with suppress(CorruptError):
            return str(unseal(blobs.get(key, most=LARGEST_JSON) or b"", key, {"fingerprint": str})["fingerprint"])
    return None


def metadata_record(fingerprint: str, sizes: StoreSizes, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The commit record of the metadata."""
    entries = [file_entry(key, data) for key, data in files.items()]
    return {"format": FORMAT, "fingerprint": fingerprint, **sizes.attributes(), "files": entries}


def file_entry(key: str, data: bytes, clips: Sequence[int] = ()) -> dict[str, Any]:
    """A record's entry for a file: enough to detect damage at the speed of reading.

    `clips` are the checksums of its clips (`pipeline.store.chunks.clip_checksums`).
    """
    entry = {"key": key, "bytes": len(data), "crc64": f"{crc64(data):016x}"}
    return {**entry, "crc32c": "".join(f"{crc:08x}" for crc in clips)} if clips else entry


def matches(entry: Mapping[str, Any], data: bytes) -> bool:
    """Whether `data` are the bytes that were committed."""
    return len(data) == entry["bytes"] and f"{crc64(data):016x}" == entry["crc64"]


def names_group(record: Mapping[str, Any], data: bytes) -> bool:
    """Whether `data` are the group's `zarr.json` of this record of the metadata, before or after views are added."""
    entries = [entry for entry in record["files"] if entry["key"] == GROUP]
    return any(matches(entry, data) for entry in [*entries, *record.get("growing", [])])


def is_whole(blobs: Blobs, entry: Mapping[str, Any]) -> bool:
    """Whether a file is, byte for byte, the one that was committed; one that the boundary refuses is not."""
    try:
        found = blobs.checksum(entry["key"], entry["bytes"])
    except BoundaryError:
        return False
    return found is not None and f"{found:016x}" == entry["crc64"]


def clip_digest(sizes: StoreSizes, arrays: Mapping[str, np.ndarray], i: int) -> str:
    """SHA-256 over row i of every array but `status`, in the order of `specs`, as little-endian bytes.

    It identifies a clip's tokens whatever the codec, shard or store.
    """
    names = [spec.name for spec in specs(sizes) if spec.name != "status"]
    return sha256(*(np.ascontiguousarray(arrays[name][i]).reshape(-1).view(np.uint8).data for name in names))

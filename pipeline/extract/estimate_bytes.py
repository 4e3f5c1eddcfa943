"""How large a token store becomes, before it is made.

In: a prepared folder, the store's sizes and attributes. Out: the bytes of every file; under a codec an
upper bound. Computes no token and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.sealed_json import seal
from pipeline.extract.shard import entry_of
from pipeline.prepare.folder import PreparedFolder
from pipeline.store.chunks import file_bytes
from pipeline.store.commit_records import (
    CONTENT,
    METADATA_RECORD,
    content_record,
    metadata_record,
    shard_record,
    view_shards,
)
from pipeline.store.layout import StoreSizes, chunk_key, encode_metadata, specs


def rows_done(folder: PreparedFolder, shard: int) -> list[int]:
    """The rows of a shard whose clips are to be computed."""
    record = folder.record(shard)
    return [] if record is None else [row for row, clip in enumerate(record["clips"]) if clip["outcome"] == "done"]


def file_sizes(folder: PreparedFolder, sizes: StoreSizes, attributes: Mapping[str, Any]) -> dict[str, int]:
    """The bytes of every file of the store but for `log/`, by key; an upper bound under a codec.

    `attributes` are the store's, with its "fingerprint".
    """
    fingerprint = attributes["fingerprint"]
    files = encode_metadata(sizes, list(folder.listing.records), attributes)
    found = {key: len(data) for key, data in files.items()}
    found[METADATA_RECORD] = len(seal(metadata_record(fingerprint, sizes, files)))
    for shard in range(sizes.shards):
        clips = len(sizes.rows(shard))
        record = folder.record(shard)
        clip_entries = [] if record is None else [entry_of(clip) for clip in record["clips"]]
        # as long as those that the commit record will hold
        entries = [{**e, "sha256": "0" * 64} if e["outcome"] == "done" else e for e in clip_entries]
        for view in range(sizes.views):
            files_named = []
            for spec in specs(sizes):
                key = chunk_key(spec, shard, view)
                found[key] = file_bytes(spec, clips, sizes)
                entry = {"key": key, "bytes": found[key], "crc64": "0" * 16}
                files_named.append({**entry, "crc32c": "0" * 8 * clips} if spec.sharded else entry)
            found[f"commits/{view}/{shard}"] = len(seal(shard_record(fingerprint, (view, shard), files_named, entries)))
    found[CONTENT] = len(seal(content_record(fingerprint, [0] * len(view_shards(sizes)))))
    return found

"""What the metadata of a token store say, each file of them compared with its commit record as it is read.

In: Blobs. Out: attributes, sizes, and columns (N,), or an error where a file is not the one that was committed, however
whole it is. The arrays' files are compared with the records of their shards, by `pipeline.store.clip_reader`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import CorruptError
from pipeline.store.blobs import Blobs
from pipeline.store.blobs_local import LARGEST_BLOB
from pipeline.store.chunks import column_bytes, decode_column
from pipeline.store.commit_records import matches, names_group, read_metadata_record
from pipeline.store.layout import StoreSizes
from pipeline.store.metadata import GROUP, METADATA_RECORD, description_of, require_group

TRIES = 3  # views may be added between the reading of `zarr.json` and of its record
AGAIN = "run the same `star extract-tokens` again, which makes it anew, or restore it from a copy"


class Description(NamedTuple):
    """Attributes and sizes of a store, and the commit record's entry for each file of the metadata, by key."""

    attributes: dict[str, Any]
    sizes: StoreSizes
    files: dict[str, dict[str, Any]]


def read_description(blobs: Blobs) -> Description:
    """The description of a finished or unfinished store.

    Raises:
        ArtifactError: no token store, or of another format. CorruptError: its `zarr.json` or the commit record of its
            metadata is lost or damaged, or they do not belong together.
    """
    for _ in range(TRIES):
        data = require_group(blobs)
        attributes, sizes = description_of(blobs, data)
        record = read_metadata_record(blobs)
        if record is None:
            raise CorruptError(f"{blobs.url}/{METADATA_RECORD}", "is missing, or was never written", remedy=AGAIN)
        if names_group(record, data):
            return Description(attributes, sizes, {entry["key"]: entry for entry in record["files"]})
    raise CorruptError(f"{blobs.url}/{GROUP}", "is not the one that was committed", remedy=AGAIN)


def read_column(blobs: Blobs, description: Description, name: str) -> np.ndarray:
    """(N,) of a column: integers, or str objects.

    Raises:
        CorruptError: it is missing, damaged, or not the one that was committed.
    """
    clips, key, item = description.sizes.clips, f"{name}/c/0", f"{blobs.url}/{name}"
    data = blobs.get(key, most=column_bytes(name, clips) or LARGEST_BLOB)
    remedy = "restore it from a copy, or run `star retry --damaged`; `star verify` names all other damage"
    if data is None:
        raise CorruptError(item, "cannot be read (its chunk is missing)", remedy=remedy)
    values = decode_column(name, data, clips, item)
    if not matches(description.files[key], data):
        raise CorruptError(item, "is not the column that was committed", remedy=remedy)
    return values

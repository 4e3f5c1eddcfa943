"""The check that a URL holds, or may come to hold, the wanted token store.

In: Blobs, sizes, what the store is to be made from. Out: the attributes of the existing store, None where there is none
yet, or an error that says what differs. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.fingerprint import differences
from pipeline.artifacts.fingerprint import fingerprint as fingerprint_of
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs
from pipeline.store.commit_records import METADATA_RECORD, fingerprint_of_records, read_metadata_record
from pipeline.store.layout import FIRST_KEY, FORMAT, StoreSizes, root_names

SAME_OR_ANOTHER = "use the same options again, or another `out`"


def check_store(blobs: Blobs, *, sizes: StoreSizes, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """The attributes of the existing store, or None where there is none yet.

    Raises:
        ArtifactError: the store was made from something else (the differences are named), or there is no store but
            other files.
    """
    data, fingerprint = blobs.get("zarr.json"), fingerprint_of(made_from)
    if data is None:
        _check_unmade(blobs, sizes, fingerprint)
        return None
    attributes = attributes_of(blobs, data)
    try:
        recorded, recorded_fingerprint = attributes["made_from"], attributes["fingerprint"]
        existing_sizes = StoreSizes.of(attributes, blobs.url)
    except (KeyError, TypeError) as error:
        raise damaged_metadata(blobs) from error
    _check_same(blobs, differences(recorded, made_from, exact=True), existing_sizes, sizes)
    if recorded_fingerprint != fingerprint:
        raise CorruptError(
            f"{blobs.url}/zarr.json",
            "its fingerprint does not match what the store was made from",
            remedy="restore it from a copy; `star verify` names all other damage",
        )
    return attributes


def _check_unmade(blobs: Blobs, sizes: StoreSizes, fingerprint: str) -> None:
    """Raises ArtifactError where there is no `zarr.json`, but other files than those of an unfinished store."""
    names = blobs.names()
    others = [name for name in names if name not in root_names(sizes)]
    found = None if others else fingerprint_of_records(blobs)
    if names and not others and found is None and blobs.get(FIRST_KEY) is None:
        others = names  # the names of a store, but no store was begun here
    if others:
        raise ArtifactError(
            blobs.url, "is not empty and is not a token store", got=", ".join(others[:5]), remedy="choose another `out`"
        )
    if found not in (None, fingerprint):
        raise ArtifactError(
            blobs.url, "holds commit records of a store that was made from something else", remedy=SAME_OR_ANOTHER
        )
    record = read_metadata_record(blobs)
    if record is not None:
        _check_same(blobs, [], StoreSizes.of(record, blobs.url), sizes)


def damaged_metadata(blobs: Blobs) -> CorruptError:
    """The error for a `zarr.json` that cannot be read."""
    return CorruptError(
        f"{blobs.url}/zarr.json",
        "is damaged",
        remedy=f"restore it from a copy, or delete it and {METADATA_RECORD} and run the same command again",
    )


def attributes_of(blobs: Blobs, data: bytes) -> dict[str, Any]:
    """The attributes in a `zarr.json`.

    Raises:
        CorruptError: it is damaged. ArtifactError: it is no token store's.
    """
    try:
        attributes = dict(json.loads(data).get("attributes", {}))
    except (ValueError, TypeError, AttributeError):
        raise damaged_metadata(blobs) from None
    if attributes.get("format") != FORMAT:
        raise ArtifactError(
            blobs.url,
            "is a Zarr group, but not a token store",
            got=attributes.get("format", "no format version"),
            expected=FORMAT,
            remedy="choose another `out`",
        )
    return attributes


def _check_same(blobs: Blobs, lines: list[str], found: StoreSizes, wanted: StoreSizes) -> None:
    """Raises ArtifactError where there are differences: `lines`, or between the sizes."""
    names = ("codec", "clips", "shard_clips", "views")
    left, right = ({name: getattr(sizes, name) for name in names} for sizes in (found, wanted))
    if right["views"] > left["views"]:  # the missing views are appended
        right["views"] = left["views"]
    lines = lines + differences(left, right)
    if lines:
        raise ArtifactError(blobs.url, "was made from something else: " + "; ".join(lines), remedy=SAME_OR_ANOTHER)

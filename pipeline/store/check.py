"""The check that a URL holds, or may come to hold, the wanted token store.

In: Blobs, sizes, what the store is to be made from. Out: the attributes of the existing store, None where there is none
yet, or an error that says what differs. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.artifacts.fingerprint import differences
from pipeline.artifacts.fingerprint import fingerprint as fingerprint_of
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs
from pipeline.store.commit_records import fingerprint_of_records, read_metadata_record
from pipeline.store.layout import FIRST_KEY, StoreSizes, root_names
from pipeline.store.metadata import description_of, read_group, require_group

SAME_OR_ANOTHER = "use the same options again, or another `out`"


def check_store(blobs: Blobs, *, sizes: StoreSizes, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """The attributes of the existing store, or None where there is none yet.

    Raises:
        ArtifactError: the store was made from something else (the differences are named), or there is no store but
            other files.
    """
    data, fingerprint = read_group(blobs), fingerprint_of(made_from)
    if data is None:
        _check_unmade(blobs, sizes, fingerprint)
        return None
    attributes, existing_sizes = description_of(blobs, data)
    _check_same(blobs, differences(attributes["made_from"], made_from, exact=True), existing_sizes, sizes)
    if attributes["fingerprint"] != fingerprint:
        raise CorruptError(
            f"{blobs.url}/zarr.json",
            "its fingerprint does not match what the store was made from",
            remedy="restore it from a copy; `star verify` names all other damage",
        )
    return attributes


def require_store(blobs: Blobs, fingerprint: str) -> None:
    """Raises ArtifactError where there is no token store of this fingerprint, damaged as it may be."""
    found = None
    with suppress(CorruptError):
        record = read_metadata_record(blobs)
        found = None if record is None else record["fingerprint"]
    found = found or fingerprint_of_records(blobs)
    if found is None:
        require_group(blobs)
    _check_fingerprint(blobs, found, fingerprint)


def _check_fingerprint(blobs: Blobs, found: str | None, fingerprint: str) -> None:
    if found not in (None, fingerprint):
        raise ArtifactError(
            blobs.url, "holds commit records of a store that was made from something else", remedy=SAME_OR_ANOTHER
        )


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
    _check_fingerprint(blobs, found, fingerprint)
    record = read_metadata_record(blobs)
    if record is not None:
        _check_same(blobs, [], StoreSizes.of(record, blobs.url), sizes)


def _check_same(blobs: Blobs, lines: list[str], found: StoreSizes, wanted: StoreSizes) -> None:
    """Raises ArtifactError where there are differences: `lines`, or between the sizes."""
    names = ("codec", "clips", "shard_clips", "views")
    left, right = ({name: getattr(sizes, name) for name in names} for sizes in (found, wanted))
    if right["views"] > left["views"]:  # the missing views are appended
        right["views"] = left["views"]
    lines = lines + differences(left, right)
    if lines:
        raise ArtifactError(blobs.url, "was made from something else: " + "; ".join(lines), remedy=SAME_OR_ANOTHER)

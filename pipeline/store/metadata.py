"""The Zarr metadata of a token store, read as ours alone.

In: the bytes of a group's `zarr.json`. Out: its attributes and the store's sizes, or an error. The arrays' metadata in
it must be those that follow from the sizes: no other shape, type or codec of a stranger reaches zarr. The metadata are
written by `pipeline.store.layout`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import zarr
from zarr.storage import MemoryStore

from pipeline.artifacts.boundary import LARGEST_JSON
from pipeline.artifacts.schema import check, names, parse_json, sha256_hex
from pipeline.errors import ArtifactError, CorruptError
from pipeline.store.blobs import Blobs
from pipeline.store.layout import COLUMNS, FORMAT, NAMES, StoreSizes, create_array, create_column, specs

METADATA_RECORD = "commits/metadata.json"
GROUP = "zarr.json"
ATTRIBUTES = {
    "fingerprint": sha256_hex, "made_from": dict, "dataset": str, "topology": str, "class_names": names,
    "joint_names": names, "protocols": names,
}  # fmt: skip
COMPARED = (
    "zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs",
    "storage_transformers",
)  # fmt: skip


def read_group(blobs: Blobs) -> bytes | None:
    """The bytes of the group's `zarr.json`, or None."""
    return blobs.get(GROUP, most=LARGEST_JSON)


def require_group(blobs: Blobs) -> bytes:
    """The bytes of the group's `zarr.json`. Raises ArtifactError where there is no token store."""
    data = read_group(blobs)
    if data is None:
        raise ArtifactError(
            blobs.url,
            blobs.describe_root(),
            expected="a token store made by `star extract-tokens`",
            remedy="run `star extract-tokens` first and give its store here",
        )
    return data


def damaged_metadata(blobs: Blobs, problem: str) -> CorruptError:
    """The error for a `zarr.json` that is not as this program writes it."""
    return CorruptError(
        f"{blobs.url}/{GROUP}",
        f"is damaged: it {problem}",
        remedy=f"restore it from a copy, or delete it and {METADATA_RECORD} and run the same command again",
    )


def attributes_of(blobs: Blobs, data: bytes) -> dict[str, Any]:
    """The attributes in a `zarr.json`, of the right types.

    Raises:
        CorruptError: it is damaged. ArtifactError: it is no token store's, or of another format.
    """
    attributes = _document(blobs, data).get("attributes", {})
    found = attributes.get("format") if isinstance(attributes, dict) else None
    if found != FORMAT:
        ours = isinstance(found, str) and found.startswith("star-tokens/")
        raise ArtifactError(
            blobs.url,
            "is a token store of another format" if ours else "is a Zarr group, but not a token store",
            got=found if ours else "a Zarr group without a format version",
            expected=FORMAT,
            remedy="make it again with `star extract-tokens` into another folder" if ours else "choose another `out`",
        )
    try:
        check(attributes, ATTRIBUTES, GROUP)
    except CorruptError as error:
        raise damaged_metadata(blobs, error.problem) from None
    return dict(attributes)


def description_of(blobs: Blobs, data: bytes) -> tuple[dict[str, Any], StoreSizes]:
    """Attributes and sizes in a `zarr.json` whose arrays are those of a store of these sizes.

    Raises:
        CorruptError: it is damaged. ArtifactError: it is no token store's, or of another format.
    """
    attributes = attributes_of(blobs, data)
    try:
        sizes = StoreSizes.of(attributes, blobs.url)
    except CorruptError as error:
        raise damaged_metadata(blobs, error.problem) from None
    _require_own_arrays(blobs, data, sizes)
    if len(attributes["joint_names"]) != sizes.joints:
        raise damaged_metadata(blobs, "names other joints than the store holds")
    return attributes, sizes


def _document(blobs: Blobs, data: bytes) -> dict[str, Any]:
    try:
        document = parse_json(data, GROUP)
    except CorruptError as error:
        raise damaged_metadata(blobs, error.problem) from None
    if not isinstance(document, dict):
        raise damaged_metadata(blobs, "holds no description of a group")
    return document


def _require_own_arrays(blobs: Blobs, data: bytes, sizes: StoreSizes) -> None:
    """Raise CorruptError where the arrays in a `zarr.json` are not those of a store of these sizes."""
    document = _document(blobs, data)
    if (document.get("zarr_format"), document.get("node_type")) != (3, "group"):
        raise damaged_metadata(blobs, "describes no Zarr group of version 3")
    held = document.get("consolidated_metadata")
    arrays = held.get("metadata") if isinstance(held, dict) else None
    expected = expected_arrays(sizes)
    if not isinstance(arrays, dict) or arrays.keys() != expected.keys():
        raise damaged_metadata(blobs, "does not name the arrays of a token store")
    for name, array in expected.items():
        if not isinstance(arrays[name], dict) or _compared(arrays[name]) != array:
            raise damaged_metadata(blobs, f"describes {name} otherwise than the store's sizes do")


@functools.lru_cache(maxsize=8)
def expected_arrays(sizes: StoreSizes) -> dict[str, Any]:
    """What decides how an array is read, by name: shape, type, chunks, codecs."""
    memory: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(memory))
    for spec in specs(sizes):
        create_array(group, spec, sizes)
    for name in (*COLUMNS, *NAMES):
        create_column(group, name, sizes.clips)
    found = {key.rpartition("/")[0]: value for key, value in memory.items() if key != GROUP}
    return {name: _compared(json.loads(value.to_bytes())) for name, value in found.items()}


def _compared(array: Mapping[str, Any]) -> Any:
    return _plain({name: array[name] for name in COMPARED if array.get(name) not in (None, [])})


def _plain(value: Any) -> Any:
    """Without empty configurations, which versions of zarr write or leave out."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if name != "configuration" or inner}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value

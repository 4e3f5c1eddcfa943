"""The creation of a token store, of its shards, and of further views.

In: sizes, records, what the store is made from; then, for each shard and view, the arrays of its rows. Out: whole files
under the store's keys, the commit record of a shard and view last. A worker writes its own shard's keys and nothing
else; the coordinator writes the metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.artifacts.boundary import LARGEST_JSON
from pipeline.artifacts.checksum import crc64
from pipeline.artifacts.fingerprint import fingerprint as fingerprint_of
from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.outcomes import OUTCOMES
from pipeline.artifacts.sealed_json import seal
from pipeline.config import one_of
from pipeline.errors import ConfigError
from pipeline.records import VideoRecord
from pipeline.store.batches import JOINT_FIELDS
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.check import check_store
from pipeline.store.chunks import clip_checksums, encode_chunk
from pipeline.store.commit_records import (
    CONTENT,
    clip_digest,
    content_record,
    each_data,
    file_entry,
    is_whole,
    metadata_record,
    names_group,
    read_metadata_record,
    view_shards,
    write_record,
)
from pipeline.store.int8 import stored
from pipeline.store.layout import (
    COLUMNS,
    FORMAT,
    StoreSizes,
    chunk_key,
    encode_metadata,
    put_order,
    spec_of,
    specs,
)
from pipeline.store.metadata import GROUP, METADATA_RECORD, attributes_of, read_group


def create_store(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    records: list[VideoRecord],
    made_from: Mapping[str, Any],
    about: Mapping[str, Any],
) -> str:
    """Create the store, or check that the existing one was made from the same; returns the fingerprint.

    An existing store may have fewer views than `sizes`: its metadata change only in `finish_store`.

    Args:
        made_from: all that changes a token's value; its digest is the fingerprint.
        about: dataset, class_names, joint_names, topology, protocols and versions, for readers.

    Raises:
        ArtifactError: as `check_store`. ConfigError: as `require_columns`.
    """
    require_columns(blobs, records)
    existing = check_store(blobs, sizes=sizes, made_from=made_from)
    if existing is None:
        _put_metadata(blobs, sizes, records, _attributes(made_from, about))
    elif read_metadata_record(blobs) is None:  # stopped between the metadata and their record
        _put_metadata(blobs, StoreSizes.of(existing, blobs.url), records, _attributes(made_from, about))
    return fingerprint_of(made_from)


def finish_store(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    records: list[VideoRecord],
    made_from: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Set the number of views in the metadata, once all views are committed, and name all commit records in one file.

    What is there and whole is not rewritten.
    """
    data, record = read_group(blobs), read_metadata_record(blobs)
    # the record and its files too: an earlier attempt may have been stopped while it wrote them
    whole = record is not None and all(is_whole(blobs, entry) for entry in record["files"])
    if record is None or not whole or StoreSizes.of(record, blobs.url) != sizes or "growing" in record:
        # what is not the one of its record is not sealed by a new one
        own = data is not None and record is not None and names_group(record, data)
        attributes = attributes_of(blobs, data) if own and data is not None else _attributes(made_from, about)
        _put_metadata(blobs, sizes, records, attributes, record)
    if blobs.get(CONTENT, most=LARGEST_JSON) is None:
        found = [crc64(data or b"") for _, data in each_data(blobs, view_shards(sizes))]
        blobs.put(CONTENT, seal(content_record(fingerprint_of(made_from), found)))


def require_columns(blobs: Blobs, records: list[VideoRecord]) -> None:
    """Raise ConfigError where a number of a record does not fit its column."""
    for name, dtype in COLUMNS.items():
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        for record in records:
            if not least <= getattr(record, name) <= most:
                raise ConfigError(
                    f"{record.clip_id}: {name}",
                    f"does not fit the column {name} of {blobs.url}",
                    got=getattr(record, name),
                    expected=f"{least} to {most}",
                    remedy="number them otherwise and prepare the data again",
                )


def _attributes(made_from: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "fingerprint": fingerprint_of(made_from), "made_from": dict(made_from), **about}


def put_shard(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    shard: int,
    view: int,
    arrays: Mapping[str, np.ndarray],
    clips: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Put the chunks of one shard and view; returns "files" and "clips" for their commit record.

    Args:
        arrays: by name, (n, *tail) for the shard's n rows, as stored (`pipeline.store.int8`); `status` is derived.
        clips: for each row {"id", "outcome", and "reason" or "source"}; "sha256" is added to done ones without it.
    """
    arrays = {**arrays, "status": np.asarray([OUTCOMES.index(clip["outcome"]) for clip in clips], np.uint8)}
    entries = [dict(clip) for clip in clips]
    for i, entry in enumerate(entries):
        if entry["outcome"] == "done" and "sha256" not in entry:
            entry["sha256"] = clip_digest(sizes, arrays, i)
    files = []
    for spec in specs(sizes):
        assert len(arrays[spec.name]) == len(clips), spec.name
        data = encode_chunk(spec, arrays[spec.name], sizes)
        key = chunk_key(spec, shard, view)
        blobs.put(key, data)
        files.append(file_entry(key, data, clip_checksums(spec, data, len(clips), sizes)))
    return files, entries


def write_arrays(
    url: str | Path,
    *,
    gg: np.ndarray,
    jm: np.ndarray,
    joint_mask: np.ndarray,
    records: list[VideoRecord],
    class_names: Sequence[str],
    dataset: str,
    topology: str = "ntu25",
    shard_clips: int = 64,
    codec: str = "none",
    dtype: str = "float16",
    joints: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> None:
    """A complete store from tokens in memory: gg (N, K, T, P, D), jm (N, K, T, V, D'), joint_mask (N, K, T, V).

    For tokens from another program; frames are numbered 0 to T - 1, all clips are done.

    Args:
        joints: as `TokenStore.read_joints` gives them, but (N, K, M, T, V, ...), by name; those left out are unknown.

    Raises:
        ConfigError: the shapes of arrays, records and topology do not match.
    """
    joint_names = manifest.topology(topology).joint_names
    n, k, t, p, d = gg.shape
    v = len(joint_names)
    if jm.shape[:4] != (n, k, t, v) or joint_mask.shape != (n, k, t, v) or len(records) != n:
        raise ConfigError(
            "the arrays",
            "have shapes that do not match",
            got=f"gg {gg.shape}, jm {jm.shape}, joint_mask {joint_mask.shape}, {len(records)} records",
            expected=f"(N, K, T, P, D), (N, K, T, {v}, D'), (N, K, T, {v}), N",
        )
    sizes = StoreSizes(
        clips=n, views=k, shard_clips=shard_clips, persons=2, frames=t, joints=v, cells=p, gg_channels=d,
        jm_channels=jm.shape[4], dtype=dtype, codec=codec,
    )  # fmt: skip
    about = {
        "dataset": dataset,
        "class_names": list(class_names),
        "topology": topology,
        "joint_names": list(joint_names),
        "protocols": list(manifest.protocols(dataset)),
    }
    given = {name: np.asarray(array, np.float32) for name, array in joints.items()}
    for name, array in given.items():
        one_of("joints", name, JOINT_FIELDS)
        expected = (n, k, *spec_of(sizes, name).tail)
        if array.shape != expected:
            raise ConfigError(f"joints: {name}", "is of another shape", got=array.shape, expected=expected)
    contents = [np.ascontiguousarray(array) for array in (gg, jm, joint_mask, *given.values())]
    made_from = {"arrays": sha256(*(array.reshape(-1).view(np.uint8).data for array in contents)), "dtype": dtype}
    blobs = open_blobs(url)
    fingerprint = create_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about)
    for view, shard in view_shards(sizes):
        rows = np.asarray(sizes.rows(shard))
        arrays = {
            **{spec.name: spec.blank(len(rows)) for spec in specs(sizes)},
            **stored("gg", gg[rows, view].astype(np.float16), dtype),
            **stored("jm", jm[rows, view].astype(np.float16), dtype),
            "joint_mask": joint_mask[rows, view].astype(bool),
            "frame_index": np.tile(np.arange(sizes.frames, dtype=np.int64), (len(rows), 1)),
            "persons": np.ones(len(rows), np.uint8),
            **{name: array[rows, view] for name, array in given.items()},
        }
        clips = [{"id": records[row].clip_id, "outcome": "done"} for row in rows]
        files, entries = put_shard(blobs, sizes=sizes, shard=shard, view=view, arrays=arrays, clips=clips)
        write_record(blobs, fingerprint, (view, shard), files, entries)
    finish_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about)


def _put_metadata(
    blobs: Blobs,
    sizes: StoreSizes,
    records: list[VideoRecord],
    attributes: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
) -> None:
    """`before` is the record of the metadata that are replaced."""
    files = encode_metadata(sizes, records, attributes)
    if before is not None:
        blobs.put(METADATA_RECORD, seal({**before, "growing": [file_entry(GROUP, files[GROUP])]}))
    order = put_order(files)
    for key, found in zip(order, blobs.get_many(order), strict=True):
        if found != files[key]:  # files that stay the same are not touched while readers use them
            blobs.put(key, files[key])
    blobs.put(METADATA_RECORD, seal(metadata_record(attributes["fingerprint"], sizes, files)))

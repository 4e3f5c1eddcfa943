"""Makes a token store, lets it grow by views, and commits its shards.

In: sizes, records, what the store is made from; then, for each shard and view, the arrays of its rows. Out: keys of the
store, whole ones only, the commit record of a shard and view last. A worker writes its own shard's keys and nothing
else; metadata are the coordinator's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.account import OUTCOMES
from pipeline.blobs import Blobs, open_blobs
from pipeline.commit import sha256
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from pipeline.fingerprint import differences, fingerprint
from pipeline.records import VideoRecord
from pipeline.store_chunks import encode_chunk
from pipeline.store_int8 import stored
from pipeline.store_layout import FORMAT, StoreSizes, chunk_key, encode_metadata, specs
from pipeline.store_records import (
    METADATA_RECORD,
    clip_digest,
    file_entry,
    is_whole,
    places,
    read_metadata_record,
    write_metadata_record,
    write_record,
)


def create_store(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    records: list[VideoRecord],
    made_from: Mapping[str, Any],
    about: Mapping[str, Any],
) -> str:
    """Create the store, or check that the one that is there was made from the same; returns the fingerprint.

    A store that is there may have fewer views than `sizes`: it keeps saying so until `grow_views`.

    Args:
        made_from: all that changes a token's value; its digest is the fingerprint.
        about: dataset, class_names, joint_names, topology, protocols and versions, for readers.

    Raises:
        ArtifactError: there is a store made from something else (the differences are named), or something else.
    """
    attributes = check_store(blobs, sizes=sizes, made_from=made_from)
    stamp = fingerprint(made_from)
    if attributes is None:
        attributes = {"format": FORMAT, "fingerprint": stamp, "made_from": dict(made_from), **about}
        _put_metadata(blobs, sizes, records, attributes)
    elif read_metadata_record(blobs) is None:  # the end came between the last of them and their record
        _put_metadata(blobs, StoreSizes.of(attributes), records, attributes)
    return stamp


def check_store(blobs: Blobs, *, sizes: StoreSizes, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """The attributes of the store that is there, or None where there is none yet; writes nothing.

    Raises:
        ArtifactError: as `create_store`.
    """
    data = blobs.get("zarr.json")
    if data is None:
        if blobs.get("clips.txt") is None and not blobs.is_empty():
            raise ArtifactError(blobs.url, "is not empty and is no token store", remedy="choose another --out")
        return None
    attributes = _attributes(blobs, data)
    try:
        before, there = attributes["made_from"], StoreSizes.of(attributes)
    except (KeyError, TypeError) as error:
        raise damaged_metadata(blobs) from error
    _check_same(blobs, before, made_from, there, sizes)
    return attributes


def grow_views(blobs: Blobs, *, sizes: StoreSizes, records: list[VideoRecord]) -> None:
    """Let a store say that it has `sizes.views` views, once all of them are committed; nothing else is rewritten."""
    data, record = blobs.get("zarr.json"), read_metadata_record(blobs)
    assert data is not None
    attributes = _attributes(blobs, data)
    # the record and its files too: an earlier attempt, at other views perhaps, may have ended among them
    whole = record is not None and StoreSizes.of(record) == sizes and all(is_whole(blobs, e) for e in record["files"])
    if StoreSizes.of(attributes) != sizes or not whole:
        _put_metadata(blobs, sizes, records, attributes)


def commit_shard(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    stamp: str,
    shard: int,
    view: int,
    arrays: Mapping[str, np.ndarray],
    clips: Sequence[Mapping[str, Any]],
) -> None:
    """Put the chunks of one shard and view, then its commit record.

    Args:
        arrays: by name, (n, *tail) for the shard's n rows, as stored (`pipeline.store_int8`); `status` is derived.
        clips: for each row {"id", "outcome", and "reason" or "source"}; a done one without "sha256" is given it.
    """
    status = np.asarray([OUTCOMES.index(clip["outcome"]) for clip in clips], np.uint8)
    arrays = {**arrays, "status": status}
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
        files.append(file_entry(key, data))
    write_record(blobs, stamp, (view, shard), files, entries)


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
) -> None:
    """A complete store from tokens in memory: gg (N, K, T, P, D), jm (N, K, T, V, D'), joint_mask (N, K, T, V).

    For tokens that were made elsewhere; joints are unknown (NaN), frames are numbered 0 to T - 1, all clips are done.

    Raises:
        ConfigError: the arrays' shapes do not belong together, or not to the records or the topology.
    """
    joint_names = manifest.topology(topology).joint_names
    sizes = _sizes_of(gg, jm, joint_mask, len(records), len(joint_names), shard_clips, codec, dtype)
    about = {
        "dataset": dataset,
        "class_names": list(class_names),
        "topology": topology,
        "joint_names": list(joint_names),
        "protocols": list(manifest.protocols(dataset)),
    }
    contents = [np.ascontiguousarray(array) for array in (gg, jm, joint_mask)]
    made_from = {"arrays": sha256(*(array.reshape(-1).view(np.uint8).data for array in contents)), "dtype": dtype}
    blobs = open_blobs(url)
    stamp = create_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about)
    for view, shard in places(sizes):
        rows = np.asarray(sizes.rows(shard))
        blank = {spec.name: spec.blank(len(rows)) for spec in specs(sizes)}
        arrays = {
            **blank,
            **stored("gg", gg[rows, view].astype(np.float16), dtype),
            **stored("jm", jm[rows, view].astype(np.float16), dtype),
            "joint_mask": joint_mask[rows, view].astype(bool),
            "frame_index": np.tile(np.arange(sizes.frames, dtype=np.int64), (len(rows), 1)),
            "persons": np.ones(len(rows), np.uint8),
        }
        clips = [{"id": records[row].clip_id, "outcome": "done"} for row in rows]
        commit_shard(blobs, sizes=sizes, stamp=stamp, shard=shard, view=view, arrays=arrays, clips=clips)


def _sizes_of(
    gg: np.ndarray,
    jm: np.ndarray,
    joint_mask: np.ndarray,
    clips: int,
    joints: int,
    shard_clips: int,
    codec: str,
    dtype: str,
) -> StoreSizes:
    n, k, t, p, d = gg.shape
    if jm.shape[:4] != (n, k, t, joints) or joint_mask.shape != (n, k, t, joints) or clips != n:
        raise ConfigError(
            "the arrays",
            "do not belong together",
            got=f"gg {gg.shape}, jm {jm.shape}, joint_mask {joint_mask.shape}, {clips} records",
            expected=f"(N, K, T, P, D), (N, K, T, {joints}, D'), (N, K, T, {joints}), N",
        )
    return StoreSizes(
        clips=n,
        views=k,
        shard_clips=shard_clips,
        persons=2,
        frames=t,
        joints=joints,
        cells=p,
        gg_channels=d,
        jm_channels=jm.shape[4],
        dtype=dtype,
        codec=codec,
    )


def _put_metadata(blobs: Blobs, sizes: StoreSizes, records: list[VideoRecord], attributes: Mapping[str, Any]) -> None:
    files = encode_metadata(sizes, records, attributes)
    for (key, content), found in zip(files.items(), blobs.get_many(list(files)), strict=True):
        if found != content:  # who reads while views are added sees no file change that need not
            blobs.put(key, content)
    write_metadata_record(blobs, attributes["fingerprint"], sizes, files)


def damaged_metadata(blobs: Blobs) -> CorruptError:
    """The sentence for a `zarr.json` that cannot be understood."""
    return CorruptError(
        f"{blobs.url}/zarr.json",
        "is damaged",
        remedy=f"restore it from a copy, or delete it and {METADATA_RECORD} and run the same command again",
    )


def _attributes(blobs: Blobs, data: bytes) -> dict[str, Any]:
    try:
        attributes = dict(json.loads(data).get("attributes", {}))
    except (ValueError, TypeError, AttributeError):
        raise damaged_metadata(blobs) from None
    if attributes.get("format") != FORMAT:
        raise ArtifactError(
            blobs.url,
            "is a Zarr group, but no token store",
            got=attributes.get("format", "no format version"),
            expected=FORMAT,
            remedy="choose another --out",
        )
    return attributes


def _check_same(
    blobs: Blobs,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    sizes_found: StoreSizes,
    sizes_wanted: StoreSizes,
) -> None:
    lines = differences(found, wanted)
    names = ("codec", "clips", "shard_clips", "views")
    left, right = ({name: getattr(sizes, name) for name in names} for sizes in (sizes_found, sizes_wanted))
    if right["views"] > left["views"]:  # the others are appended
        right["views"] = left["views"]
    lines += differences(left, right)
    if lines:
        raise ArtifactError(
            blobs.url,
            "was made from something else: " + "; ".join(lines),
            remedy="use the same options again, or another --out",
        )

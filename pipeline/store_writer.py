"""Makes a token store and commits its shards.

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
from pipeline.commit import seal, sha256, unseal
from pipeline.errors import ArtifactError, CorruptError
from pipeline.fingerprint import differences, fingerprint
from pipeline.records import VideoRecord
from pipeline.store_layout import FORMAT, StoreSizes, chunk_key, encode_chunk, encode_store, specs


def create_store(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    records: list[VideoRecord],
    made_from: Mapping[str, Any],
    about: Mapping[str, Any],
    codec: str = "none",
) -> str:
    """Create the store, or check that the one that is there was made from the same; returns the fingerprint.

    Args:
        made_from: all that changes a token's value; its digest is the fingerprint.
        about: dataset, class_names, joint_names, topology, protocols and versions, for readers.

    Raises:
        ArtifactError: there is a store made from something else (the differences are named), or something else.
    """
    stamp = fingerprint(made_from)
    data = blobs.get("zarr.json")
    if data is not None:
        _check_same(blobs, _attributes(blobs, data), made_from, sizes, codec)
        return stamp
    if isinstance(getattr(blobs, "root", None), Path) and blobs.keys("") and blobs.get("clips.txt") is None:
        raise ArtifactError(blobs.url, "is not empty and is no token store", remedy="choose another --out")
    attributes = {
        "format": FORMAT,
        "fingerprint": stamp,
        "made_from": dict(made_from),
        "codec": codec,
        "sizes": {name: getattr(sizes, name) for name in StoreSizes.__dataclass_fields__},
        **about,
    }
    for key, content in encode_store(sizes, records, attributes, codec=codec).items():
        blobs.put(key, content)
    return stamp


def record_key(shard: int, view: int) -> str:
    """Where the commit record of a shard and view lies."""
    return f"commits/{view:03d}/{shard:05d}.json"


def commit_shard(
    blobs: Blobs,
    *,
    sizes: StoreSizes,
    stamp: str,
    shard: int,
    view: int,
    arrays: Mapping[str, np.ndarray],
    clips: Sequence[Mapping[str, Any]],
    codec: str = "none",
) -> None:
    """Put the chunks of one shard and view, then its commit record.

    Args:
        arrays: by name, (n, *tail) for the shard's n rows; `status` is derived from `clips`.
        clips: for each row {"id", "outcome", and "reason" or "source"}; digests are added here.
    """
    status = np.asarray([OUTCOMES.index(clip["outcome"]) for clip in clips], np.uint8)
    arrays = {**arrays, "status": status}
    entries = [dict(clip) for clip in clips]
    for i, entry in enumerate(entries):
        if entry["outcome"] == "done":
            entry["sha256"] = clip_digest(arrays, i)
    files = {}
    for spec in specs(sizes):
        array = arrays[spec.name]
        assert array.shape == (len(clips), *spec.tail), (spec.name, array.shape)
        data = encode_chunk(spec, array, shard_clips=sizes.shard_clips, codec=codec)
        key = chunk_key(spec, shard, view)
        blobs.put(key, data)
        files[key] = {"bytes": len(data), "sha256": sha256(data)}
    record = {
        "format": FORMAT,
        "fingerprint": stamp,
        "shard": shard,
        "view": view,
        "files": files,
        "clips": entries,
    }
    blobs.put(record_key(shard, view), seal(record))


def clip_digest(arrays: Mapping[str, np.ndarray], i: int) -> str:
    """SHA-256 over one row's gg, jm, joint_mask, joints and frame_index, as little-endian bytes."""
    return sha256(
        *(
            np.ascontiguousarray(arrays[name][i]).tobytes()
            for name in ("gg", "jm", "joint_mask", "joints", "frame_index")
        )
    )


def read_record(blobs: Blobs, stamp: str, shard: int, view: int) -> dict[str, Any] | None:
    """A commit record, or None where the shard and view are not committed.

    Raises:
        CorruptError: it is damaged, or belongs to another store.
    """
    key = record_key(shard, view)
    data = blobs.get(key)
    if data is None:
        return None
    record = unseal(data, f"{blobs.url}/{key}")
    if (record["fingerprint"], record["shard"], record["view"]) != (stamp, shard, view):
        raise CorruptError(
            f"{blobs.url}/{key}", "belongs to another store", remedy="delete it and run the same command again"
        )
    return record


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
) -> None:
    """A complete store from tokens in memory: gg (N, K, T, P, D), jm (N, K, T, V, D'), joint_mask (N, K, T, V).

    For tokens that were made elsewhere; joints are unknown (NaN), all clips are done.
    """
    n, k, t, p, d = gg.shape
    sizes = StoreSizes(
        clips=n,
        views=k,
        shard_clips=shard_clips,
        persons=2,
        frames=t,
        joints=jm.shape[3],
        cells=p,
        gg_channels=d,
        jm_channels=jm.shape[4],
    )
    blobs = open_blobs(url)
    about = {
        "dataset": dataset,
        "class_names": list(class_names),
        "topology": topology,
        "joint_names": list(manifest.topology(topology).joint_names),
        "protocols": list(manifest.protocols(dataset)),
    }
    made_from = {"arrays": sha256(gg.tobytes(), jm.tobytes(), joint_mask.tobytes())}
    stamp = create_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about, codec=codec)
    for view in range(k):
        for shard in range(sizes.shards):
            rows = np.asarray(sizes.rows(shard))
            arrays = {
                "gg": gg[rows, view].astype(np.float16),
                "jm": jm[rows, view].astype(np.float16),
                "joint_mask": joint_mask[rows, view].astype(bool),
                "joints": np.full((len(rows), 2, t, sizes.joints, 2), np.nan, np.float32),
                "frame_index": np.tile(np.arange(t, dtype=np.int64), (len(rows), 1)),
                "persons": np.ones(len(rows), np.uint8),
            }
            clips = [{"id": records[row].clip_id, "outcome": "done"} for row in rows]
            commit_shard(
                blobs, sizes=sizes, stamp=stamp, shard=shard, view=view, arrays=arrays, clips=clips, codec=codec
            )


def _attributes(blobs: Blobs, data: bytes) -> dict[str, Any]:
    try:
        attributes = json.loads(data)["attributes"]
    except (ValueError, KeyError, TypeError):
        attributes = {}
    if attributes.get("format") != FORMAT:
        raise ArtifactError(
            blobs.url, "is a Zarr group, but no token store", expected=FORMAT, remedy="choose another --out"
        )
    return attributes


def _check_same(
    blobs: Blobs, attributes: Mapping[str, Any], made_from: Mapping[str, Any], sizes: StoreSizes, codec: str
) -> None:
    lines = differences(attributes["made_from"], made_from)
    wanted = {"codec": codec, "views": sizes.views, "shard_clips": sizes.shard_clips, "clips": sizes.clips}
    found = {"codec": attributes["codec"], **{name: attributes["sizes"][name] for name in list(wanted)[1:]}}
    lines += differences(found, wanted)
    if lines:
        raise ArtifactError(
            blobs.url,
            "was made from something else: " + "; ".join(lines),
            remedy="use the same options again, or another --out",
        )

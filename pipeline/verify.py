"""Re-reads every byte of a token store against its digest.

In: a path or URL. Out: one Damage for each thing that is not as it was committed, naming the clips it holds. Repairs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.blobs import Blobs, open_blobs
from pipeline.commit import sha256
from pipeline.errors import CorruptError
from pipeline.store import TokenStore
from pipeline.store_layout import chunk_key, encode_store, specs
from pipeline.store_writer import clip_digest, read_record, record_key
from pipeline.verify_prepared import Damage


def verify_store(url: str | Path) -> Iterator[Damage]:
    """Every key of a token store: shards and chunks, commit records, metadata, and the columns of the rows.

    Raises:
        ArtifactError: it is none.
    """
    store = TokenStore.open(url)
    blobs = open_blobs(url)
    yield from _metadata(store, blobs)
    for view in range(store.sizes.views):
        for shard in range(store.sizes.shards):
            yield from _shard(store, blobs, shard, view)


def _metadata(store: TokenStore, blobs: Blobs) -> Iterator[Damage]:
    """What the coordinator wrote is a function of the records and attributes: write it again and compare."""
    expected = encode_store(store.sizes, store.records(), store.attrs, codec=store.attrs["codec"])
    for key, data in expected.items():
        if blobs.get(key) != data:
            yield Damage(f"{blobs.url}/{key}", ())


def _shard(store: TokenStore, blobs: Blobs, shard: int, view: int) -> Iterator[Damage]:
    rows = store.sizes.rows(shard)
    try:
        record = read_record(blobs, store.attrs["fingerprint"], shard, view)
    except CorruptError:
        yield Damage(f"{blobs.url}/{record_key(shard, view)}", tuple(store.clip_ids[rows.start : rows.stop].tolist()))
        return
    if record is None:
        return
    for spec in specs(store.sizes):
        key = chunk_key(spec, shard, view)
        data = blobs.get(key)
        if data is None or sha256(data) != record["files"][key]["sha256"]:
            yield Damage(f"{blobs.url}/{key}", _clips_of(store, record, spec.name, shard, view))


def _clips_of(store: TokenStore, record: dict, name: str, shard: int, view: int) -> tuple[str, ...]:
    """Which clips a damaged file costs: those whose arrays cannot be read or give another digest."""
    rows = store.sizes.rows(shard)
    damaged = []
    for i, entry in enumerate(record["clips"]):
        if entry["outcome"] != "done":
            continue
        try:
            arrays = {
                array: np.asarray(store._array(array)[rows[i] : rows[i] + 1, view])
                for array in ("gg", "jm", "joint_mask", "joints", "frame_index")
            }
            whole = clip_digest(arrays, 0) == entry["sha256"]
        except (ValueError, RuntimeError, OSError):
            whole = False
        if not whole:
            damaged.append(entry["id"])
    return tuple(damaged)

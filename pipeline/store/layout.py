"""The layout of a token store: names, axes, types and codecs of its arrays, keys of its files, and its metadata.

In: sizes, records, attributes. Out: {key: bytes} of a Zarr v3 group that plain `zarr.open` reads; chunks are encoded by
`pipeline.store.chunks`, metadata by zarr itself. Writes nothing.

Axes: N clips, K views, M persons, T frames, V joints, P grid cells, D and D' channels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from pipeline.artifacts.schema import check, whole
from pipeline.config import STORE_CODECS, TOKEN_TYPES
from pipeline.errors import ArtifactError, CorruptError
from pipeline.records import VideoRecord

FORMAT = "star-tokens/3"
COLUMNS = {"label": "int64", "subject": "int32", "camera": "int32", "setup": "int32", "replication": "int32"}
NAMES = ("clip_id", "key", "split")  # columns of text
FIRST_KEY = "camera/zarr.json"  # put before any other: it marks a store that was begun

# No store comes near these limits; without them a few bytes of metadata could claim all memory.
SIZES = {
    "clips": whole(1, 10**9), "views": whole(1, 10**4), "shard_clips": whole(1, 10**5), "persons": whole(1, 100),
    "frames": whole(1, 10**4), "joints": whole(1, 10**4), "cells": whole(1, 10**5), "gg_channels": whole(1, 10**5),
    "jm_channels": whole(1, 10**5),
}  # fmt: skip
MOST_SHARDS, LARGEST_CLIP, LARGEST_SMALL = 10**6, 1 << 31, 1 << 31  # shards and views; bytes; bytes of a shard's chunk


@dataclass(frozen=True, kw_only=True)
class StoreSizes:
    """N, K, the clips in a shard, the lengths of the axes above, and how tokens are stored.

    `dtype` is "float16", or "int8" with a float16 scale for each token; `codec` is "none" or "zstd".
    """

    clips: int
    views: int
    shard_clips: int
    persons: int
    frames: int
    joints: int
    cells: int
    gg_channels: int
    jm_channels: int
    dtype: str = "float16"
    codec: str = "none"

    @classmethod
    def of(cls, attributes: Mapping[str, Any], url: str) -> StoreSizes:
        """The sizes in the attributes of the store at `url`, or in the commit record of its metadata.

        Raises:
            ArtifactError: a codec that only earlier versions could read. CorruptError: no sizes of a store.
        """
        check(attributes, {"sizes": SIZES, "dtype": TOKEN_TYPES, "codec": str}, url)
        if attributes["codec"] not in STORE_CODECS:
            got, expected = attributes["codec"], " | ".join(STORE_CODECS)
            remedy = "make the store again with `star extract-tokens`"
            raise ArtifactError(url, "has a codec that cannot be read", got=got, expected=expected, remedy=remedy)
        if attributes["sizes"].keys() != SIZES.keys():
            raise CorruptError(url, "has sizes of another store", got=", ".join(attributes["sizes"])[:200])
        sizes = cls(**attributes["sizes"], dtype=attributes["dtype"], codec=attributes["codec"])
        small = max(spec.clip_bytes for spec in specs(sizes) if not spec.sharded) * sizes.shard_clips
        clip = max(spec.clip_bytes for spec in specs(sizes))
        if sizes.shards * sizes.views > MOST_SHARDS or clip > LARGEST_CLIP or small > LARGEST_SMALL:
            raise CorruptError(url, "claims sizes that no store has", got=attributes["sizes"])
        return sizes

    def attributes(self) -> dict[str, Any]:
        """The inverse of `of`."""
        sizes = asdict(self)
        kept = {name: sizes.pop(name) for name in ("dtype", "codec")}
        return {"sizes": sizes, **kept}

    @property
    def shards(self) -> int:
        """Shards of each view."""
        return -(-self.clips // self.shard_clips)

    def rows(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.shard_clips, min((shard + 1) * self.shard_clips, self.clips))


@dataclass(frozen=True)
class ArraySpec:
    """One array (N, K, *tail), with a file for each shard and view.

    A `sharded` file has an inner chunk for each clip, so that clips are read one by one; other files are one chunk.
    """

    name: str
    tail: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]
    fill: float | int | bool = 0
    sharded: bool = False

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip in one view, uncompressed."""
        return math.prod(self.tail) * np.dtype(self.dtype).itemsize

    def blank(self, clips: int) -> np.ndarray:
        """(clips, *tail), all fill value."""
        shape = (clips, *self.tail)
        # zeros cost no memory until they are overwritten
        return np.full(shape, self.fill, self.dtype) if self.fill else np.zeros(shape, self.dtype)


def specs(sizes: StoreSizes) -> list[ArraySpec]:
    """The arrays with an axis of views, in the order in which they are put: `status` last."""
    t, v, m = sizes.frames, sizes.joints, sizes.persons
    return [
        *_tokens("gg", (t, sizes.cells), sizes.gg_channels, ("T", "P", "D"), sizes.dtype),
        *_tokens("jm", (t, v), sizes.jm_channels, ("T", "V", "D'"), sizes.dtype),
        ArraySpec("joint_mask", (t, v), "bool", ("T", "V"), fill=False),
        ArraySpec("joints", (m, t, v, 2), "float32", ("M", "T", "V", "xy"), fill=float("nan"), sharded=True),
        ArraySpec("joint_scores", (m, t, v), "float32", ("M", "T", "V"), sharded=True),
        ArraySpec("xyz", (m, t, v, 3), "float32", ("M", "T", "V", "xyz"), fill=float("nan"), sharded=True),
        ArraySpec("frame_index", (t,), "int64", ("T",), fill=-1),
        ArraySpec("persons", (), "uint8", ()),
        ArraySpec("status", (), "uint8", ()),
    ]


def spec_of(sizes: StoreSizes, name: str) -> ArraySpec:
    """One of `specs` by name."""
    return next(spec for spec in specs(sizes) if spec.name == name)


def _tokens(name: str, grid: tuple[int, int], channels: int, axes: tuple[str, ...], dtype: str) -> list[ArraySpec]:
    arrays = [ArraySpec(name, (*grid, channels), dtype, axes, sharded=True)]
    if dtype == "int8":
        arrays.append(ArraySpec(f"{name}_scale", grid, "float16", axes[:2], sharded=True))
    return arrays


def root_names(sizes: StoreSizes) -> set[str]:
    """Names at the root of a store, except `log`."""
    return {spec.name for spec in specs(sizes)} | {*COLUMNS, *NAMES, "clips.txt", "commits", "zarr.json"}


def chunk_key(spec: ArraySpec, shard: int, view: int) -> str:
    """The key of an array's file for one shard and view."""
    return "/".join([spec.name, "c", str(shard), str(view), *("0" for _ in spec.tail)])


def encode_metadata(sizes: StoreSizes, records: list[VideoRecord], attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Metadata and columns, in the order of the commit record's entries; they are put in `put_order`."""
    memory: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(memory), attributes={**attributes, **sizes.attributes()})
    for spec in specs(sizes):
        create_array(group, spec, sizes)
    for name in (*COLUMNS, *NAMES):
        dtype: Any = COLUMNS.get(name) or np.dtypes.StringDType()
        create_column(group, name, len(records))[:] = np.asarray([getattr(record, name) for record in records], dtype)
    with warnings.catch_warnings():
        # readers that know consolidated metadata need one request instead of sixteen; the others ignore it
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(MemoryStore(memory))
    keys = [key for key in sorted(memory) if key != "zarr.json"] + ["zarr.json"]
    files = {key: memory[key].to_bytes() for key in keys}
    return {"clips.txt": "".join(f"{record.clip_id}\n" for record in records).encode(), **files}


def metadata_keys(sizes: StoreSizes) -> list[str]:
    """The keys that `encode_metadata` gives, in its order."""
    arrays = [f"{spec.name}/zarr.json" for spec in specs(sizes)]
    columns = [f"{name}/{file}" for name in (*COLUMNS, *NAMES) for file in ("c/0", "zarr.json")]
    return ["clips.txt", *sorted(arrays + columns), "zarr.json"]


def put_order(files: Mapping[str, bytes]) -> list[str]:
    """The order in which metadata are put; the last key, the group's `zarr.json`, makes the store exist."""
    between = [key for key in files if "/" in key and key != FIRST_KEY]
    # `clips.txt` is too common a name to identify a store, hence not first
    return [FIRST_KEY, *between, "clips.txt", "zarr.json"]


def create_array(group: zarr.Group, spec: ArraySpec, sizes: StoreSizes) -> zarr.Array[Any]:
    """The array of all clips and views, without any chunk."""
    chunk = (sizes.shard_clips, 1, *spec.tail)
    return group.create_array(
        spec.name,
        shape=(sizes.clips, sizes.views, *spec.tail),
        dtype=spec.dtype,
        chunks=(1, 1, *spec.tail) if spec.sharded else chunk,
        shards=chunk if spec.sharded else None,
        compressors=[ZstdCodec(level=1), Crc32cCodec()] if spec.sharded and sizes.codec == "zstd" else [Crc32cCodec()],
        fill_value=spec.fill,
        dimension_names=["N", "K", *spec.axes],
        config={"write_empty_chunks": True},
    )


def create_column(group: zarr.Group, name: str, clips: int) -> zarr.Array[Any]:
    """A column of all clips, in one chunk, without it."""
    return group.create_array(
        name,
        shape=(clips,),
        dtype=COLUMNS.get(name, str),
        chunks=(clips,),
        compressors=[Crc32cCodec()],  # a flipped label must not train
        dimension_names=["N"],
        config={"write_empty_chunks": True},
    )

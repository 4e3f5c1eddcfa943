"""What lies where in a token store: the arrays' names, axes, types and codecs, and the bytes of one chunk.

In: sizes, records, attributes; or the data of one shard. Out: {key: bytes} for a Zarr v3 group that plain `zarr.open`
reads. All encoding is zarr's own, into memory, so that a shard can be hashed and put whole. Writes nothing itself.

Axes: N clips, K views, M persons, T frames, V joints, P grid cells, D and D' channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

from pipeline.records import VideoRecord

FORMAT = "star-tokens/1"


@dataclass(frozen=True, kw_only=True)
class StoreSizes:
    """N, K, the clips in a shard, and the lengths of the axes above."""

    clips: int
    views: int
    shard_clips: int
    persons: int
    frames: int
    joints: int
    cells: int
    gg_channels: int
    jm_channels: int

    @property
    def shards(self) -> int:
        """Shards of each view."""
        return -(-self.clips // self.shard_clips)

    def rows(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.shard_clips, min((shard + 1) * self.shard_clips, self.clips))


@dataclass(frozen=True)
class ArraySpec:
    """One array (N, K, *tail) that the owner of a shard writes, a file for each shard and view."""

    name: str
    tail: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]
    fill: float | int | bool = 0
    sharded: bool = False  # one inner chunk a clip, so that a clip is read alone


def specs(sizes: StoreSizes) -> list[ArraySpec]:
    """The arrays of a store that hold something for each view; `status` is the last to be written."""
    t, v, m = sizes.frames, sizes.joints, sizes.persons
    return [
        ArraySpec("gg", (t, sizes.cells, sizes.gg_channels), "float16", ("T", "P", "D"), sharded=True),
        ArraySpec("jm", (t, v, sizes.jm_channels), "float16", ("T", "V", "D'"), sharded=True),
        ArraySpec("joint_mask", (t, v), "bool", ("T", "V"), fill=False),
        ArraySpec("joints", (m, t, v, 2), "float32", ("M", "T", "V", "xy"), fill=float("nan")),
        ArraySpec("frame_index", (t,), "int64", ("T",), fill=-1),
        ArraySpec("persons", (), "uint8", ()),
        ArraySpec("status", (), "uint8", ()),
    ]


def chunk_key(spec: ArraySpec, shard: int, view: int) -> str:
    """Where the chunk (or shard file) of one shard and view lies."""
    return "/".join([spec.name, "c", str(shard), str(view), *("0" for _ in spec.tail)])


def encode_chunk(spec: ArraySpec, data: np.ndarray, *, shard_clips: int, codec: str) -> bytes:
    """The bytes of one chunk: `data` (n, *tail) for the n rows of a shard, n <= shard_clips."""
    memory: dict[str, Any] = {}
    shape = (len(data), 1, *spec.tail)
    array = _create(zarr.group(MemoryStore(memory)), spec, shape, shard_clips=shard_clips, codec=codec)
    array[:] = data.reshape(shape)
    return memory[chunk_key(spec, 0, 0)].to_bytes()


def encode_store(
    sizes: StoreSizes, records: list[VideoRecord], attributes: Mapping[str, Any], *, codec: str
) -> dict[str, bytes]:
    """Metadata and the coordinator's arrays; the last key, the group's `zarr.json`, makes the store exist."""
    memory: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(memory), attributes=dict(attributes))
    for spec in specs(sizes):
        _create(group, spec, (sizes.clips, sizes.views, *spec.tail), shard_clips=sizes.shard_clips, codec=codec)
    columns = {
        "label": np.asarray([record.label for record in records], np.int64),
        "subject": np.asarray([record.subject for record in records], np.int32),
        "camera": np.asarray([record.camera for record in records], np.int32),
        "setup": np.asarray([record.setup for record in records], np.int32),
        "replication": np.asarray([record.replication for record in records], np.int32),
    }
    for name, values in columns.items():
        group.create_array(name, data=values, chunks=values.shape, compressors=None, dimension_names=["N"])
    for name in ("clip_id", "key", "split"):
        array = group.create_array(name, shape=(sizes.clips,), dtype=str, chunks=(sizes.clips,), dimension_names=["N"])
        array[:] = np.asarray([getattr(record, name) for record in records], dtype=np.dtypes.StringDType())
    with warnings.catch_warnings():
        # readers that do not know consolidated metadata ignore it; those that do need one request instead of sixteen
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(MemoryStore(memory))
    keys = [key for key in sorted(memory) if key != "zarr.json"] + ["zarr.json"]
    files = {key: memory[key].to_bytes() for key in keys}
    return {"clips.txt": "".join(f"{record.clip_id}\n" for record in records).encode(), **files}


def _create(
    group: zarr.Group, spec: ArraySpec, shape: tuple[int, ...], *, shard_clips: int, codec: str
) -> zarr.Array[Any]:
    chunk = (shard_clips, 1, *spec.tail)
    return group.create_array(
        spec.name,
        shape=shape,
        dtype=spec.dtype,
        chunks=(1, 1, *spec.tail) if spec.sharded else chunk,
        shards=chunk if spec.sharded else None,
        compressors=compressors(codec) if spec.sharded else [Crc32cCodec()],
        fill_value=spec.fill,
        dimension_names=["N", "K", *spec.axes],
        config={"write_empty_chunks": True},
    )


def compressors(codec: str) -> list[Any]:
    """The codecs behind "bytes" in a token chunk: "none", "zstd" or "lz4" (bit-shuffled), then always crc32c."""
    if codec == "zstd":
        return [ZstdCodec(level=1), Crc32cCodec()]
    if codec == "lz4":
        return [BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=2), Crc32cCodec()]
    return [Crc32cCodec()]

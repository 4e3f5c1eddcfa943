"""Encoding and decoding of chunks and shards, with their checksums.

In: an ArraySpec and (n, *tail) values of a shard's n clips, or bytes. Out: bytes, or values. They are the bytes of
Zarr v3's `bytes`, `zstd`, `crc32c` and `sharding_indexed` codecs, so that plain zarr reads them; implemented
here because zarr itself is slower, and does not give readers a shard's index.

A shard: the encoded clips, each followed by its CRC-32C; then for every row its (offset, length) as two little-endian
uint64, all ones for a missing row; then the CRC-32C of that index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs import Zstd

from pipeline.artifacts.checksum import CRC_BYTES, crc_tail
from pipeline.errors import CorruptError
from pipeline.store.layout import COLUMNS, ArraySpec, StoreSizes

ZSTD = Zstd(level=1)  # as zarr makes it from the metadata in `pipeline.store.layout`
REMEDY = "run `star verify` on the store, which names every damaged clip"


def clip_checksums(spec: ArraySpec, data: bytes, clips: int, sizes: StoreSizes) -> list[int]:
    """The CRC-32C of each clip of a shard that `encode_chunk` made, as it stands in it."""
    if not spec.sharded:
        return []
    ends = decode_index(data[-index_bytes(sizes) :], sizes, spec.name)[:clips].sum(axis=1).tolist()
    return [int.from_bytes(data[end - CRC_BYTES : end], "little") for end in ends]


def encode_chunk(spec: ArraySpec, values: np.ndarray, sizes: StoreSizes) -> bytes:
    """The file of one shard and view: `values` (n, *tail) of its n rows, n <= shard_clips."""
    values = np.ascontiguousarray(values)
    assert values.shape[1:] == spec.tail, (spec.name, values.shape)
    assert values.dtype == spec.dtype, (spec.name, values.dtype)
    if not spec.sharded:
        whole = spec.blank(sizes.shard_clips)
        whole[: len(values)] = values
        data = whole.tobytes()
        return data + crc_tail(data)
    pieces: list[Any] = []
    index = np.full((sizes.shard_clips, 2), 2**64 - 1, "<u8")
    offset = 0
    for row, value in enumerate(values):
        flat = value.reshape(-1).view(np.uint8).data
        encoded = flat if sizes.codec == "none" else ZSTD.encode(flat)
        pieces += [encoded, crc_tail(encoded)]
        index[row] = offset, len(encoded) + CRC_BYTES
        offset += len(encoded) + CRC_BYTES
    table = index.tobytes()
    return b"".join([*pieces, table, crc_tail(table)])


def decode_chunk(spec: ArraySpec, data: bytes, clips: int, sizes: StoreSizes, item: str) -> np.ndarray:
    """(clips, *tail) of an unsharded chunk. Raises CorruptError, about `item`, where its checksum does not match."""
    count = sizes.shard_clips * spec.clip_bytes
    if len(data) != count + CRC_BYTES or crc_tail(memoryview(data)[:count]) != data[count:]:
        raise CorruptError(item, "does not match its checksum", remedy=REMEDY)
    return np.frombuffer(data, spec.dtype, count // np.dtype(spec.dtype).itemsize).reshape(-1, *spec.tail)[:clips]


def index_bytes(sizes: StoreSizes) -> int:
    """The length of the index at the end of every shard."""
    return 16 * sizes.shard_clips + CRC_BYTES


def decode_index(data: bytes, sizes: StoreSizes, item: str) -> np.ndarray:
    """(shard_clips, 2) int64 offsets and lengths, -1 for a missing row, from a shard's end. Raises CorruptError."""
    table = data[: 16 * sizes.shard_clips]
    if len(data) != index_bytes(sizes) or crc_tail(table) != data[len(table) :]:
        raise CorruptError(item, "the index of its shard does not match its checksum", remedy=REMEDY)
    return np.frombuffer(table, "<i8").reshape(-1, 2)


def decode_clip(spec: ArraySpec, data: bytes, row: int, sizes: StoreSizes, item: str) -> np.ndarray:
    """(*tail) of one row of a whole shard; `pipeline.store.clip_reader` reads batches. Raises as `decode_chunk`."""
    offset, length = decode_index(data[-index_bytes(sizes) :], sizes, item)[row].tolist()
    encoded = memoryview(data)[max(0, offset) : max(0, offset + length - CRC_BYTES)]
    if offset < 0 or length < CRC_BYTES or crc_tail(encoded) != data[offset + length - CRC_BYTES : offset + length]:
        raise CorruptError(item, "does not match its checksum", remedy=REMEDY)
    value = np.empty(spec.tail, spec.dtype)
    decompress(encoded, value.reshape(-1).view(np.uint8).data, sizes.codec, item)
    return value


def decode_file(spec: ArraySpec, data: bytes, clips: int, sizes: StoreSizes, item: str) -> np.ndarray:
    """(clips, *tail), writable: the inverse of `encode_chunk`. Raises CorruptError."""
    if not spec.sharded:
        return decode_chunk(spec, data, clips, sizes, item).copy()
    return np.stack([decode_clip(spec, data, row, sizes, item) for row in range(clips)])


def column_bytes(name: str, clips: int) -> int | None:
    """The size of a column's file; None for text."""
    return clips * np.dtype(COLUMNS[name]).itemsize + CRC_BYTES if name in COLUMNS else None


def decode_column(name: str, data: bytes, clips: int, item: str) -> np.ndarray:
    """(clips,) of a column: integers, or str objects. Raises CorruptError.

    Text is Zarr's `vlen-utf8`: the number of strings, then each one's length and bytes; lengths are little-endian
    uint32. Nothing is allocated for a claim that the bytes do not fill.
    """
    body = memoryview(data)[:-CRC_BYTES]
    if len(data) < 2 * CRC_BYTES or crc_tail(body) != data[-CRC_BYTES:]:
        raise CorruptError(item, "does not match its checksum", remedy=REMEDY)
    if name in COLUMNS:
        if len(data) != column_bytes(name, clips):
            raise CorruptError(item, "has another length", got=len(data), expected=column_bytes(name, clips))
        return np.frombuffer(body, f"<{np.dtype(COLUMNS[name]).str[1:]}")
    texts: list[bytes] = []
    at = 4
    while at + 4 <= len(body) and len(texts) < clips:
        end = at + 4 + int.from_bytes(body[at : at + 4], "little")
        texts.append(bytes(body[at + 4 : end]))
        at = end
    if at != len(body) or len(texts) != clips or int.from_bytes(body[:4], "little") != clips:
        raise CorruptError(item, "does not hold a text for each clip", expected=f"{clips} texts", remedy=REMEDY)
    try:
        return np.asarray([text.decode() for text in texts], object)
    except UnicodeDecodeError:
        raise CorruptError(item, "holds bytes that are no text", remedy=REMEDY) from None


def decompress(encoded: memoryview, out: memoryview, codec: str, item: str) -> None:
    """The bytes of one clip, without their checksum, into the bytes of an array. Raises CorruptError."""
    try:
        if codec == "none":
            out[:] = encoded
        else:
            ZSTD.decode(encoded, out=out)
    except (ValueError, RuntimeError) as error:  # their checksum is right: another program wrote them
        raise CorruptError(item, f"cannot be decoded by {codec} ({error})", remedy=REMEDY) from error


def file_bytes(spec: ArraySpec, clips: int, sizes: StoreSizes) -> int:
    """The size of a shard's file; under zstd the largest that it can have."""
    if not spec.sharded:
        return sizes.shard_clips * spec.clip_bytes + CRC_BYTES
    clip = spec.clip_bytes if sizes.codec == "none" else spec.clip_bytes * 257 // 256 + 64  # ZSTD_COMPRESSBOUND
    return clips * (clip + CRC_BYTES) + index_bytes(sizes)

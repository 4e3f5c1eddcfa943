"""Chunks and shards have zarr's bytes and are decoded again; damaged ones are always refused."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from pipeline.errors import CorruptError
from pipeline.store.chunks import decode_file, encode_chunk, file_bytes
from pipeline.store.layout import StoreSizes, chunk_key, create_array, specs


def sizes_with(codec: str, dtype: str) -> StoreSizes:
    return StoreSizes(
        clips=11, views=2, shard_clips=4, persons=2, frames=3, joints=5, cells=4, gg_channels=32, jm_channels=7,
        codec=codec, dtype=dtype,
    )  # fmt: skip


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_bytes_are_zarrs_own(codec: str, dtype: str) -> None:
    sizes, rng = sizes_with(codec, dtype), np.random.default_rng(0)
    for spec in specs(sizes):
        memory: dict = {}
        array = create_array(zarr.group(MemoryStore(memory)), spec, sizes)
        values = (rng.random((11, 2, *spec.tail)) * 3).astype(spec.dtype)
        values[6] = 0
        array[:] = values
        for shard in range(sizes.shards):
            rows = sizes.rows(shard)
            for view in range(2):
                ours = encode_chunk(spec, values[rows.start : rows.stop, view], sizes)
                assert ours == memory[chunk_key(spec, shard, view)].to_bytes(), spec.name
                assert codec != "none" or len(ours) == file_bytes(spec, len(rows), sizes)
                assert np.array_equal(
                    decode_file(spec, ours, len(rows), sizes, "x"), values[rows.start : rows.stop, view]
                )


@pytest.mark.parametrize("codec", ["none", "zstd"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_flipped_bit_goes_unnoticed(codec: str, data: st.DataObject) -> None:
    sizes = sizes_with(codec, "float16")
    spec = data.draw(st.sampled_from(specs(sizes)))
    values = np.random.default_rng(1).integers(0, 2, (4, *spec.tail)).astype(spec.dtype)
    whole = encode_chunk(spec, values, sizes)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptError):
        decode_file(spec, bytes(flipped), 4, sizes, "x")


@given(cut=st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_no_missing_end_goes_unnoticed(cut: int) -> None:
    sizes = sizes_with("none", "float16")
    for spec in specs(sizes)[:3]:
        whole = encode_chunk(spec, spec.blank(4), sizes)
        with pytest.raises(CorruptError):
            decode_file(spec, whole[:-cut], 4, sizes, "x")


def test_bytes_that_are_no_frame_of_the_codec_are_told() -> None:
    sizes = sizes_with("none", "float16")
    spec = specs(sizes)[0]
    with pytest.raises(CorruptError, match="cannot be decoded by zstd"):
        decode_file(spec, encode_chunk(spec, spec.blank(4), sizes), 4, sizes_with("zstd", "float16"), "x")

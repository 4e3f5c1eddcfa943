"""The contract of Blobs: keep bytes whole under keys, and be read alike by TokenStore and by zarr.

A subclass gives the URL of an empty root.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import zarr
from extract_corpus import CROP, JOINTS, OPTIONS, install, write_prepared
from extract_corpus import clip_id as name_of

from pipeline.artifacts.checksum import crc32c, crc64
from pipeline.artifacts.sealed_json import unseal
from pipeline.errors import ArtifactError, CorruptError
from pipeline.extract.coordinator import extract
from pipeline.records import VideoRecord
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.blobs_object import ReplacedError
from pipeline.store.chunks import clip_checksums, encode_chunk
from pipeline.store.commit_records import file_entry, record_key, write_record
from pipeline.store.layout import chunk_key, spec_of
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store
from pipeline.store.write import write_arrays


class StoreContract(ABC):
    """Subclass it as `Test…`."""

    @pytest.fixture
    @abstractmethod
    def url(self, tmp_path: Path) -> str:
        """An empty root."""

    @pytest.fixture
    def blobs(self, url: str) -> Blobs:
        return open_blobs(url)

    def test_what_is_put_is_there_until_it_is_deleted(self, blobs: Blobs) -> None:
        assert blobs.get("a/b") is None
        assert blobs.parts("a/b") is None
        assert blobs.checksum("a/b", 0) is None
        blobs.put("a/b", b"first")
        blobs.put("a/b", b"second")
        blobs.put("a/c", b"")
        blobs.put("ab", b"x")
        assert blobs.get_many(["a/c", "a/b", "no"]) == [b"", b"second", None]
        assert blobs.keys("a") == ["a/b", "a/c"]
        assert blobs.keys("") == ["a/b", "a/c", "ab"]
        blobs.delete("a/b")
        blobs.delete("a/b")
        assert blobs.get("a/b") is None
        assert blobs.keys("nothing") == []

    @pytest.mark.parametrize("size", [1, 255 * 1024, 256 * 1024, 256 * 1024 + 3, 900_000])
    def test_parts_come_with_their_checksum(self, blobs: Blobs, size: int) -> None:
        data = np.random.default_rng(size).integers(0, 255, size + 30, np.uint8).tobytes()
        blobs.put("k", data)
        parts = blobs.parts("k")
        assert parts is not None
        out, after = bytearray(size), bytearray(4)
        assert parts.read_into(memoryview(out), memoryview(after), 7) == crc32c(data[7 : 7 + size])
        assert (bytes(out), bytes(after)) == (data[7 : 7 + size], data[7 + size : 11 + size])
        assert parts.read_into(memoryview(out), memoryview(after), 27) is None  # one byte short
        assert parts.tail(12) == data[-12:]
        assert parts.tail(10**6) == data[-(10**6) :]
        assert blobs.checksum("k", len(data)) == crc64(data)
        assert blobs.checksum("k", len(data) + 1) is None

    @pytest.mark.parametrize("other", [b"other", b"new content that is longer", None], ids=["short", "long", "deleted"])
    def test_an_open_blob_is_that_blob_or_told_to_be_gone(self, blobs: Blobs, other: bytes | None) -> None:
        blobs.put("k", b"old content")
        parts = blobs.parts("k")
        assert parts is not None
        assert parts.tail(7) == b"content"
        assert parts.identity == getattr(blobs.parts("k"), "identity", None)
        if other is None:
            blobs.delete("k")
        else:
            blobs.put("k", other)
        out, after = bytearray(4), bytearray(4)
        reads = (lambda: parts.tail(7), lambda: parts.read_into(memoryview(out), memoryview(after), 0))
        if parts.holds_file:
            assert [read() for read in reads] == [b"content", crc32c(b"old ")]
            assert (bytes(out), bytes(after)) == (b"old ", b"cont")
        else:
            for read in reads:
                with pytest.raises(ReplacedError, match="k: was replaced or deleted while it was read"):
                    read()
            assert bytes(out + after) == bytes(8)
        again = blobs.parts("k")
        assert (again and again.tail(5)) == (other and other[-5:])
        assert getattr(again, "identity", None) != parts.identity

    def test_what_lies_at_the_root_is_named_but_for_lock_and_log(self, blobs: Blobs) -> None:
        assert blobs.names() == []
        with blobs.sole_writer():
            blobs.put("log/1.json", b"{}")
            assert blobs.names() == []
            for key in ("zarr.json", "gg/zarr.json", "gg/c/0/0", "a b/c"):
                blobs.put(key, b"1")
            assert blobs.names() == ["a b", "gg", "zarr.json"]

    def test_a_coordinators_word_holds_as_long_as_its_work(self, blobs: Blobs) -> None:
        with blobs.sole_writer() as word:
            blobs.require_writer(word)
            with pytest.raises(ArtifactError):
                blobs.require_writer("another word")
        with pytest.raises(ArtifactError, match="is no longer locked by the command that began this work"):
            blobs.require_writer(word)

    @pytest.mark.parametrize("codec", ["none", "zstd"])
    @pytest.mark.parametrize("dtype", ["float16", "int8"])
    def test_ours_and_zarr_read_the_same(self, url: str, codec: str, dtype: str) -> None:
        written = small_arrays(url, codec=codec, dtype=dtype)
        store, plain = TokenStore.open(url), zarr.open_group(open_blobs(url).zarr_store(read_only=True), mode="r")
        rows, views = np.asarray([10, 0, 3, 3, 7]), np.asarray([1, 0, 1, 0, 1])
        batch = store.read(rows, view=views)
        for name, got in (("gg", batch.gg), ("jm", batch.jm)):
            through_zarr = plain[name][:][rows, views]
            if dtype == "int8":
                scale = plain[f"{name}_scale"][:][rows, views][..., None]
                through_zarr = (through_zarr * scale.astype(np.float32)).astype(np.float16)
                assert (np.abs(got.astype(np.float32) - written[name][rows, views]) <= 0.57 * scale).all()
            else:
                assert np.array_equal(got, written[name][rows, views])
            assert got.dtype == np.float16
            assert np.array_equal(got, through_zarr)
        assert np.array_equal(batch.joint_mask, plain["joint_mask"][:][rows, views])
        assert np.array_equal(batch.joint_mask, written["joint_mask"][rows, views])
        assert batch.labels.tolist() == plain["label"][:][rows].tolist() == (rows % 3).tolist()
        assert store.clip_ids.tolist() == list(plain["clip_id"][:]) == [name_of(i) for i in range(11)]
        assert (store.status == 1).all()
        assert np.array_equal(store.status, plain["status"][:])

    def test_tokens_made_here_are_the_tokens_made_on_a_local_disk(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(monkeypatch)
        folder = write_prepared(tmp_path / "prepared", 9, excluded=[2], failed=[5])
        here = extract(folder.path, url, OPTIONS)
        there = extract(folder.path, tmp_path / "local.zarr", OPTIONS)
        assert here == there
        assert (here.done, here.excluded, here.failed, here.pending) == (7, 1, 1, 0)
        ours, local = TokenStore.open(url), TokenStore.open(tmp_path / "local.zarr")
        assert ours.content_digest() == local.content_digest()
        assert ours.gg.shape == (9, 1, 16, (CROP // 16) ** 2, 512)
        assert ours.jm.shape == (9, 1, 16, JOINTS, 64)
        rows = np.flatnonzero(ours.status[:, 0] == 1)
        assert rows.tolist() == [0, 1, 3, 4, 6, 7, 8]
        for one, other in zip(ours.read(rows), local.read(rows), strict=True):
            assert np.array_equal(one, other)
        blobs = open_blobs(url)
        for key in open_blobs(tmp_path / "local.zarr").keys(""):
            if not key.startswith("log/"):
                assert blobs.get(key) == (tmp_path / "local.zarr" / key).read_bytes(), key
        assert list(verify_store(url)) == []

    def test_a_flipped_bit_is_noticed_and_named(self, url: str) -> None:
        small_arrays(url)
        blobs = open_blobs(url)
        key = "gg/c/1/0/0/0/0"
        data = bytearray(blobs.get(key) or b"")
        data[5] ^= 4
        blobs.put(key, bytes(data))
        store = TokenStore.open(url)
        with pytest.raises(CorruptError, match="clip 0004, view 0: gg does not match its checksum"):
            store.read([0, 4])
        assert np.isfinite(store.read([0, 5, 6, 7, 8]).gg).all()
        assert [(d.file, d.clips) for d in verify_store(url)] == [(f"{blobs.url}/{key}", ("0004",))]

    def test_a_missing_shard_is_noticed_and_named(self, url: str) -> None:
        small_arrays(url)
        open_blobs(url).delete("jm/c/2/1/0/0/0")
        with pytest.raises(CorruptError, match="clip 0009, view 1: jm is missing with its whole shard"):
            TokenStore.open(url).read([9], view=1)
        assert [d.clips for d in verify_store(url)] == [("0008", "0009", "0010")]

    @pytest.mark.parametrize("codec", ["none", "zstd"])
    def test_a_shard_that_was_put_again_is_read_by_its_own_index(
        self, url: str, codec: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With a codec its clips lie elsewhere than before."""
        monkeypatch.setattr("pipeline.store.clip_reader.OPEN_FILES", 1)
        written = small_arrays(url, codec=codec)["gg"][:, 0]
        store = TokenStore.open(url, threads=1)  # else any file may be the one that stays open
        assert np.array_equal(store.read(range(11)).gg, written)
        other = np.zeros_like(written[:4])
        other[2:] = written[1:3]
        put_again(store, "gg", other)
        assert np.array_equal(store.read(range(11)).gg, np.concatenate([other, written[4:]]))

    @pytest.mark.parametrize("codec", ["none", "zstd"])
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("gg/c/0/0/0/0/0", "gg/c/1/0/0/0/0"), ("jm/c/0/0/0/0/0", "jm/c/0/1/0/0/0"),
            ("joint_mask/c/0/0/0/0", "joint_mask/c/1/0/0/0"),
        ],
    )  # fmt: skip
    def test_a_whole_file_in_anothers_place_is_noticed(self, url: str, codec: str, one: str, other: str) -> None:
        small_arrays(url, codec=codec)
        blobs = open_blobs(url)
        first, second = blobs.get(one), blobs.get(other)
        assert first is not None
        assert second not in (None, first)
        blobs.put(one, second)
        blobs.put(other, first)
        with pytest.raises(CorruptError, match="committed in its place"):
            TokenStore.open(url).read([1])
        assert {damage.file for damage in verify_store(url)} == {f"{blobs.url}/{one}", f"{blobs.url}/{other}"}

    def test_what_is_no_store_is_told(self, url: str) -> None:
        with pytest.raises(ArtifactError, match=r"expected a token store"):
            TokenStore.open(url)
        with pytest.raises(ArtifactError, match=r"expected a token store"):
            list(verify_store(url))
        open_blobs(url).put("zarr.json", b'{"attributes": {}, "zarr_format": 3, "node_type": "group"}')
        with pytest.raises(ArtifactError, match="without a format version"):
            TokenStore.open(url)


def put_again(store: TokenStore, name: str, values: np.ndarray) -> None:
    """Put an array of shard 0, view 0 with other values, and its record, as `star retry` does."""
    blobs, spec = open_blobs(store.url), spec_of(store.sizes, name)
    data, key = encode_chunk(spec, values, store.sizes), chunk_key(spec, 0, 0)
    record = unseal(blobs.get(record_key((0, 0))) or b"", key, {})
    clips = clip_checksums(spec, data, len(values), store.sizes)
    files = [file_entry(key, data, clips) if entry["key"] == key else entry for entry in record["files"]]
    blobs.put(key, data)
    write_record(blobs, record["fingerprint"], (0, 0), files, record["clips"])


def small_arrays(
    url: Any, *, codec: str = "none", dtype: str = "float16", joints: Mapping[str, np.ndarray] = MappingProxyType({})
) -> dict[str, np.ndarray]:
    """A store of 11 clips and 2 views in shards of 4, and what was written into it besides `joints`."""
    rng = np.random.default_rng(1)
    arrays = {
        "gg": rng.normal(size=(11, 2, 3, 4, 8)).astype(np.float16),
        "jm": rng.normal(size=(11, 2, 3, JOINTS, 6)).astype(np.float16),
        "joint_mask": rng.random((11, 2, 3, JOINTS)) < 0.5,
    }
    arrays["gg"][3, 1, 2] = 0  # an all-zero token, and an all-zero clip, which zarr would rather not write
    arrays["jm"][7, 1] = 0
    records = [VideoRecord(clip_id=name_of(i), key=name_of(i), label=i % 3) for i in range(11)]
    write_arrays(
        url, **arrays, records=records, class_names=["a", "b", "c"], dataset="penn-action", topology="penn13",
        shard_clips=4, codec=codec, dtype=dtype, joints=joints,
    )  # fmt: skip
    return arrays

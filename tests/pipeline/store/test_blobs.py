"""Every kind of Blobs under one contract, and the properties of each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import obstore
import pytest
from contracts.store_contract import StoreContract
from obstore.store import from_url
from s3_server import environment, s3_server

from pipeline.errors import ArtifactError
from pipeline.store.blobs import open_blobs
from pipeline.store.blobs_object import ObjectBlobs, ObjectParts, ReplacedError


class TestLocal(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "a store")


class TestMemory(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"memory://{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as found:
        yield found


class TestS3(StoreContract):
    @pytest.fixture
    def url(self, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        return f"s3://bucket/{secrets.token_hex(4)}/tokens.zarr"

    def test_the_newer_coordinator_takes_over(self, url: str) -> None:
        blobs = open_blobs(url)
        with blobs.sole_writer() as first, open_blobs(url).sole_writer() as second:
            blobs.require_writer(second)
            with pytest.raises(ArtifactError, match="another command has begun to write here"):
                blobs.require_writer(first)

    def test_one_that_was_taken_over_from_ends_without_a_word(self, url: str) -> None:
        blobs = open_blobs(url)
        with ExitStack() as first:
            first.enter_context(blobs.sole_writer())
            with open_blobs(url).sole_writer() as second:
                first.close()
                blobs.require_writer(second)

    def test_a_put_is_one_request(self, url: str, endpoint: str) -> None:
        # a multipart upload of a killed writer would stay in the bucket, unseen and paid for
        open_blobs(url).put("k", bytes(12_000_000))
        plain: Any = {"allow_http": True}
        meta = obstore.head(from_url(url, client_options=plain), "k")
        assert "-" not in str(meta["e_tag"])  # S3 marks the parts' number there

    def test_a_server_that_does_not_answer_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environment("http://127.0.0.1:9").items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ArtifactError, match=r"cannot be reached .* check the bucket, the endpoint"):
            open_blobs("s3://bucket/x", patience=0.3).get("zarr.json")

    def test_a_missing_bucket_is_told(self, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ArtifactError, match="s3://nowhere/x/k: the bucket does not exist"):
            open_blobs("s3://nowhere/x").put("k", b"1")


def test_a_store_without_etags_is_read_all_the_same() -> None:
    blobs = open_blobs(f"memory://{secrets.token_hex(4)}")
    assert isinstance(blobs, ObjectBlobs)
    blobs.put("k", b"content")
    parts = ObjectParts(blobs, "k", {**obstore.head(blobs._store, "k"), "e_tag": None})
    assert parts.tail(7) == b"content"
    blobs.put("k", b"less")
    with pytest.raises(ReplacedError, match="k: was replaced or deleted"):
        parts.tail(7)


def test_a_url_of_no_known_kind_is_told() -> None:
    with pytest.raises(ArtifactError, match="cannot be opened as a store"):
        open_blobs("ftp://host/x")


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/with%20space")
    blobs.put("k", b"1")
    assert (tmp_path / "with space" / "k").read_bytes() == b"1"


def test_a_file_is_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="is a file, not a folder"):
        open_blobs(tmp_path / "file")


def test_hidden_files_are_no_keys_and_temporaries_are_swept(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    blobs.put("a/b", b"1")
    (tmp_path / "a" / ".b.part-0011").write_bytes(b"half")
    assert blobs.keys("") == ["a/b"]
    with blobs.sole_writer():
        assert not (tmp_path / "a" / ".b.part-0011").exists()


def test_a_folder_has_one_coordinator(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    with blobs.sole_writer(), pytest.raises(ArtifactError, match="another process is writing here"):  # noqa: SIM117
        with open_blobs(tmp_path).sole_writer():
            pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file/store/k: cannot be written"):
        open_blobs(tmp_path / "file" / "store").put("k", b"1")

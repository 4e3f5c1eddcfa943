"""An object store that is away for a while costs that while; what waiting cannot cure is told at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from contracts.store_contract import small_arrays
from extract_corpus import OPTIONS, install, write_prepared
from faulty_proxy import FaultyProxy, faulty_proxy
from s3_server import environment, s3_server

from pipeline.errors import ArtifactError
from pipeline.extract.coordinator import extract
from pipeline.store import blobs_object
from pipeline.store.blobs import open_blobs
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store

TIMES = 12  # failures in a row: more than a client library repeats by itself


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture
def proxy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr(blobs_object, "LONGEST_WAIT", 0.01)
    with faulty_proxy(endpoint) as found:
        for name, value in environment(found.url).items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def url() -> str:
    return f"s3://bucket/{secrets.token_hex(4)}"


@pytest.mark.parametrize("kind", ["503", "drop", "cut"])
def test_every_request_is_made_again(proxy: FaultyProxy, url: str, kind: str) -> None:
    blobs = open_blobs(url)
    data = bytes(range(256)) * 100
    blobs.put("a/b", data)
    parts = blobs.parts("a/b")
    assert parts is not None
    for request, expected in (
        (lambda: blobs.put("a/c", data), None),
        (lambda: blobs.get("a/c"), data),
        (lambda: blobs.get("a/nothing"), None),
        (lambda: parts.tail(5), data[-5:]),
        (lambda: blobs.checksum("a/c", len(data)), blobs.checksum("a/b", len(data))),
        (lambda: blobs.keys("a"), ["a/b", "a/c"]),
        (lambda: blobs.names(), ["a"]),
        (lambda: blobs.delete("a/c"), None),
    ):
        proxy.fail(kind, TIMES)
        assert request() == expected
        assert proxy.failed == TIMES or kind == "cut"  # an answer without a body cannot be cut


def test_a_store_is_made_and_read_through_an_outage(
    proxy: FaultyProxy, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    folder = write_prepared(tmp_path / "prepared", 5)
    whole = extract(folder.path, tmp_path / "local", OPTIONS)
    seen = []

    def failing(event: dict[str, object]) -> None:
        seen.append(event)
        proxy.fail(("503", "drop", "cut")[len(seen) % 3], 5)

    assert extract(folder.path, url, OPTIONS, progress=failing) == whole
    proxy.fail("drop", TIMES)
    store = TokenStore.open(url)
    proxy.fail("cut", 3)
    assert np.array_equal(store.read(range(5)).gg, TokenStore.open(tmp_path / "local").read(range(5)).gg)
    assert list(verify_store(url)) == []


def test_patience_ends(proxy: FaultyProxy, url: str, caplog: pytest.LogCaptureFixture) -> None:
    blobs = open_blobs(url, patience=0.3)
    proxy.fail("503", 10**9)
    with pytest.raises(ArtifactError, match=r"k: cannot be reached .*; check the bucket, the endpoint and"):
        blobs.get("k")
    assert proxy.failed > 2
    told = [record.getMessage() for record in caplog.records if record.name == blobs_object.__name__]
    assert len(told) == 1
    assert "k cannot be reached" in told[0]


@pytest.mark.parametrize("method", ["get", "put", "keys", "parts"])
def test_a_missing_bucket_is_told_at_once(proxy: FaultyProxy, method: str) -> None:
    """With a patience that no test has: this one would hang if it were used."""
    blobs = open_blobs("s3://nowhere/x", patience=1e6)
    if method == "parts":  # S3 answers such a question without a reason
        assert blobs.parts("k") is None
        return
    with pytest.raises(ArtifactError, match=r"the bucket does not exist .*; correct its name, or make it first"):
        getattr(blobs, method)(*(("k", b"1") if method == "put" else ("k",)))


def test_another_region_is_told_at_once(proxy: FaultyProxy, url: str) -> None:
    proxy.fail("redirect", 10**9)
    with pytest.raises(ArtifactError, match=r"the bucket is in another region .*; set AWS_REGION"):
        open_blobs(url, patience=1e6).get("k")


def test_missing_credentials_are_told_at_once(monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy) -> None:
    """Without any, the client asks the machine's own service for them, which has none here."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ArtifactError, match=r"there are no credentials .*; set AWS_ACCESS_KEY_ID"):
        open_blobs("s3://bucket/x", patience=1e6).get("k")


def test_reading_the_whole_store_again_gives_the_same(proxy: FaultyProxy, url: str) -> None:
    written = small_arrays(url)
    for kind in ("503", "drop", "cut"):
        store = TokenStore.open(url)
        proxy.fail(kind, TIMES)
        assert np.array_equal(store.read(range(11), view=1).jm, written["jm"][:, 1])

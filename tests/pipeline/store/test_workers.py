"""Two workers on one shard, and a coordinator that ends, in the middle of a shard's puts: every record stays true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extract_corpus import OPTIONS, computing, install, stub_tokens, tree
from extract_corpus import write_prepared as write

from pipeline.artifacts.lock import LOCK
from pipeline.errors import ArtifactError
from pipeline.extract import compute, worker
from pipeline.extract.coordinator import extract
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.verify import verify_store

RECORD = "commits/000/00001.json"
FIRST, SECOND, LAST = "gg/c/1/0/0/0/0", "jm/c/1/0/0/0/0", "status/c/1/0"  # keys that are put before it


class Meanwhile:
    """Blobs before whose put of `key` something happens, once."""

    def __init__(self, inner: Blobs, key: str, happen: Callable[[], None]) -> None:
        self._inner, self._key, self._happen = inner, key, happen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, key: str, data: bytes) -> None:
        if key == self._key:
            self._key = ""
            self._happen()
        self._inner.put(key, data)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    install(monkeypatch)
    return monkeypatch


def doubled(*given: np.ndarray) -> tuple[np.ndarray, ...]:
    """Tokens of a worker whose device rounds differently."""
    gg, jm, mask = stub_tokens(*given)
    return gg * 2, jm * 2, mask


def other_worker(stub: pytest.MonkeyPatch, prepared: Path, there: Path, out: Path, *, same: bool) -> Any:
    """Puts shard 1, record and all, as another worker makes it: of the same bytes or of other ones."""
    with stub.context() as patch:
        if not same:
            patch.setattr(compute, "worker_computer", computing(doubled))
        extract(prepared, there, OPTIONS)
    keys = [key for key in tree(there) if key.split("/")[1:4] == ["c", "1", "0"] or key == RECORD]
    assert len(keys) == 10

    def commit() -> None:
        for key in sorted(keys, key=lambda key: key == RECORD):
            open_blobs(out).put(key, (there / key).read_bytes())

    return commit


@pytest.mark.parametrize(
    ("at", "same", "kept"),
    [
        (FIRST, True, "theirs"),
        (SECOND, True, "theirs"),
        (LAST, False, "theirs"),  # all of ours were overwritten, except an identical one
        (FIRST, False, "ours"),  # all of theirs were overwritten
        (SECOND, False, None),  # one is theirs, the others are ours
    ],
)
def test_no_record_names_files_that_do_not_exist(
    stub: pytest.MonkeyPatch, tmp_path: Path, at: str, same: bool, kept: str | None
) -> None:
    prepared, out = write(tmp_path / "prepared", 9).path, tmp_path / "s"
    extract(prepared, tmp_path / "ours", OPTIONS)
    commit = other_worker(stub, prepared, tmp_path / "theirs", out, same=same)
    with stub.context() as patch:
        patch.setattr(worker, "open_blobs", lambda url: Meanwhile(open_blobs(url), at, commit))
        if kept is None:
            with pytest.raises(
                ArtifactError, match="shard 1, view 0: was written by two workers at once; run the same"
            ):
                extract(prepared, out, OPTIONS)
        else:
            extract(prepared, out, OPTIONS)
    assert list(verify_store(out)) == []
    assert len(list((out / "log").glob("*-00001.json"))) == (kept == "ours")
    if kept is None:
        assert not (out / RECORD).exists()
        extract(prepared, out, OPTIONS)
    assert tree(out)[RECORD] == tree(tmp_path / (kept or "ours"))[RECORD]
    assert list(verify_store(out)) == []


@pytest.mark.parametrize("committed", [False, True])
def test_a_worker_that_lost_its_coordinator_leaves_no_record(
    stub: pytest.MonkeyPatch, tmp_path: Path, committed: bool
) -> None:
    """Another one has begun since, and has committed the shard perhaps: our files lie over those of its record."""
    prepared, out = write(tmp_path / "prepared", 9).path, tmp_path / "s"
    commit = other_worker(stub, prepared, tmp_path / "theirs", out, same=False)

    def take_over() -> None:
        if committed:
            commit()
        (out / LOCK).write_text("the word of another")

    with stub.context() as patch:
        patch.setattr(worker, "open_blobs", lambda url: Meanwhile(open_blobs(url), FIRST, take_over))
        with pytest.raises(ArtifactError, match="is no longer locked by the command that began this work"):
            extract(prepared, out, OPTIONS)
    assert not (out / RECORD).exists()
    assert list(verify_store(out)) == []
    extract(prepared, out, OPTIONS)
    extract(prepared, tmp_path / "whole", OPTIONS)
    assert tree(out) == tree(tmp_path / "whole")

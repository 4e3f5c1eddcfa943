"""Stage 2 stopped before and after every write in turn, and on a disk that fills up: the same command resumes."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from extract_corpus import OPTIONS, commit_prepared, install, tree
from extract_corpus import write_prepared as write

from pipeline.errors import ArtifactError
from pipeline.extract import coordinator as extract_module
from pipeline.extract import worker
from pipeline.extract.coordinator import extract
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store


class Stopped(Exception):
    """Ends a process from the store's point of view."""


class Faulty:
    """Blobs that stop before or after their n-th put or delete, and at every one from then on."""

    def __init__(self, inner: Blobs, count: list[int], stop: float) -> None:
        self._inner, self._count, self._stop = inner, count, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, key: str, data: bytes) -> None:
        self._change(lambda: self._inner.put(key, data))

    def delete(self, key: str) -> None:
        self._change(lambda: self._inner.delete(key))

    def _change(self, change: Any) -> None:
        self._count[0] += 1
        if self._count[0] > self._stop:  # 2.5 stops after the third change, 2 before it
            if self._count[0] - self._stop < 1:
                change()
            raise Stopped
        change()


def changes(patch: pytest.MonkeyPatch, stop: float) -> list[int]:
    """Counts stage 2's writes, and stops it after a number of them."""
    count = [0]
    for module in (extract_module, worker):
        patch.setattr(module, "open_blobs", lambda url: Faulty(open_blobs(url), count, stop))
    return count


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of runs need not wait for a disk's fsync."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    install(monkeypatch)
    return monkeypatch


def stops(writes: int) -> list[float]:
    return [number + half for number in range(writes) for half in (0, 0.5)]


def test_a_first_run_stopped_at_every_write_goes_on(stub: pytest.MonkeyPatch, quick: Path) -> None:
    folder = write(quick / "prepared", 3, shard_clips=2, excluded=[1], failed=[2])
    count = changes(stub, float("inf"))
    extract(folder.path, quick / "whole", OPTIONS)
    whole, digest = tree(quick / "whole"), TokenStore.open(quick / "whole").content_digest()
    assert count[0] > 40
    for number, stop in enumerate(stops(count[0])):
        out = quick / f"s{number}"
        with stub.context() as patch:
            changes(patch, stop)
            with pytest.raises(Stopped):
                extract(folder.path, out, OPTIONS)
        extract(folder.path, out, OPTIONS)
        assert tree(out) == whole, stop
        assert TokenStore.open(out).content_digest() == digest
        shutil.rmtree(out)


def test_a_run_stopped_again_and_again_ends_all_the_same(stub: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 9)
    extract(folder.path, tmp_path / "whole", replace(OPTIONS, views=2))
    for _ in range(100):
        try:
            with stub.context() as patch:
                changes(patch, 13)  # a shard takes 11
                extract(folder.path, tmp_path / "s", replace(OPTIONS, views=2))
                break
        except Stopped:
            continue
        finally:
            # metadata alone take more writes than that: let the first run get past them
            if not (tmp_path / "s/commits/metadata.json").exists():
                with stub.context() as patch:
                    changes(patch, 44)
                    with pytest.raises(Stopped):
                        extract(folder.path, tmp_path / "s", replace(OPTIONS, views=2))
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_appending_views_stopped_at_every_write_goes_on(stub: pytest.MonkeyPatch, quick: Path) -> None:
    folder = write(quick / "prepared", 3, shard_clips=2, draws=2)
    extract(folder.path, quick / "one", OPTIONS)
    shutil.copytree(quick / "one", quick / "whole")
    with stub.context() as patch:
        count = changes(patch, float("inf"))
        extract(folder.path, quick / "whole", replace(OPTIONS, views=2))
    whole = tree(quick / "whole")
    for number, stop in enumerate(stops(count[0])):
        out = quick / f"s{number}"
        shutil.copytree(quick / "one", out)
        with stub.context() as patch:
            changes(patch, stop)
            with pytest.raises(Stopped):
                extract(folder.path, out, replace(OPTIONS, views=2))
        assert TokenStore.open(out).read(range(3)).gg.shape[0] == 3  # readable at every moment
        extract(folder.path, out, replace(OPTIONS, views=2))
        assert tree(out) == whole, stop
        shutil.rmtree(out)


@pytest.mark.parametrize("again", ["plain", "retry"])
def test_a_retry_stopped_at_every_write_goes_on(stub: pytest.MonkeyPatch, quick: Path, again: str) -> None:
    folder = write(quick / "prepared", 3, shard_clips=2, failed=[1])
    extract(folder.path, quick / "holey", OPTIONS)
    commit_prepared(folder, 0)
    shutil.copytree(quick / "holey", quick / "whole")
    with stub.context() as patch:
        count = changes(patch, float("inf"))
        extract(folder.path, quick / "whole", OPTIONS, retry=True)
    whole = tree(quick / "whole")
    for number, stop in enumerate(stops(count[0])):
        out = quick / f"s{number}"
        shutil.copytree(quick / "holey", out)
        with stub.context() as patch:
            changes(patch, stop)
            with pytest.raises(Stopped):
                extract(folder.path, out, OPTIONS, retry=True)
        assert list(verify_store(out)) == [], "an old record of new files"
        extract(folder.path, out, OPTIONS, retry=again == "retry")
        assert tree(out) in (whole, tree(quick / "holey")) if again == "plain" else tree(out) == whole, stop
        shutil.rmtree(out)


def test_a_disk_that_is_too_small_is_refused_at_the_start(
    stub: pytest.MonkeyPatch, tmp_path: Path, small_disk: Path
) -> None:
    folder = write(tmp_path / "prepared", 60)
    with pytest.raises(ArtifactError, match=r"the disk is too small .* free some space"):
        extract(folder.path, small_disk / "s", OPTIONS)


def test_a_disk_that_fills_up_is_reported_and_work_resumes(
    stub: pytest.MonkeyPatch, tmp_path: Path, small_disk: Path
) -> None:
    folder = write(tmp_path / "prepared", 12)
    extract(folder.path, tmp_path / "whole", OPTIONS)
    stub.setattr(extract_module, "require_disk_space", lambda *_: None)  # the room goes away after the start
    (small_disk / "other").write_bytes(bytes(1_100_000))
    with pytest.raises(ArtifactError, match="the disk is full; free some space and run the same command again"):
        extract(folder.path, small_disk / "s", OPTIONS)
    assert not list(small_disk.rglob(".*.part-*"))
    assert list(verify_store(small_disk / "s")) == []
    assert 0 < TokenStore.open(small_disk / "s").account().done < 12
    (small_disk / "other").unlink()
    assert extract(folder.path, small_disk / "s", OPTIONS).done == 12
    assert tree(small_disk / "s") == tree(tmp_path / "whole")


def test_a_full_disk_where_none_can_be_mounted(stub: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same with the system's own error, in the middle of a write."""
    folder = write(tmp_path / "prepared", 12)
    extract(folder.path, tmp_path / "whole", OPTIONS)
    real, calls = os.fsync, [0]

    def full(handle: int) -> None:
        calls[0] += 1
        if calls[0] > 70:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with stub.context() as patch:
        patch.setattr("pipeline.artifacts.files.os.fsync", full)
        with pytest.raises(ArtifactError, match="the disk is full; free some space and run the same command again"):
            extract(folder.path, tmp_path / "s", OPTIONS)
    assert not list((tmp_path / "s").rglob(".*.part-*"))
    assert extract(folder.path, tmp_path / "s", OPTIONS).done == 12
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")

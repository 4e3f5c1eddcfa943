"""The reader's cache: few files open, each index read once, no shard opened twice at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.records import VideoRecord
from pipeline.store.blobs import open_blobs
from pipeline.store.blobs_local import LocalBlobs, LocalFile
from pipeline.store.blobs_object import ObjectBlobs
from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays

CLIPS = 24


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each shard is opened (under its key) and its index read (under its key and " index")."""
    counts: Counter[str] = Counter()
    for kind in (LocalBlobs, ObjectBlobs):
        parts = kind.parts

        def counted(self: object, key: str, parts: object = parts) -> object:
            counts[key] += 1
            return parts(self, key)  # type: ignore[operator]

        monkeypatch.setattr(kind, "parts", counted)
    tail = LocalFile.tail
    monkeypatch.setattr(
        LocalFile, "tail", lambda self, count: (counts.update([f"{self.path} index"]), tail(self, count))[1]
    )
    return counts


def store_of(url: str | Path, *, threads: int | None = None) -> tuple[TokenStore, np.ndarray]:
    """24 clips in shards of one, and their jm."""
    rng = np.random.default_rng(0)
    jm = rng.normal(size=(CLIPS, 1, 2, 13, 3)).astype(np.float16)
    records = [VideoRecord(clip_id=f"{i:02d}", key=f"{i:02d}", label=0) for i in range(CLIPS)]
    write_arrays(
        url, gg=jm[:, :, :, :2], jm=jm, joint_mask=np.ones(jm.shape[:-1], bool), records=records, class_names=["a"],
        dataset="penn-action", topology="penn13", shard_clips=1,
    )  # fmt: skip
    return TokenStore.open(url, threads=threads), jm[:, 0]


def test_an_index_is_read_once_however_often_its_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Counter[str]
) -> None:
    monkeypatch.setattr("pipeline.store.clip_reader.OPEN_FILES", 3)
    store, jm = store_of(tmp_path)
    for seed in range(4):
        rows = np.random.default_rng(seed).permutation(CLIPS)
        assert np.array_equal(store.read(rows, tokens=["jm"]).jm, jm[rows])
    assert sum(count for key, count in opened.items() if not key.endswith(" index")) > 3 * CLIPS
    assert [count for key, count in opened.items() if key.endswith(" index")] == [1] * CLIPS


def test_the_files_used_last_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Counter[str]) -> None:
    monkeypatch.setattr("pipeline.store.clip_reader.OPEN_FILES", 2)
    store, _ = store_of(tmp_path, threads=1)
    for row in (0, 1, 0, 2, 0, 1):
        store.read([row], tokens=["jm"])
    assert [opened[f"jm/c/{row}/0/0/0/0"] for row in range(3)] == [1, 2, 1]


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_threads_that_want_one_shard_open_it_once(
    tmp_path: Path, opened: Counter[str], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jm = store_of(tmp_path if where == "folder" else f"memory://{tmp_path.name}", threads=8)
    kind = LocalBlobs if where == "folder" else ObjectBlobs
    quick = kind.parts
    monkeypatch.setattr(kind, "parts", lambda self, key: (time.sleep(0.05), quick(self, key))[1])
    assert np.array_equal(store.read([3] * 16 + [4] * 16, tokens=["jm"]).jm, jm[[3] * 16 + [4] * 16])
    assert (opened["jm/c/3/0/0/0/0"], opened["jm/c/4/0/0/0/0"]) == (1, 1)


def test_shards_are_opened_by_the_threads_that_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an object store each opening takes two round trips: in sequence they would take most of the time."""
    store, jm = store_of(f"memory://{tmp_path.name}", threads=8)
    store.read([0], tokens=["jm"])
    together, most, parts = threading.Barrier(8, timeout=300), [], ObjectBlobs.parts

    def slow(self: ObjectBlobs, key: str) -> object:
        most.append(together.wait())  # ends only where eight are opened at a time
        return parts(self, key)

    monkeypatch.setattr(ObjectBlobs, "parts", slow)
    assert np.array_equal(store.read(range(8, 24), tokens=["jm"]).jm, jm[8:24])
    assert len(most) == 16


def test_objects_are_never_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Counter[str]) -> None:
    """They hold no file, so evicting them would only cost requests."""
    monkeypatch.setattr("pipeline.store.clip_reader.OPEN_FILES", 2)
    store, jm = store_of(f"memory://{tmp_path.name}")
    for _ in range(3):
        assert np.array_equal(store.read(range(CLIPS), tokens=["jm"]).jm, jm)
    assert set(opened.values()) == {1}


def test_readers_that_open_and_close_all_the_time_get_the_right_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.clip_reader.OPEN_FILES", 1)
    store, jm = store_of(tmp_path, threads=4)
    failures: list[object] = []

    def read_often(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for turn in range(60):
                rows = rng.integers(0, CLIPS, 6)
                if not np.array_equal(store.read(rows, tokens=["jm"]).jm, jm[rows]):
                    failures.append(rows)
                if turn % 10 == seed:
                    store._reader.forget()
        except Exception as error:  # noqa: BLE001 (told below)
            failures.append(error)

    threads = [threading.Thread(target=read_often, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_file_replaced_by_one_of_the_same_length_is_another(tmp_path: Path) -> None:
    blobs = open_blobs(tmp_path)
    blobs.put("k", b"one")
    first = blobs.parts("k")
    blobs.put("k", b"two")
    second = blobs.parts("k")
    assert first is not None
    assert second is not None
    assert first.identity != second.identity
    assert (first.tail(3), second.tail(3)) == (b"one", b"two")

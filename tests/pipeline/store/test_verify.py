"""Every flipped bit of a store is found, and exactly the lost clips are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.store_contract import small_arrays
from extract_corpus import OPTIONS, exchange_clips, install, tree
from extract_corpus import write_prepared as write

from pipeline.errors import ArtifactError, CorruptError
from pipeline.extract.coordinator import extract
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store

FLIPS = 200


def readable(root: Path, rows: list[int], view: int) -> set[int]:
    """Which of these rows a reader gets, one by one."""
    store, found = TokenStore.open(root), set()
    for row in rows:
        try:
            store.read([row], view=view)
            store.read_joints([row], view=view)
            found.add(row)
        except CorruptError:
            continue
    return found


@pytest.mark.parametrize(("codec", "dtype"), [("none", "float16"), ("zstd", "int8")])
def test_200_random_flips_are_all_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, dtype: str
) -> None:
    install(monkeypatch)
    folder = write(tmp_path / "prepared", 9, excluded=[2], failed=[5])
    root = tmp_path / "s"
    extract(folder.path, root, replace(OPTIONS, views=2, codec=codec, dtype=dtype))
    assert list(verify_store(root)) == []
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != ".lock" and "log" not in p.parts)
    sizes = np.asarray([p.stat().st_size for p in files], float)
    rng = np.random.default_rng(0)
    done, lost = [0, 1, 3, 4, 6, 7, 8], 0
    for number in range(FLIPS):
        # half of them anywhere, half in a file drawn first: the small ones are as dear as the large
        path = files[rng.choice(len(files), p=sizes / sizes.sum()) if number % 2 else rng.integers(len(files))]
        whole = path.read_bytes()
        flipped = bytearray(whole)
        bit = int(rng.integers(8 * len(whole)))
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        found = list(verify_store(root))
        key = path.relative_to(root).as_posix()
        assert [d.file for d in found] == [str(path)], (key, bit)
        named = {int(name) for name in found[0].clips}
        read = ("gg", "jm", "gg_scale", "jm_scale", "joint_mask", "joints", "joint_scores", "xyz", "status")
        if key.split("/")[0] in read and "/c/" in key:
            shard, view = (int(part) for part in key.split("/")[2:4])
            rows = [row for row in done if row // 4 == shard]
            # none where the flip lies in the room of a row that has no tokens
            assert named == set(rows) - readable(root, rows, view), (key, bit)
            lost += len(named)
        elif key.startswith("commits/0"):
            shard = int(path.stem)
            assert named == set(range(4 * shard, min(4 * shard + 4, 9)))
        elif key.split("/")[0] in ("frame_index", "persons") and "/c/" in key:
            assert named == {row for row in done if row // 4 == int(key.split("/")[2])}
        else:
            assert named == set(), key  # metadata and columns: the file is named
        path.write_bytes(whole)
    assert lost > 50
    assert list(verify_store(root)) == []


def test_a_missing_or_shortened_file_is_found(tmp_path: Path) -> None:
    small_arrays(tmp_path / "s")
    for name, clips in (
        ("clips.txt", ()),
        ("gg/zarr.json", ()),
        ("label/c/0", ()),
        ("commits/metadata.json", ()),
        ("joint_mask/c/2/0/0/0", ("0008", "0009", "0010")),
        ("gg/c/2/1/0/0/0", ("0008", "0009", "0010")),
    ):
        path = tmp_path / "s" / name
        whole = path.read_bytes()
        path.unlink()
        (lost,) = verify_store(tmp_path / "s")
        assert (lost.file, lost.clips, lost.problem) == (str(path), clips, "is missing")
        path.write_bytes(whole[:-1])
        (short,) = verify_store(tmp_path / "s")
        assert (short.file, short.clips) == (str(path), clips)
        assert short.problem != "is missing"
        path.write_bytes(whole)


def test_the_groups_metadata_may_be_damaged_beyond_reading(tmp_path: Path) -> None:
    small_arrays(tmp_path / "s")
    (tmp_path / "s/zarr.json").write_bytes(b"{")
    assert [d.file for d in verify_store(tmp_path / "s")] == [str(tmp_path / "s/zarr.json")]


def test_a_file_of_another_clip_in_its_place_is_found(tmp_path: Path) -> None:
    """It matches its own checksums; only the record shows that it is another shard's file."""
    small_arrays(tmp_path / "s")
    shutil.copy(tmp_path / "s/gg/c/0/0/0/0/0", tmp_path / "s/gg/c/1/0/0/0/0")
    found = list(verify_store(tmp_path / "s"))
    assert [d.clips for d in found] == [("0004", "0005", "0006", "0007")]


def test_a_shard_that_came_with_its_record_from_another_store_is_found_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All checksums of it are right, and names and options are the same; only the clips' content was another."""
    install(monkeypatch)
    write(tmp_path / "prepared", 9)
    shutil.copytree(tmp_path / "prepared", tmp_path / "others")
    exchange_clips(tmp_path / "others", 1, 2)
    extract(tmp_path / "prepared", tmp_path / "s", replace(OPTIONS, views=2))
    extract(tmp_path / "others", tmp_path / "t", replace(OPTIONS, views=2))
    whole, record = tree(tmp_path / "s"), "commits/001/00000.json"
    for key in whole:
        if key == record or (key.split("/")[1:4] == ["c", "0", "1"] and key != "status/c/0/1"):
            shutil.copy(tmp_path / "t" / key, tmp_path / "s" / key)
    assert tree(tmp_path / "s") != whole
    for deep in (False, True):
        (found,) = verify_store(tmp_path / "s", deep=deep)
        assert (found.file, found.clips) == (str(tmp_path / "s" / record), ("0000", "0001", "0002", "0003"))
        assert found.problem.startswith("is another one than commits/content.json names")
    extract(tmp_path / "prepared", tmp_path / "s", replace(OPTIONS, views=2), damaged=True)
    assert tree(tmp_path / "s") == whole


def test_a_store_is_named_as_a_whole_only_once_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder, content = write(tmp_path / "prepared", 9), tmp_path / "s/commits/content.json"
    extract(folder.path, tmp_path / "s", OPTIONS)
    whole = content.read_bytes()

    def stopped(*_: object) -> None:
        assert not content.exists()
        raise KeyboardInterrupt

    (tmp_path / "s/commits/000/00001.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.extract.worker.write_record", stopped)
        with pytest.raises(KeyboardInterrupt):
            extract(folder.path, tmp_path / "s", OPTIONS)
    assert not content.exists()
    assert list(verify_store(tmp_path / "s")) == []
    extract(folder.path, tmp_path / "s", OPTIONS)
    assert content.read_bytes() == whole
    content.write_bytes(whole[:-9])
    assert [damage.file for damage in verify_store(tmp_path / "s")] == [str(content)]
    extract(folder.path, tmp_path / "s", OPTIONS, damaged=True)
    assert content.read_bytes() == whole


def test_deep_verification_finds_content_behind_a_record_that_agrees(tmp_path: Path) -> None:
    from pipeline.artifacts.sealed_json import seal
    from pipeline.store.blobs import open_blobs
    from pipeline.store.commit_records import CONTENT, each_record, file_entry, record_key

    small_arrays(tmp_path / "s")
    blobs, store = open_blobs(tmp_path / "s"), TokenStore.open(tmp_path / "s")
    key = "gg/c/1/0/0/0/0"
    blobs.put(key, blobs.get("gg/c/0/0/0/0/0") or b"")
    ((_, record),) = each_record(blobs, store.attrs["fingerprint"], store.sizes, [(0, 1)])
    assert record is not None
    exchanged = {**next(e for e in record["files"] if e["key"] == key), **file_entry(key, blobs.get(key) or b"")}
    record["files"] = [exchanged if e["key"] == key else e for e in record["files"]]
    blobs.put(record_key((0, 1)), seal(record))
    blobs.delete(CONTENT)
    assert list(verify_store(tmp_path / "s")) == []
    assert [d.clips for d in verify_store(tmp_path / "s", deep=True)] == [("0004", "0005", "0006", "0007")]


def test_what_is_not_committed_yet_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder = write(tmp_path / "prepared", 9)
    extract(folder.path, tmp_path / "s", OPTIONS)
    (tmp_path / "s/commits/000/00001.json").unlink()
    (tmp_path / "s/gg/c/1/0/0/0/0").write_bytes(b"half")
    assert list(verify_store(tmp_path / "s")) == []


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        list(verify_store(tmp_path / "none"))
    folder = write(tmp_path / "prepared", 2)
    with pytest.raises(ArtifactError, match="is a prepared folder, not a token store"):
        list(verify_store(folder.path))

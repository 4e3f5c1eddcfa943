"""Commits: a file is whole or absent, a record is itself or an error, a folder has one writer."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts import files
from pipeline.artifacts.files import sweep_temporaries, write_atomic
from pipeline.artifacts.fingerprint import canonical_json, sha256
from pipeline.artifacts.lock import require_writer, sole_writer
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.errors import ArtifactError, CorruptError

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
keys = st.text(min_size=1).filter(lambda key: key != "checksum")
records = st.dictionaries(keys, plain, max_size=5)


class Interrupted(BaseException):
    """As abrupt as a test can be without dying."""


def test_sha256_is_of_the_parts_together() -> None:
    assert sha256(b"ab", memoryview(b"c")) == sha256(b"abc")
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_canonical_json_knows_no_order_and_no_nan() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([float("nan")])


def test_write_makes_folders_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, b"one")
    write_atomic(path, memoryview(b"two"))
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def fsync(handle: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")

    def replace(source: Path, target: Path) -> None:
        assert Path(source).read_bytes() == b"data"  # flushed
        steps.append("rename")
        os.rename(source, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", replace)
    write_atomic(tmp_path / "x", b"data")
    assert steps == ["file", "rename", "folder"]


def test_new_folders_reach_the_disk_with_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave a commit record, and take the files that it names."""
    synced: list[str] = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    write_atomic(tmp_path / "a/b/c/x", b"data")
    assert {str(tmp_path / name) for name in ("", "a", "a/b", "a/b/c")} <= set(synced)
    synced.clear()
    write_atomic(tmp_path / "a/b/c/y", b"data")
    assert synced[1:] == [str(tmp_path / "a/b/c")]
    with sole_writer(tmp_path / "d/e"):
        assert {str(tmp_path), str(tmp_path / "d")} <= set(synced)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_stop_in_mid_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")

    def stop(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(files.os, step, stop)
    with pytest.raises(Interrupted):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EROFS, "cannot be written")],
)
def test_a_refused_write_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(ArtifactError, match=words) as error:
        write_atomic(tmp_path / "x", b"data")
    assert str(tmp_path / "x") in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ArtifactError, match="choose a folder"):
        write_atomic(tmp_path / "x" / "y", b"")
    with pytest.raises(ArtifactError, match="choose a folder"), sole_writer(tmp_path / "x"):
        pass


def test_sweeping_removes_temporaries_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    left = [tmp_path / f".x{files.TEMPORARY}1234", tmp_path / "a" / "b" / f".y.json{files.TEMPORARY}ab"]
    kept = [tmp_path / "x", tmp_path / ".lock", tmp_path / "a" / "b" / "part-1"]
    for path in left + kept:
        path.write_text("")
    assert sweep_temporaries(tmp_path) == 2
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


@given(records)
@settings(max_examples=60, deadline=None)
def test_a_sealed_record_comes_back(record: dict[str, Any]) -> None:
    assert unseal(seal(record), "x", {}) == record
    assert json.loads(seal(record))["checksum"]  # any program can read it


@given(records, st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_or_lost_tail_is_found(record: dict[str, Any], data: st.DataObject) -> None:
    whole = seal(record)
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(CorruptError, match="run the same command again"):
        unseal(bytes(flipped), "x", {})
    with pytest.raises(CorruptError):
        unseal(whole[: data.draw(st.integers(0, len(whole) - 1))], "x", {})


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with sole_writer(folder) as lease:
        require_writer(folder, lease)
        with pytest.raises(ArtifactError, match="another process is writing here"), sole_writer(folder):
            pass
        require_writer(folder, lease)  # the refused one took nothing over
    with pytest.raises(ArtifactError, match="no longer locked"):
        require_writer(folder, lease)
    with sole_writer(folder) as other:
        assert other != lease
        with pytest.raises(ArtifactError, match="no longer locked"):
            require_writer(folder, lease)
        require_writer(folder, other)


def test_a_folder_that_is_not_to_be_seen_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="same files under the same paths"):
        require_writer(tmp_path / "elsewhere", "lease")


@pytest.mark.processes
def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.artifacts.lock import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError), sole_writer(tmp_path):
            pass
        process.kill()
        process.wait()
        with sole_writer(tmp_path):
            pass


def test_a_folder_is_made_where_one_may_make_folders_but_not_list_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def guarded(path: object, *how: object) -> int:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", guarded)
    write_atomic(tmp_path / "mine" / "file", b"x")
    assert (tmp_path / "mine" / "file").read_bytes() == b"x"

"""`pipeline.decode.identity`: a digest of what a reader would use, and of nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from picture_fixtures import build

from pipeline.decode.identity import identity
from pipeline.errors import DataError


def test_a_file(tmp_path: Path) -> None:
    for data in (b"", b"x", os.urandom(3 << 20)):
        (tmp_path / "it").write_bytes(data)
        assert identity(tmp_path / "it") == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = build("jpg-beside-flow", tmp_path)
    lines, size = b"", 0
    for path in sorted(folder.glob("img_*")):
        lines += path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).hexdigest().encode() + b"\n"
        size += path.stat().st_size
    before = {"bytes": size, "sha256": hashlib.sha256(lines).hexdigest()}
    assert identity(folder) == before
    (folder / "notes.txt").write_text("no frame")
    (folder / "flow_x_00005.jpg").write_bytes(b"no frame either")
    (folder / ".img_00099.jpg").write_bytes(b"hidden")
    assert identity(folder) == before, "of what no reader uses"
    a, b = folder / "img_00004.jpg", folder / "img_00005.jpg"
    a.rename(folder / "t"), b.rename(a), (folder / "t").rename(b)
    assert identity(folder) != before, "two frames exchanged"


def test_a_folder_of_pose_files(tmp_path: Path) -> None:
    folder = tmp_path / "poses"
    folder.mkdir()
    for number in range(3):
        (folder / f"v_{number}_keypoints.json").write_text(f"[{number}]")
    before = identity(folder, suffixes=[".json"])
    (folder / "picture.jpg").write_bytes(b"beside them")
    assert identity(folder, suffixes=[".json"]) == before
    (folder / "v_0_keypoints.json").rename(folder / "v_9_keypoints.json")
    assert identity(folder, suffixes=[".json"]) != before, "the name is the frame"
    with pytest.raises(DataError, match=r"holds no file of the kind looked for \(expected \.npz\)"):
        identity(folder, suffixes=[".npz"])


def test_special_files_are_refused_and_links_to_files_followed(tmp_path: Path) -> None:
    folder = tmp_path / "poses"
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("[]")
    (folder / "a.json").symlink_to(tmp_path / "elsewhere")
    assert identity(folder, suffixes=[".json"])["bytes"] == 2
    os.mkfifo(folder / "b.json")
    with pytest.raises(DataError, match=r"b\.json: is not a regular file \(got a named pipe\)"):
        identity(folder, suffixes=[".json"])
    with pytest.raises(DataError, match="is not a regular file"):
        identity(folder / "b.json")
    with pytest.raises(DataError, match="No such file"):
        identity(tmp_path / "nothing")

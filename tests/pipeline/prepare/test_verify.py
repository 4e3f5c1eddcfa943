"""Verification: every flipped bit of a prepared folder is found, and names the clips that it costs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from tiny_corpus import names, write_corpus

from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.config import PrepareOptions
from pipeline.errors import ArtifactError, CorruptError
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.verify import verify_prepared

CLIPS = names(7)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify")
    listing = write_corpus(root / "raw", CLIPS)
    prepare(listing, PrepareOptions(shard_clips=3), root / "out")
    return root / "out"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def _flip(path: Path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def test_a_whole_folder_has_no_damage(whole: Path) -> None:
    assert list(verify_prepared(whole)) == []


def test_any_flipped_bit_is_found(copy: Path) -> None:
    rng = np.random.default_rng(int(os.environ.get("SEED", "0")))
    files = sorted(path for path in copy.iterdir() if path.is_file() and path.name[0] != ".")
    assert len(files) == 3 + 3 + 3
    ids = set(CLIPS)
    for path in [path for path in files for _ in range(6)]:
        bit = int(rng.integers(8 * path.stat().st_size))
        _flip(path, bit)
        if path.name in ("dataset.json", "rows.jsonl"):
            with pytest.raises(CorruptError, match=rf"{path.name}.*delete it and run the same"):
                list(verify_prepared(copy))
        else:
            found = list(verify_prepared(copy))
            assert [damage.file for damage in found] == [str(path)], bit
            assert set(found[0].clips) <= ids
        _flip(path, bit)
    assert list(verify_prepared(copy)) == []


def test_a_flipped_bit_costs_the_clip_it_lies_in_and_no_other(copy: Path) -> None:
    path = PreparedFolder.open(copy).shard(1).path
    with h5py.File(path) as file:
        start = file["frames"].id.get_offset()
        offsets = file["frame_offset"][()]
        joints = file["joints"].id.get_offset()
        joints_bytes = file["joints"][0].nbytes
    for row in range(3):
        for place in (start + int(offsets[row, 0, 5]) + 40, joints + row * joints_bytes + 17):
            _flip(path, 8 * place)
            assert [damage.clips for damage in verify_prepared(copy)] == [(CLIPS[3 + row],)]
            _flip(path, 8 * place)


def test_missing_and_exchanged_files_cost_all_their_clips(copy: Path) -> None:
    folder = PreparedFolder.open(copy)
    folder.shard(0).path.unlink()
    shutil.copy(folder.shard(2).path, folder.shard(1).path)
    found = {damage.file: damage.clips for damage in verify_prepared(copy)}
    assert found == {str(folder.shard(0).path): tuple(CLIPS[:3]), str(folder.shard(1).path): tuple(CLIPS[3:6])}
    folder.shard(2).commit_path.write_text("{}")
    assert {damage.file: damage.clips for damage in verify_prepared(copy)}[str(folder.shard(2).commit_path)] == tuple(
        CLIPS[6:]
    )


def test_what_is_not_committed_yet_is_no_damage(copy: Path) -> None:
    folder = PreparedFolder.open(copy)
    folder.shard(0).commit_path.unlink()
    folder.manifest_path.unlink()
    folder.shard(0).path.write_bytes(b"half")
    assert list(verify_prepared(copy)) == []


def test_what_is_damaged_is_made_again_by_the_same_command(copy: Path, whole: Path) -> None:
    folder = PreparedFolder.open(copy)
    _flip(folder.shard(1).path, 80_000)
    for damage in verify_prepared(copy):
        Path(damage.file).unlink()
    folder.shard(0).commit_path.write_text("{}")  # damaged too, and not deleted
    prepare(folder.listing, folder.options, copy)
    assert list(verify_prepared(copy)) == []
    assert folder.content_digest() == PreparedFolder.open(whole).content_digest()


def test_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        list(verify_prepared(tmp_path / "nothing"))


@pytest.mark.parametrize("change", ["flat", "exchanged"])
def test_a_file_of_other_shapes_is_damage_whatever_its_digests_say(copy: Path, whole: Path, change: str) -> None:
    shard = PreparedFolder.open(copy).shard(1)
    with h5py.File(shard.path, "r+") as file:
        joints = file["joints"][()]
        del file["joints"]
        file.create_dataset("joints", data=joints.swapaxes(3, 4) if change == "exchanged" else joints.reshape(-1))
    data = shard.path.read_bytes()
    record = unseal(shard.commit_path.read_bytes(), shard.commit_path, {})
    shard.commit_path.write_bytes(seal({**record, "bytes": len(data), "sha256": sha256(data)}))
    (damage,) = verify_prepared(copy)
    assert (damage.file, damage.clips) == (str(shard.path), tuple(CLIPS[3:6]))
    assert "joints is of shape" in damage.problem
    folder = PreparedFolder.open(copy)
    prepare(folder.listing, folder.options, copy, damaged=True)
    assert list(verify_prepared(copy)) == []
    assert shard.path.read_bytes() == PreparedFolder.open(whole).shard(1).path.read_bytes()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link out", "link to nothing", "huge"])
@pytest.mark.parametrize("name", ["manifest.jsonl", "rows.jsonl"])
def test_what_is_no_file_of_ours_is_told_and_put_right(copy: Path, whole: Path, name: str, kind: str) -> None:
    """Nothing waits for a pipe, nothing outside is read, and no memory is taken for a file that claims a terabyte."""
    path, folder = copy / name, PreparedFolder.open(copy)
    if kind == "huge":
        with open(path, "r+b") as file:
            file.truncate(1 << 40)
    else:
        path.rename(copy.parent / name)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind.startswith("link"):
        path.symlink_to(copy.parent / (name if kind == "link out" else "nothing"))
    if name == "manifest.jsonl":
        assert [damage.file for damage in verify_prepared(copy)] == [str(path)]
    else:
        with pytest.raises(ArtifactError, match=r"rows\.jsonl"):
            list(verify_prepared(copy))
    if kind == "folder":
        return  # that nobody put there by mistake: it is told, and stays
    prepare(folder.listing, folder.options, copy)
    assert path.read_bytes() == (whole / name).read_bytes()
    assert not path.is_symlink()
    assert list(verify_prepared(copy)) == []

"""Raw files that change under their names: a done clip is never mixed with others, and what may change does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tiny_corpus import joints_of_clip, listing, names, write_corpus, write_skeleton, write_video

from pipeline.artifacts.outcomes import DIFFERS, Account
from pipeline.config import PrepareOptions
from pipeline.errors import ArtifactError
from pipeline.prepare import raw_files
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.raw_files import stamp
from pipeline.prepare.verify import verify_prepared, verify_raw

pytestmark = pytest.mark.processes

OPTIONS = PrepareOptions(shard_clips=2)
CLIPS = names(6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, raw/ and prepared/, which no test writes into."""
    root = tmp_path_factory.mktemp("made")
    write_corpus(root / "raw", CLIPS)
    assert prepare(listing(root / "raw"), OPTIONS, root / "prepared") == Account(done=6)
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy, with the times of its files: to `prepare` all of them have been touched."""
    shutil.copytree(made, tmp_path / "here")
    return tmp_path / "here"


def _files(root: Path, clip: str) -> tuple[Path, Path]:
    return root / "raw/videos" / f"{clip}_rgb.avi", root / "raw/skeletons" / f"{clip}.skeleton"


def _exchange(a: Path, b: Path) -> None:
    kept = a.with_name("kept")
    a.rename(kept)
    b.rename(a)
    kept.rename(b)


def _prepare(root: Path, **options: object) -> Account:
    return prepare(listing(root / "raw"), OPTIONS, root / "prepared", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kinds", [(0, 1), (0,), (1,)], ids=["both", "video", "skeleton"])
@pytest.mark.parametrize("again", ["resume", "finished", "retry", "damaged"])
def test_exchanged_files_are_refused_by_name(here: Path, again: str, kinds: tuple[int, ...]) -> None:
    if again == "resume":  # one of the two was not made yet
        for path in (*(here / "prepared").glob("clips-00002.*"), here / "prepared/manifest.jsonl"):
            path.unlink()
    before = {path: path.read_bytes() for path in (here / "prepared").glob("clips-*")}
    for kind in kinds:
        _exchange(_files(here, CLIPS[0])[kind], _files(here, CLIPS[5])[kind])
    named = CLIPS[:1] if again == "resume" else [CLIPS[0], CLIPS[5]]
    with pytest.raises(ArtifactError, match=rf"{len(named)} of its clips were made from other .*{', '.join(named)}\)"):
        _prepare(here, retry=again == "retry", damaged=again == "damaged")
    assert {path: path.read_bytes() for path in before} == before
    damages = list(verify_raw(here / "prepared"))
    assert sorted({clip for damage in damages for clip in damage.clips}) == named
    assert len(damages) == len(named) * len(kinds)
    assert not any(verify_prepared(here / "prepared"))  # that of the folder itself is another question


def test_a_touched_file_is_read_again_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = raw_files.identity

    def identity(path: str, **options: object) -> object:
        read.append(path)
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(raw_files, "identity", identity)
    for times in (12, 0):  # a copy elsewhere; then all is known
        read.clear()
        assert _prepare(here) == Account(done=6)
        assert len(read) == times
    video = _files(here, CLIPS[3])[0]
    os.utime(video, ns=(0, 0))
    shutil.rmtree(here / "prepared/log/seen/")
    assert _prepare(here) == Account(done=6)
    assert len(read) == 12  # what was seen is no part of the content, and may be lost


def test_one_changed_byte_behind_old_times_and_size_is_found_by_its_ctime_and_by_verify(here: Path) -> None:
    assert _prepare(here) == Account(done=6)
    video = _files(here, CLIPS[2])[0]
    was, data = video.stat(), bytearray(video.read_bytes())
    data[-1] ^= 1
    video.write_bytes(data)
    os.utime(video, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(ArtifactError, match=CLIPS[2]):
        _prepare(here)
    (damage,) = verify_raw(here / "prepared")
    assert (damage.file, damage.clips, damage.problem) == (str(video), (CLIPS[2],), DIFFERS)
    video.unlink()
    (damage,) = verify_raw(here / "prepared")
    assert damage.problem == "is missing"


def test_a_missing_file_that_comes_later_fills_its_hole(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "raw", tmp_path / "raw")
    video, skeleton = _files(tmp_path, CLIPS[1])[0], _files(tmp_path, CLIPS[4])[1]
    for path in (video, skeleton):
        path.rename(tmp_path / path.name)
    account = _prepare(tmp_path)
    assert (account.done, account.missing) == (4, 2)
    assert _prepare(tmp_path, retry=True).missing == 2
    for path in (video, skeleton):
        (tmp_path / path.name).rename(path)
    assert _prepare(tmp_path) == Account(done=6)
    folder, whole = PreparedFolder.open(tmp_path / "prepared"), PreparedFolder.open(made / "prepared")
    assert folder.content_digest() == whole.content_digest()
    assert folder.fingerprint == whole.fingerprint
    # and one that goes later takes nothing with it
    video.unlink()
    assert _prepare(tmp_path) == Account(done=6)
    assert folder.content_digest() == whole.content_digest()


def test_files_of_a_failed_clip_may_be_replaced(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "raw", tmp_path / "raw")
    video, skeleton = _files(tmp_path, CLIPS[3])
    whole = video.read_bytes()
    video.write_bytes(whole[:900])
    assert _prepare(tmp_path).failed == 1
    video.write_bytes(whole)
    assert _prepare(tmp_path, retry=True) == Account(done=6)
    assert (
        PreparedFolder.open(tmp_path / "prepared").content_digest()
        == PreparedFolder.open(made / "prepared").content_digest()
    )
    # a file without a body is a fact of the data set, so it may not change any more
    write_skeleton(skeleton, joints_of_clip("x", 18), absent=frozenset(range(18)))
    shutil.rmtree(tmp_path / "prepared")
    assert _prepare(tmp_path).excluded == 1
    write_skeleton(skeleton, joints_of_clip("x", 18))
    with pytest.raises(ArtifactError, match=CLIPS[3]):
        _prepare(tmp_path)


def test_damaged_shards_are_made_again_and_nothing_else(here: Path, made: Path) -> None:
    folder = here / "prepared"
    flipped = bytearray((folder / "clips-00001.h5").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (folder / "clips-00001.h5").write_bytes(flipped)
    (folder / "clips-00002.h5").unlink()
    told = {Path(damage.file).name: damage.problem for damage in verify_prepared(folder)}
    assert told == {"clips-00001.h5": DIFFERS, "clips-00002.h5": "is missing"}
    kept = (folder / "clips-00000.h5").stat().st_mtime_ns
    assert _prepare(here, damaged=True) == Account(done=6)
    assert not any(verify_prepared(folder))
    assert (folder / "clips-00000.h5").stat().st_mtime_ns == kept
    for path in (made / "prepared").glob("clips-*"):
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_stamp_tells_a_folder_of_frames_too(tmp_path: Path) -> None:
    assert stamp(tmp_path / "nothing") is None
    empty = stamp(tmp_path)
    (tmp_path / "000001.jpg").write_bytes(b"one")
    one = stamp(tmp_path)
    (tmp_path / "000002.jpg").write_bytes(b"two")
    two = stamp(tmp_path)
    _exchange(tmp_path / "000001.jpg", tmp_path / "000002.jpg")
    assert len({empty, one, two, stamp(tmp_path)}) == 4
    write_video(tmp_path / "v.avi", seed_key="v", frames=2)
    assert stamp(tmp_path / "v.avi") == stamp(tmp_path / "v.avi")

"""Raw files that change under their names: a done clip is never mixed with others, and what may change does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import one_sentence, star
from tiny_corpus import joints_of_clip, listing, names, write_corpus, write_skeleton, write_video

from pipeline.artifacts.boundary import BoundaryError
from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.outcomes import DIFFERS, Account
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.config import PrepareOptions
from pipeline.decode.child_process import DecodeProcess
from pipeline.errors import ArtifactError, DataError
from pipeline.prepare import pinned as pinned_files
from pipeline.prepare import raw_files
from pipeline.prepare.clip import attempt
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.pinned import pinned, stamp
from pipeline.prepare.shard import ROW_COLUMNS
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
@pytest.mark.parametrize("again", ["resume", "finished", "retry", "damaged", "file lost"])
def test_exchanged_files_are_refused_by_name(here: Path, again: str, kinds: tuple[int, ...]) -> None:
    if again == "resume":  # one of the two was not made yet
        for path in (*(here / "prepared").glob("clips-00002.*"), here / "prepared/manifest.jsonl"):
            path.unlink()
    if again == "file lost":  # its record still says what its clips were made from
        for path in (here / "prepared/clips-00000.h5", here / "prepared/manifest.jsonl"):
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
    lost = ["clips-00000.h5"] if again == "file lost" else []  # of the folder itself nothing else is wrong
    assert [Path(damage.file).name for damage in verify_prepared(here / "prepared")] == lost


def test_a_touched_file_is_read_again_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = raw_files.identity

    def identity(path: Path, **options: object) -> object:
        read.append(str(path))
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


@pytest.mark.parametrize("part", ["raw", "poses"])
def test_a_record_that_lacks_a_fact_is_damaged(here: Path, part: str) -> None:
    """A stranger can seal anything; `star inspect` reads every one of these."""
    path = here / "prepared/clips-00000.json"
    record = unseal(path.read_bytes(), path, {})
    facts = dict(record["clips"][0][part])
    for name in sorted(facts.keys() - {"topology"}):
        kept = {key: value for key, value in facts.items() if key != name}
        record["clips"][0] |= {part: kept}
        path.write_bytes(seal(record))
        one_sentence(star("inspect", here / "prepared"), str(path), f"has no {part}.{name}")


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


def test_two_files_of_equal_size_and_times_have_two_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"same")
    monkeypatch.setattr(pinned_files, "_digest", lambda facts: [fact[:-2] for fact in facts])  # all but the times
    assert stamp(tmp_path / "a") != stamp(tmp_path / "b")


def test_a_shard_of_another_folder_of_equal_names_is_refused(here: Path, tmp_path: Path) -> None:
    """The two have one fingerprint: names and options are equal, only the files' bytes are not."""
    shutil.copytree(here / "raw", tmp_path / "other/raw")
    for clip, source in zip(CLIPS[:2], CLIPS[4:], strict=True):
        shutil.copy(_files(here, source)[0], _files(tmp_path / "other", clip)[0])
    assert _prepare(tmp_path / "other") == Account(done=6)
    assert _prepare(here) == Account(done=6)  # all is known
    for path in (tmp_path / "other/prepared").glob("clips-00000.*"):
        shutil.copy(path, here / "prepared" / path.name)
    with pytest.raises(ArtifactError, match=rf"2 of its clips were made from other files .*{CLIPS[0]}, {CLIPS[1]}"):
        _prepare(here)


def test_bytes_read_while_a_file_is_exchanged_are_not_remembered_for_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _prepare(here) == Account(done=6)  # from here on, its files are those of this copy
    folder, other = PreparedFolder.open(here / "prepared"), here / "other.avi"
    video = _files(here, CLIPS[0])[0]
    real, whole = raw_files.identity, video.read_bytes()
    other.write_bytes(whole)
    video.write_bytes(whole[:-1] + b"!")

    def identity(path: Path, **options: object) -> object:
        if path.name != video.name:
            return real(path, **options)  # type: ignore[arg-type]
        _exchange(video, other)  # the right bytes lie there for as long as it takes to read them
        found = real(path, **options)  # type: ignore[arg-type]
        _exchange(video, other)
        return found

    monkeypatch.setattr(raw_files, "identity", identity)
    with pytest.raises(ArtifactError, match=CLIPS[0]):
        raw_files.require_same_raw_files(folder, folder.outcomes())


@pytest.mark.parametrize("during", ["probe", "identity", "persons_of_video", "decode_frames"])
@pytest.mark.parametrize("kind", ["videos", "skeletons"])
def test_a_folder_that_is_exchanged_for_one_call_and_put_back_changes_nothing(
    here: Path, kind: str, during: str
) -> None:
    """No file's stamp changes where the folder above is renamed."""
    rows, raw = listing(here / "raw"), here / "raw"
    others = raw / "others"
    shutil.copytree(raw / kind, others)
    names_of_kind = sorted(path.name for path in others.iterdir())
    (others / names_of_kind[1]).replace(others / names_of_kind[0])

    class Exchanging(DecodeProcess):
        exchanged = 0

        def call(self, name: str, /, **arguments: Any) -> Any:
            if not name.endswith(f":{during}"):
                return super().call(name, **arguments)
            self.exchanged += 1
            _exchange(raw / kind, others)
            try:
                return super().call(name, **arguments)
            finally:
                _exchange(raw / kind, others)

    with DecodeProcess() as child, Exchanging() as exchanging:
        one, entry = attempt(rows.records[0], rows.roots, rows.topology, OPTIONS, child)
        two, again = attempt(rows.records[0], rows.roots, rows.topology, OPTIONS, exchanging)
    assert exchanging.exchanged
    assert one is not None
    assert two is not None
    assert (one.digest(), entry) == (two.digest(), again)


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_pinned_keeps_its_name_and_its_content(tmp_path: Path, linked: bool) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "frames").mkdir(parents=True)
        (tmp_path / name / "v.avi").write_text(name)
        (tmp_path / name / "frames/1.jpg").write_text(name)
    root = tmp_path / "link" if linked else tmp_path / "a"
    if linked:
        root.symlink_to(tmp_path / "a")
    with pinned(root / "v.avi") as video, pinned(root / "frames") as frames:
        _exchange(tmp_path / "a", tmp_path / "b")
        (tmp_path / "b/v.avi").rename(tmp_path / "gone")
        assert (video.read_text(), (frames / "1.jpg").read_text()) == ("a", "a")
        assert (video.name, frames.name) == ("v.avi", "frames")
    assert not video.parent.exists()
    assert (tmp_path / "b/frames/1.jpg").exists()
    with pytest.raises(DataError, match="cannot be read"), pinned(root / "nothing"):
        pass


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a\0b", ""])
def test_a_row_that_names_a_file_elsewhere_is_refused_unread(here: Path, name: str) -> None:
    """Its checksums are right: anyone can compute them."""
    meta, rows = here / "prepared/dataset.json", here / "prepared/rows.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lines[2][ROW_COLUMNS.index("video")] = name
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = unseal(meta.read_bytes(), meta, {})
    meta.write_bytes(seal({**content, "rows_sha256": sha256(rows.read_bytes())}))
    folder = PreparedFolder.open(here / "prepared")
    if not name:  # that is a video that is not there
        assert prepare(folder.listing, folder.options, here / "prepared") == Account(done=6)
        return
    for use in (lambda: list(verify_raw(folder.path)), lambda: prepare(folder.listing, folder.options, folder.path)):
        with pytest.raises(BoundaryError, match=rf"^{CLIPS[2]}: names a video outside its folder"):
            use()

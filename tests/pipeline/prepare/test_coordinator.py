"""The whole of stage 1: every row ends as it should, what is done stays, what cannot go on says so in one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decode_children import count_starts, install
from tiny_corpus import JOINTS, joints_of_clip, listing, names, write_corpus, write_skeleton, write_video

from pipeline.artifacts import files
from pipeline.artifacts.files import TEMPORARY
from pipeline.artifacts.lock import sole_writer
from pipeline.artifacts.outcomes import Account
from pipeline.config import PrepareOptions
from pipeline.datasets import ntu
from pipeline.errors import ArtifactError, ConfigError, CorruptError, DataError
from pipeline.prepare import hdf5, worker
from pipeline.prepare.coordinator import prepare, unfinished
from pipeline.prepare.folder import PreparedFolder

OPTIONS = PrepareOptions(shard_clips=4)
CLIPS = names(10)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten whole clips, which no test writes into."""
    root = tmp_path_factory.mktemp("raw")
    write_corpus(root, CLIPS)
    return root


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten clips prepared, which no test writes into either."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert prepare(listing(raw), OPTIONS, out) == Account(done=10)
    return out


@pytest.fixture
def corpus(raw: Path, tmp_path: Path) -> Path:
    """A copy of the ten clips, to be damaged."""
    return Path(shutil.copytree(raw, tmp_path / "corpus"))


def _video(root: Path, name: str) -> Path:
    return root / "videos" / f"{name}_rgb.avi"


def _skeleton(root: Path, name: str) -> Path:
    return root / "skeletons" / f"{name}.skeleton"


def _entries(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in PreparedFolder.open(out).outcomes()}


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of all rows that are tried."""
    tried: list[str] = []
    real = worker.attempt

    def attempt(record: Any, *rest: Any) -> Any:
        tried.append(record.clip_id)
        return real(record, *rest)

    monkeypatch.setattr(worker, "attempt", attempt)
    return tried


def test_every_row_ends_as_one_of_done_excluded_missing_failed(corpus: Path, tmp_path: Path) -> None:
    _skeleton(corpus, CLIPS[1]).unlink()
    _video(corpus, CLIPS[2]).unlink()
    write_skeleton(_skeleton(corpus, CLIPS[5]), joints_of_clip("x", 18), absent=frozenset(range(18)))
    _video(corpus, CLIPS[6]).write_bytes(b"")
    out = tmp_path / "out"
    events: list[dict[str, Any]] = []
    account = prepare(listing(corpus), OPTIONS, out, progress=events.append)
    assert account == Account(done=6, excluded=1, missing=2, failed=1, reasons=account.reasons)
    entries = _entries(out)
    assert entries[CLIPS[1]] == {"id": CLIPS[1], "outcome": "missing", "reason": "no skeleton file"}
    assert entries[CLIPS[2]]["reason"] == "no video file"
    assert (entries[CLIPS[5]]["outcome"], entries[CLIPS[5]]["reason"]) == (
        "excluded",
        "no body in any frame of the skeleton",
    )
    assert entries[CLIPS[6]]["outcome"] == "failed"
    assert entries[CLIPS[6]]["reason"].startswith("video: is empty")
    assert ("failed", entries[CLIPS[6]]["reason"], 1) in account.reasons
    for i in (0, 3, 9):
        assert entries[CLIPS[i]]["reader"] == "pyav"
        for kind, path in (("video", _video(corpus, CLIPS[i])), ("pose", _skeleton(corpus, CLIPS[i]))):
            data = path.read_bytes()
            was = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "frames": 18}
            assert entries[CLIPS[i]]["raw"][kind] == was
    assert events[0] == {"total": 10, "done": 0}
    assert [(e["clip"], e["outcome"]) for e in events[1:]] == [(name, entries[name]["outcome"]) for name in CLIPS]
    # holes stay: row 3 is row 3, whatever became of rows 1 and 2
    folder = PreparedFolder.open(out)
    record = folder.record(0)
    assert record is not None
    clips = folder.shard(0).clips(record)
    assert [clip is None for clip in clips] == [False, True, True, False]
    assert clips[3] is not None
    assert clips[3].digest() == entries[CLIPS[3]]["sha256"]


def test_equal_content_is_equal_bytes(whole: Path, raw: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(raw, tmp_path / "moved" / "elsewhere")
    prepare(listing(moved), dataclasses.replace(OPTIONS, budget_s=30.0), tmp_path / "out")
    for path in sorted(whole.iterdir()):
        if path.is_file() and path.name not in ("dataset.json", ".lock"):  # which says where the data lie
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    again, before = PreparedFolder.open(tmp_path / "out"), PreparedFolder.open(whole)
    assert again.content_digest() == before.content_digest()


def test_what_is_done_is_not_done_again(whole: Path, raw: Path, tmp_path: Path, attempts: list[str]) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("clips-*")}
    events: list[dict[str, Any]] = []
    assert prepare(listing(raw), OPTIONS, out, progress=events.append) == Account(done=10)
    assert attempts == []
    assert events == [{"total": 10, "done": 10}]
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("clips-*")} == before


@pytest.mark.parametrize("damage", ["no record", "no file", "file cut short", "record cut short", "temporary left"])
def test_a_half_written_shard_is_made_again(
    whole: Path, raw: Path, tmp_path: Path, attempts: list[str], damage: str
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    shard = PreparedFolder.open(out).shard(1)
    if damage == "no record":
        shard.commit_path.unlink()
    elif damage == "no file":
        shard.path.unlink()
    elif damage == "temporary left":
        shard.commit_path.unlink()
        (out / f".clips-00001.h5{TEMPORARY}1234").write_bytes(b"half")
    else:
        path = shard.path if damage == "file cut short" else shard.commit_path
        path.write_bytes(path.read_bytes()[:-200])
    assert prepare(listing(raw), OPTIONS, out) == Account(done=10)
    assert attempts == CLIPS[4:8]
    assert PreparedFolder.open(out).content_digest() == PreparedFolder.open(whole).content_digest()
    assert shard.path.read_bytes() == PreparedFolder.open(whole).shard(1).path.read_bytes()
    assert not list(out.rglob(f"*{TEMPORARY}*"))


def test_retry_tries_what_failed_and_nothing_else(
    corpus: Path, whole: Path, tmp_path: Path, attempts: list[str]
) -> None:
    out = tmp_path / "out"
    for name in (CLIPS[1], CLIPS[9]):
        _video(corpus, name).write_bytes(b"damaged")
    rows = listing(corpus)
    assert prepare(rows, OPTIONS, out).failed == 2
    attempts.clear()
    assert prepare(rows, OPTIONS, out).failed == 2  # the same command leaves them
    assert attempts == []
    for name in (CLIPS[1], CLIPS[9]):
        write_video(_video(corpus, name), seed_key=name[:16], frames=18)
    assert prepare(rows, OPTIONS, out, retry=True) == Account(done=10)
    assert attempts == [CLIPS[1], CLIPS[9]]
    assert PreparedFolder.open(out).content_digest() == PreparedFolder.open(whole).content_digest()


def test_retry_takes_over_no_clip_that_was_damaged_since(
    corpus: Path, whole: Path, tmp_path: Path, attempts: list[str]
) -> None:
    out = tmp_path / "out"
    _video(corpus, CLIPS[1]).write_bytes(b"damaged")
    rows = listing(corpus)
    prepare(rows, OPTIONS, out)
    path = PreparedFolder.open(out).shard(0).path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    write_video(_video(corpus, CLIPS[1]), seed_key=CLIPS[1][:16], frames=18)
    attempts.clear()
    assert prepare(rows, OPTIONS, out, retry=True) == Account(done=10)
    assert len(attempts) == 2  # the failed one, and the one in which a bit was flipped
    assert PreparedFolder.open(out).content_digest() == PreparedFolder.open(whole).content_digest()


def test_a_changed_input_is_refused_with_the_difference(whole: Path, corpus: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != ".lock"}
    write_corpus(corpus, ["S009C001P001R001A001"])
    with pytest.raises(ArtifactError, match=r"1 clip is new \(S009C001P001R001A001\); use the same"):
        prepare(listing(corpus), OPTIONS, out)
    with pytest.raises(ArtifactError, match="geometry: person, now full"):
        prepare(PreparedFolder.open(whole).listing, dataclasses.replace(OPTIONS, geometry="full"), out)
    assert {path: path.read_bytes() for path in before} == before


def test_other_places_are_refused_before_anything_is_written(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is a token store"):
        prepare(listing(raw), OPTIONS, store)
    assert [path.name for path in store.iterdir()] == ["zarr.json"]
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError, match=r"is a file|cannot be written"):
            prepare(listing(raw), OPTIONS, out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_sentence(raw: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="choose a folder that you may write to"):
        prepare(listing(raw), OPTIONS, tmp_path / "out")


def test_missing_and_empty_inputs_are_one_sentence(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for videos, words in ((tmp_path / "nothing", "is not a folder"), (tmp_path / "empty", "an empty folder")):
        with pytest.raises(DataError, match=words):
            ntu.listing(videos, raw / "skeletons", dataset="ntu60")


def test_another_coordinator_is_waited_for(raw: Path, tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out"), pytest.raises(ArtifactError, match="another process is writing here"):
        prepare(listing(raw), OPTIONS, tmp_path / "out")


def test_a_worker_whose_coordinator_is_gone_stops(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = PreparedFolder.match(out, listing(raw), OPTIONS)
    with sole_writer(out) as word:
        folder.freeze()
        assert worker.prepare_shard(0, str(out), word, 4)["clips"] == 4
    with pytest.raises(ArtifactError, match="no longer locked"):
        worker.prepare_shard(1, str(out), word, 4)
    assert unfinished(folder) == ([1, 2], 4)


def test_data_that_go_away_fail_the_run_and_no_clip(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", worker.attempt

    def attempt(record: Any, *rest: Any) -> Any:
        if record.clip_id == CLIPS[5]:
            (corpus / "videos").rename(tmp_path / "unmounted")
        return real(record, *rest)

    monkeypatch.setattr(worker, "attempt", attempt)
    rows = listing(corpus)
    with pytest.raises(DataError, match="check the mount"):
        prepare(rows, OPTIONS, out)
    account = PreparedFolder.open(out).account()
    assert (account.done, account.failed, account.pending) == (4, 0, 6)
    monkeypatch.undo()
    (tmp_path / "unmounted").rename(corpus / "videos")
    assert prepare(rows, OPTIONS, out) == Account(done=10)


def test_an_empty_mountpoint_fails_the_run_and_no_clip(corpus: Path, tmp_path: Path) -> None:
    rows, out = listing(corpus), tmp_path / "out"
    (corpus / "skeletons").rename(tmp_path / "unmounted")
    (corpus / "skeletons").mkdir()
    with pytest.raises(DataError, match=r"skeletons: cannot be read on .*, or is empty; check the mount"):
        prepare(rows, OPTIONS, out)
    (corpus / "skeletons/lost+found").mkdir()
    with pytest.raises(DataError, match=r"skeletons: lacks 4 of 4 files on .* that were there; check the mount"):
        prepare(rows, OPTIONS, out)
    shutil.rmtree(corpus / "skeletons")
    (tmp_path / "unmounted").rename(corpus / "skeletons")
    _skeleton(corpus, CLIPS[3]).unlink()  # one of them alone is that clip's affair
    account = prepare(rows, OPTIONS, out)
    assert (account.done, account.failed) == (9, 1)


RECORDS = {"damaged": b"{}", "gone": None}


@pytest.mark.parametrize("retry", [{}, {"retry": True}, {"damaged": True}], ids=str)
@pytest.mark.parametrize("record", RECORDS)
def test_clips_without_a_record_are_not_lost_where_their_raw_files_are_away(
    corpus: Path, whole: Path, tmp_path: Path, record: str, retry: dict[str, bool]
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    folder = PreparedFolder.match(out, listing(corpus), OPTIONS)
    folder.freeze()
    shard = folder.shard(1)
    before = shard.path.read_bytes()
    shard.commit_path.unlink()
    if data := RECORDS[record]:
        shard.commit_path.write_bytes(data)
    _video(corpus, CLIPS[5]).rename(tmp_path / "away")
    sentence = (
        rf"clips-00001.h5: holds 1 clips that cannot be made again from {corpus}.*{CLIPS[5]}: .*restore clips-00001"
    )
    with pytest.raises(ArtifactError, match=sentence):
        prepare(folder.listing, OPTIONS, out, **retry)  # type: ignore[arg-type]
    for moved in ("videos", "skeletons"):
        (corpus / moved).rename(tmp_path / moved)
    with pytest.raises(DataError, match="check the mount"):
        prepare(folder.listing, OPTIONS, out, **retry)  # type: ignore[arg-type]
    assert shard.path.read_bytes() == before
    for moved in ("videos", "skeletons"):
        (tmp_path / moved).rename(corpus / moved)
    shard.path.unlink()  # as the sentence says, to go on without
    account = prepare(folder.listing, OPTIONS, out, **retry)  # type: ignore[arg-type]
    assert (account.done, account.failed) == (9, 1)
    (tmp_path / "away").rename(_video(corpus, CLIPS[5]))
    assert prepare(folder.listing, OPTIONS, out, retry=True) == Account(done=10)
    assert shard.path.read_bytes() == before


def test_a_row_that_cannot_be_read_takes_no_other_with_it(
    corpus: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The raw files are gone, and most of the shard is still there."""
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    shard = PreparedFolder.open(out).shard(0)
    record, real = shard.record(), hdf5.ShardReader.clip
    assert record is not None

    def clip(reader: hdf5.ShardReader, row: int) -> hdf5.ClipContent:
        if row == 2:
            raise CorruptError(reader.path, f"row {row} cannot be read")
        return real(reader, row)

    monkeypatch.setattr(hdf5.ShardReader, "clip", clip)
    kept, unproven = worker._earlier(shard)
    assert [*kept] == [0, 1, 3]
    assert not unproven
    for row, (content, entry) in kept.items():
        assert content is not None
        assert content.digest() == entry["sha256"] == record["clips"][row]["sha256"]
    shard.path.write_bytes(shard.path.read_bytes() + b"more")  # of another length, and readable
    assert [*worker._earlier(shard)[0]] == [0, 1, 3]


def test_a_retry_of_the_same_listing_leaves_missing_clips_alone(
    corpus: Path, tmp_path: Path, attempts: list[str]
) -> None:
    out = tmp_path / "out"
    _video(corpus, CLIPS[2]).unlink()
    rows = listing(corpus)
    assert prepare(rows, OPTIONS, out).missing == 1
    attempts.clear()
    shard = PreparedFolder.open(out).shard(0)
    before = shard.path.stat().st_mtime_ns
    assert prepare(rows, OPTIONS, out, retry=True).missing == 1
    assert attempts == []
    assert shard.path.stat().st_mtime_ns == before


def test_a_disk_that_is_clearly_too_small_is_refused_at_the_start(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(free: int) -> Callable[[Path], Any]:
        return lambda path: shutil._ntuple_diskusage(10**12, 10**12 - free, free)  # type: ignore[attr-defined]

    monkeypatch.setattr(files.shutil, "disk_usage", tell(300_000))
    with pytest.raises(ArtifactError, match=r"disk is too small .*free some space"):
        prepare(listing(raw), OPTIONS, tmp_path / "out")
    monkeypatch.setattr(files.shutil, "disk_usage", tell(3_000_000))
    assert prepare(listing(raw), OPTIONS, tmp_path / "out") == Account(done=10)
    monkeypatch.setattr(files.shutil, "disk_usage", tell(0))
    assert prepare(listing(raw), OPTIONS, tmp_path / "out") == Account(done=10)  # nothing is left to write


def test_a_disk_that_fills_up_is_one_sentence_and_goes_on(
    whole: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 9:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ArtifactError, match="the disk is full; free some space and run the same command again"):
        prepare(listing(raw), OPTIONS, tmp_path / "out")
    monkeypatch.undo()
    assert prepare(listing(raw), OPTIONS, tmp_path / "out") == Account(done=10)
    assert PreparedFolder.open(tmp_path / "out").content_digest() == PreparedFolder.open(whole).content_digest()


def test_lossless_and_draws_are_kept(raw: Path, tmp_path: Path) -> None:
    options = PrepareOptions(shard_clips=4, draws=3, frame_codec="lossless", sampling="last")
    prepare(listing(raw), options, tmp_path / "out")
    folder = PreparedFolder.open(tmp_path / "out")
    assert folder.options == options
    record = folder.record(2)
    assert record is not None
    for clip in folder.shard(2).clips(record):
        assert clip is not None
        assert clip.joints.shape == (3, 2, 16, JOINTS, 2)
        assert all(picture[:4] == b"\x89PNG" for draw in clip.frames for picture in draw)
        np.testing.assert_array_equal(clip.frame_index[0], np.arange(2, 18))


def test_options_that_cannot_be_are_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: must be"):
        prepare(listing(raw), OPTIONS, tmp_path / "out", workers=0)


# The twelve kinds of damage: what is done to a clip's files, and how its row may end. What a codec does not reveal
# (the last but one of the videos) is not promised: such a clip may be done, with whatever the decoder showed.
def _overwrite(path: Path, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    start = int(rng.integers(len(data) // 3, len(data) // 2))
    data[start : start + 300] = rng.bytes(300)
    path.write_bytes(data)


def _cut(path: Path, low: float, high: float, rng: np.random.Generator) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * rng.uniform(low, high))])


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _garbled(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines()
    line = int(rng.integers(4, len(lines)))
    lines[line] = lines[line].replace("0 3 0", "o 3 0") if " " in lines[line] else "x"
    path.write_text("\n".join(lines) + "\n")


Damage = Callable[[Path, Path, np.random.Generator], object]
KINDS: dict[str, tuple[Damage, set[str]]] = {
    "video of no bytes": (lambda v, s, rng: v.write_bytes(b""), {"failed"}),
    "text with a video's name": (lambda v, s, rng: v.write_text("no video\n" * 900), {"failed"}),
    "video cut off": (lambda v, s, rng: _cut(v, 0.4, 0.9, rng), {"failed"}),
    "video of a header only": (lambda v, s, rng: _cut(v, 0.01, 0.08, rng), {"failed"}),
    "video gone since the listing": (lambda v, s, rng: v.unlink(), {"failed"}),
    "empty folder with a video's name": (lambda v, s, rng: _as_folder(v), {"failed"}),
    "video overwritten in the middle": (lambda v, s, rng: _overwrite(v, rng), {"failed", "done"}),
    "skeleton of no bytes": (lambda v, s, rng: s.write_bytes(b""), {"failed"}),
    "skeleton cut off": (lambda v, s, rng: _cut(s, 0.05, 0.99, rng), {"failed"}),
    "skeleton with letters for numbers": (lambda v, s, rng: _garbled(s, rng), {"failed"}),
    "skeleton that is a pipe": (lambda v, s, rng: _as_pipe(s), {"failed"}),
    "skeleton without a body": (
        lambda v, s, rng: write_skeleton(s, joints_of_clip("x", 18), absent=frozenset(range(18))),
        {"excluded"},
    ),
}
FILES = 10  # of each kind


def test_of_twelve_kinds_of_damage_each_row_ends_right(tmp_path: Path) -> None:
    rng = np.random.default_rng(int(os.environ.get("SEED", "0")))
    clips = names(len(KINDS) * FILES + 20)
    rows = write_corpus(tmp_path / "raw", clips)
    artifact_type = dict(
        zip(rng.permutation(clips).tolist(), [kind for kind in KINDS for _ in range(FILES)], strict=False)
    )
    reference = prepare(rows, PrepareOptions(), tmp_path / "whole")
    assert reference == Account(done=len(clips))
    for name, kind in artifact_type.items():
        KINDS[kind][0](_video(tmp_path / "raw", name), _skeleton(tmp_path / "raw", name), rng)
    account = prepare(rows, PrepareOptions(), tmp_path / "out")
    assert account.total == len(clips)
    assert account.pending == 0
    before, after = _entries(tmp_path / "whole"), _entries(tmp_path / "out")
    for name in clips:
        if name not in artifact_type:
            assert after[name] == before[name]  # its neighbours' damage is none of its own
            continue
        kind, entry = artifact_type[name], after[name]
        assert entry["outcome"] in KINDS[kind][1], (kind, entry)
        if entry["outcome"] != "done":
            assert len(entry["reason"]) > 20, (kind, entry)
        if entry["outcome"] == "failed":
            assert entry["reason"].startswith(("video: ", "skeleton: ")), (kind, entry)


HANGS = """
import pipeline.decode.read
probe = pipeline.decode.read.probe
def hanging(path, **options):
    if open(path, "rb").read(4) == b"hang":
        hang()
    return probe(path, **options)
pipeline.decode.read.probe = hanging
"""


def _hanging(tmp_path: Path, count: int, budget_s: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """Prepare `count` videos that a decoder hangs on, among two good ones; returns how many processes it took."""
    clips = names(count + 2)
    rows = write_corpus(tmp_path / "raw", clips)
    for name in clips[1:-1]:
        _video(tmp_path / "raw", name).write_bytes(b"hang")
    install(monkeypatch, tmp_path, HANGS)
    starts = count_starts(monkeypatch, tmp_path)
    options = PrepareOptions(budget_s=budget_s)  # of its own: another decoding process than the other tests'
    account = prepare(rows, options, tmp_path / "out")
    assert (account.done, account.failed) == (2, count)
    for name, entry in _entries(tmp_path / "out").items():
        assert (entry["outcome"] == "failed") == (name in clips[1:-1])
        assert entry["outcome"] == "done" or f"timed out after {budget_s:g} s, twice" in entry["reason"]
    return len(starts)


def test_a_hanging_file_costs_two_budgets_and_that_clip_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hanging(tmp_path, 1, 4.5, monkeypatch) == 1 + 2


@pytest.mark.soak
def test_ten_hanging_files_cost_ten_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hanging(tmp_path, 10, 3.5, monkeypatch) == 1 + 2 * 10


def test_a_pipe_for_a_video_is_no_wait_at_all(corpus: Path, tmp_path: Path) -> None:
    _as_pipe(_video(corpus, CLIPS[0]))
    account = prepare(listing(corpus), OPTIONS, tmp_path / "out")
    assert (account.done, account.failed) == (9, 1)

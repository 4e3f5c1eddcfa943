"""The prepared folder: what was listed is frozen, every row is accounted for, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses
import json
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.config import PrepareOptions
from pipeline.errors import ArtifactError, ConfigError, CorruptError, DataError
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.shard import ROW_COLUMNS, SHARDS_AT_ONCE, read_meta, read_rows, read_shard
from pipeline.records import Listing, VideoRecord

OPTIONS = PrepareOptions(shard_clips=4)


def _listing(count: int = 10, **changed: object) -> Listing:
    records = tuple(
        VideoRecord(
            clip_id=f"S{i:06d}",
            key=f"k{i}",
            label=i % 3,
            video=f"v/{i}.avi",
            skeleton=f"s/{i}.skeleton",
            missing="no skeleton file" if i == 2 else "",
        )
        for i in range(count)
    )
    listing = Listing(
        dataset="ntu60",
        class_names=("a", "b", "c"),
        topology="ntu25",
        protocols=("xsub",),
        records=records,
        roots={"videos": "/here/v", "skeletons": "/here/s"},
    )
    return dataclasses.replace(listing, **changed)  # type: ignore[arg-type]


def _frozen(path: Path, listing: Listing | None = None, options: PrepareOptions = OPTIONS) -> PreparedFolder:
    folder = PreparedFolder.match(path, listing or _listing(), options)
    folder.freeze()
    return folder


def _commit(folder: PreparedFolder, number: int, outcomes: list[str]) -> None:
    shard = folder.shard(number)
    entries = [
        {"id": record.clip_id, "outcome": outcome, **({"sha256": "0" * 64} if outcome == "done" else {"reason": "why"})}
        for record, outcome in zip(shard.records, outcomes, strict=True)
    ]
    shard.commit(b"clips", entries)


def test_what_is_frozen_comes_back(tmp_path: Path) -> None:
    odd = dataclasses.replace(_listing().records[0], video='a\nb\u2028\x85,[]"ü')
    listing = _listing(records=(odd, *_listing().records[1:]))
    folder = _frozen(tmp_path / "x", listing)
    opened = PreparedFolder.open(tmp_path / "x")
    assert opened.listing == listing
    assert opened.options == OPTIONS
    assert opened.fingerprint == folder.fingerprint
    meta = json.loads((tmp_path / "x" / "dataset.json").read_text())
    assert meta["clips"] == 10
    assert set(meta["versions"]) >= {"star-tokens", "av", "libavcodec"}


def test_rows_stay_in_their_shards_for_ever(tmp_path: Path) -> None:
    folder = _frozen(tmp_path)
    assert folder.shards == 3
    assert [list(folder.rows(i)) for i in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for number in range(3):
        shard = read_shard(tmp_path, number, shard_clips=4)
        assert shard == folder.shard(number)
        assert [record.clip_id for record in shard.records] == [f"S{row:06d}" for row in folder.rows(number)]


def test_every_row_is_one_of_the_four_outcomes(tmp_path: Path) -> None:
    folder = _frozen(tmp_path)
    _commit(folder, 0, ["done", "failed", "excluded", "done"])
    _commit(folder, 2, ["failed", "done"])
    account = folder.account()
    assert (account.done, account.excluded, account.failed, account.pending, account.total) == (3, 1, 2, 4, 10)
    assert account.reasons == (("failed", "why", 2), ("excluded", "why", 1))
    assert [entry["id"] for entry in folder.outcomes()] == [record.clip_id for record in folder.listing.records]
    lines = [json.loads(line) for line in folder.manifest(folder.outcomes()).splitlines()]
    assert [line["row"] for line in lines] == list(range(10))
    assert lines[1] == {
        **{"row": 1, "id": "S000001", "outcome": "failed", "reason": "why", "label": 1, "video": "v/1.avi"}
    }
    assert lines[5]["outcome"] == "pending"


def test_where_data_lie_and_how_long_they_are_read_is_no_content(tmp_path: Path) -> None:
    first = _frozen(tmp_path)
    there = dataclasses.replace(_listing().records[0], video="other/v.avi", skeleton="", missing="no skeleton file")
    moved = _listing(roots={"videos": "/there/v", "skeletons": "/there/s"}, records=(there, *_listing().records[1:]))
    faster = dataclasses.replace(OPTIONS, budget_s=5.0)
    assert _frozen(tmp_path, moved, faster).fingerprint == first.fingerprint
    opened = PreparedFolder.open(tmp_path)
    assert opened.listing == moved  # what retry and the workers read
    assert opened.options == faster


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (_listing(9), ["1 clip is no longer there", "S000009"]),
        (_listing(15), ["5 clips are new", "S000010, S000011, S000012, …"]),
        (
            _listing(records=(dataclasses.replace(_listing().records[0], label=2), *_listing().records[1:])),
            ["1 clip has changed", "S000000"],
        ),
        (_listing(dataset="ntu120"), ["dataset: ntu60, now ntu120"]),
        (_listing(class_names=("a", "b", "d")), ["class names have changed (3, now 3)"]),
    ],
    ids=["gone", "new", "relabelled", "dataset", "classes"],
)
def test_another_listing_is_refused_with_the_difference(tmp_path: Path, changed: Listing, words: list[str]) -> None:
    _frozen(tmp_path)
    before = (tmp_path / "dataset.json").read_bytes()
    with pytest.raises(ArtifactError) as error:
        _frozen(tmp_path, changed)
    for word in [*words, "another `out`"]:
        assert word in str(error.value), word
    assert (tmp_path / "dataset.json").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sampling", "first"),
        ("draws", 2),
        ("geometry", "full"),
        ("frame_codec", "lossless"),
        ("seed", 7),
        ("reader", "opencv"),
        ("min_score", 0.5),
        ("max_persons", 3),
        ("persons_by", "size"),
        ("first_frame", 1),
    ],
)
def test_other_options_are_refused_by_name(tmp_path: Path, option: str, value: object) -> None:
    _frozen(tmp_path)
    with pytest.raises(ArtifactError, match=f"{option}: {getattr(OPTIONS, option)}, now {value}"):
        _frozen(tmp_path, options=dataclasses.replace(OPTIONS, **{option: value}))


def test_what_is_no_prepared_folder_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, files in (("store", ["zarr.json"]), ("run", ["config.json"]), ("other", ["notes.txt"])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    told = {
        "nothing": "does not exist",
        "empty": "is empty",
        "file": "is a file",
        "store": "is a token store",
        "run": "is a training run",
        "other": "holds no dataset.json",
    }
    for name, words in told.items():
        with pytest.raises(ArtifactError, match=words):
            PreparedFolder.open(tmp_path / name)
    for name in ("file", "store", "run", "other"):
        with pytest.raises(ArtifactError, match=told[name]):
            PreparedFolder.match(tmp_path / name, _listing(), OPTIONS)
    for name in ("nothing", "empty"):
        PreparedFolder.match(tmp_path / name, _listing(), OPTIONS)
    assert not (tmp_path / "nothing").exists()


def test_an_empty_listing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no clip"):
        PreparedFolder.match(tmp_path, _listing(0), OPTIONS)


def test_another_format_is_refused(tmp_path: Path) -> None:
    _frozen(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_bytes(seal({**unseal(path.read_bytes(), path, {}), "format": "star-prepared/9"}))
    with pytest.raises(ArtifactError, match="star-prepared/9, expected star-prepared/3"):
        PreparedFolder.open(tmp_path)
    with pytest.raises(ArtifactError, match=r"has another format .*; make the folder again"):
        PreparedFolder.match(tmp_path, _listing(), OPTIONS)


def test_a_damaged_listing_is_never_used(tmp_path: Path) -> None:
    folder = _frozen(tmp_path)
    uses = (
        lambda: PreparedFolder.open(tmp_path),
        lambda: read_shard(tmp_path, 0, shard_clips=4),  # reads rows 0 to 3 only
    )
    rows = tmp_path / "rows.jsonl"
    whole = rows.read_bytes()
    renamed = whole.replace(b"S000007", b"S000006")  # another clip's name, in valid JSON
    for damaged in (renamed, whole[:-1], whole[: whole.rindex(b"[")], whole + b"\n", b""):
        rows.write_bytes(damaged)
        for use in uses:
            with pytest.raises(CorruptError, match=r"rows\.jsonl: does not match its checksum in dataset\.json"):
                use()
        assert _frozen(tmp_path).fingerprint == folder.fingerprint  # which has a listing of its own
        assert rows.read_bytes() == whole
    rows.unlink()
    for use in uses:
        with pytest.raises(ArtifactError, match=r"rows\.jsonl: cannot be read .*run the same `star prepare` again"):
            use()
    assert _frozen(tmp_path).fingerprint == folder.fingerprint  # as the sentence advises
    assert rows.read_bytes() == whole
    meta = tmp_path / "dataset.json"
    meta.write_bytes(meta.read_bytes().replace(b"ntu60", b"ntu61"))
    for use in uses:
        with pytest.raises(CorruptError, match=r"dataset\.json: does not match its own checksum"):
            use()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_or_lost_tail_of_the_rows_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("rows")
    _frozen(path)
    whole = (path / "rows.jsonl").read_bytes()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    meta = read_meta(path)
    for damaged in (bytes(flipped), whole[: bit // 8]):
        (path / "rows.jsonl").write_bytes(damaged)
        with pytest.raises(CorruptError):
            read_rows(path, meta, range(1))


def test_half_a_shard_is_no_shard(tmp_path: Path) -> None:
    folder = _frozen(tmp_path)
    outcomes = ["done", "done", "excluded", "done"]
    _commit(folder, 0, outcomes)
    assert folder.shard(0).committed() is not None
    folder.shard(0).path.write_bytes(b"clip")  # cut short
    assert folder.shard(0).committed() is None
    folder.shard(0).path.unlink()
    assert folder.account().pending == 10
    _commit(folder, 1, ["done"] * 4)
    folder.shard(1).commit_path.write_bytes(folder.shard(1).commit_path.read_bytes()[:-9])
    with pytest.raises(CorruptError):
        folder.outcomes()


def test_a_record_of_another_folder_is_refused(tmp_path: Path) -> None:
    folder, other = _frozen(tmp_path / "a"), _frozen(tmp_path / "b", options=dataclasses.replace(OPTIONS, seed=1))
    _commit(other, 0, ["done"] * 4)
    other.shard(0).commit_path.rename(folder.shard(0).commit_path)
    with pytest.raises(ArtifactError, match="belongs to another prepared folder"):
        folder.outcomes()
    _commit(folder, 1, ["done"] * 4)
    folder.shard(1).commit_path.rename(folder.shard(0).commit_path)  # nor another shard's
    with pytest.raises(ArtifactError, match="belongs to another"):
        folder.outcomes()


def test_shards_far_from_each_other_are_read_alike(tmp_path: Path) -> None:
    folder = _frozen(tmp_path, _listing(4 * 2 * SHARDS_AT_ONCE + 5))
    for number in (0, 2 * SHARDS_AT_ONCE + 1, SHARDS_AT_ONCE - 1, 2 * SHARDS_AT_ONCE, SHARDS_AT_ONCE, 1):
        assert read_shard(tmp_path, number, shard_clips=4) == folder.shard(number)


def test_the_content_digest_is_of_outcomes_reasons_and_clips(tmp_path: Path) -> None:
    digests = []
    for name, outcomes in (("a", ["done"] * 4), ("b", ["done"] * 4), ("c", ["done", "done", "failed", "done"])):
        folder = _frozen(tmp_path / name)
        _commit(folder, 0, outcomes)
        (folder.path / "log").mkdir()
        (folder.path / "log" / "attempts.jsonl").write_text(str(random.random()))
        digests.append(folder.content_digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_worker_needs_no_more_memory_for_a_large_data_set(tmp_path: Path) -> None:
    peaks = []
    for count in (2000, 20_000):
        _frozen(tmp_path / str(count), _listing(count), PrepareOptions())
        tracemalloc.start()
        shard = read_shard(tmp_path / str(count), 3, shard_clips=64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert shard.records[0].clip_id == "S000192"
    assert peaks[1] < 1.5 * peaks[0], peaks


def test_a_deleted_dataset_json_is_written_again(tmp_path: Path) -> None:
    """As the sentence about a damaged one advises; and only by the command that the shards are of."""
    folder = _frozen(tmp_path / "p")
    _commit(folder, 0, ["done", "done", "excluded", "failed"])
    (tmp_path / "p/clips-00000.h5").write_bytes(b"clips")
    path = tmp_path / "p/dataset.json"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(ArtifactError, match="holds shards that were made from something else"):
        PreparedFolder.match(tmp_path / "p", _listing(), dataclasses.replace(OPTIONS, draws=2))
    assert not path.exists()
    assert _frozen(tmp_path / "p").account().done == 2
    assert path.read_bytes() == whole
    path.unlink()
    (tmp_path / "p/thesis.tex").write_text("x")
    with pytest.raises(ArtifactError, match="expected an empty folder"):
        PreparedFolder.match(tmp_path / "p", _listing(), OPTIONS)


def _resealed(path: Path, **changed: object) -> None:
    meta = unseal((path / "dataset.json").read_bytes(), path, {})
    rows = sha256((path / "rows.jsonl").read_bytes())
    (path / "dataset.json").write_bytes(seal({**meta, "rows_sha256": rows, **changed}))


@pytest.mark.parametrize(
    "changed",
    [
        {"class_names": ["c", "b", "a"]},
        {"topology": "openpose25"},
        {"dataset": "ntu120"},
        {"options": {**dataclasses.asdict(OPTIONS), "draws": 2}},
        {"options": {**dataclasses.asdict(OPTIONS), "persons_by": "score"}},
    ],
    ids=str,
)
def test_what_decides_the_content_cannot_be_changed_under_right_checksums(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    path = _frozen(tmp_path / "p").path
    _resealed(path)
    assert PreparedFolder.open(path).listing == _listing()
    _resealed(path, **changed)
    with pytest.raises(CorruptError, match="is not of its own fingerprint"):
        PreparedFolder.open(path)


@pytest.mark.parametrize("column", ["label", "key", "subject", "split", "excluded"])
def test_a_row_cannot_be_changed_under_right_checksums(tmp_path: Path, column: str) -> None:
    path = _frozen(tmp_path / "p").path
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    place = ROW_COLUMNS.index(column)
    rows[1][place] = 2 if isinstance(rows[1][place], int) else "x"
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _resealed(path)
    with pytest.raises(CorruptError, match="is not of its own fingerprint"):
        PreparedFolder.open(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("label", 3), ("label", -2), ("subject", 1 << 31), ("camera", -(1 << 31) - 1), ("setup", 1 << 70),
     ("replication", 1 << 40)],
)  # fmt: skip
def test_numbers_of_a_row_are_in_their_ranges(tmp_path: Path, column: str, value: int) -> None:
    """With a fingerprint that is right too, which anyone can compute."""
    listing = _listing()
    records = (dataclasses.replace(listing.records[0], **{column: value}), *listing.records[1:])
    path = _frozen(tmp_path / "p", dataclasses.replace(listing, records=records)).path
    for use in (lambda: PreparedFolder.open(path), lambda: read_shard(path, 0, shard_clips=OPTIONS.shard_clips)):
        with pytest.raises(CorruptError, match=f"has a wrong {column} in a row .got {value}, expected"):
            use()


@pytest.mark.parametrize(
    ("roots", "sentence"),
    [({}, "has no roots.videos"), ({"videos": "/v"}, "has no roots.skeletons"),
     ({"videos": "/v", "skeletons": 3}, "has a wrong roots.skeletons"),
     ({"videos": "/v\0", "skeletons": "/s"}, "has a wrong roots.videos")],
)  # fmt: skip
def test_roots_are_two_paths(tmp_path: Path, roots: dict[str, object], sentence: str) -> None:
    path = _frozen(tmp_path / "p").path
    _resealed(path, roots=roots)
    with pytest.raises(CorruptError, match=sentence):
        PreparedFolder.open(path)


@pytest.mark.parametrize(
    ("option", "value"),
    [("budget_s", 1e9), ("budget_s", 0), ("max_persons", 65), ("max_persons", 0), ("draws", 1001), ("draws", 0),
     ("shard_clips", 100_001), ("shard_clips", 0)],
)  # fmt: skip
def test_options_are_in_their_ranges(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: the number is too"):
        PrepareOptions(**{option: value})  # type: ignore[arg-type]

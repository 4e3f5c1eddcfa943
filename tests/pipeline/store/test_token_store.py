"""The store as its readers see it: values, statuses, errors, batches in the caller's buffers, other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from contracts.store_contract import small_arrays
from extract_corpus import OPTIONS, clip_id, commit_prepared, install, write_prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ArtifactError, ConfigError, CorruptError
from pipeline.extract.coordinator import extract
from pipeline.records import VideoRecord
from pipeline.store.batches import TokenBatch
from pipeline.store.blobs import open_blobs
from pipeline.store.blobs_local import LocalBlobs
from pipeline.store.layout import StoreSizes, encode_metadata, put_order
from pipeline.store.token_store import TokenStore
from pipeline.store.write import create_store, write_arrays


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("stores") / "small.zarr"
    return path, small_arrays(path)


@pytest.fixture
def holey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine clips, of which row 2 is excluded and row 5 has failed."""
    install(monkeypatch)
    folder = write_prepared(tmp_path / "prepared", 9, excluded=[2], failed=[5])
    extract(folder.path, tmp_path / "tokens.zarr", OPTIONS)
    return tmp_path / "tokens.zarr"


def test_plain_zarr_reads_it_in_ten_lines(small: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, written = small
    import zarr

    store = zarr.open(path, mode="r")
    done = np.flatnonzero(store["status"][:, 0] == 1)
    gg = store["gg"][done[0], 0]
    jm = store["jm"][done[0], 0]
    present = store["joint_mask"][done[0], 0]
    label = store.attrs["class_names"][store["label"][done[0]]]

    assert np.array_equal(gg, written["gg"][0, 0])
    assert np.array_equal(jm, written["jm"][0, 0])
    assert np.array_equal(present, written["joint_mask"][0, 0])
    assert label == "a"
    assert (path / "clips.txt").read_text().split() == [clip_id(i) for i in range(11)]


def test_axes_types_and_chunks_are_the_design(holey: Path) -> None:
    store = TokenStore.open(holey)
    assert store.gg.metadata.dimension_names == ("N", "K", "T", "P", "D")
    assert store.jm.metadata.dimension_names == ("N", "K", "T", "V", "D'")
    assert store.array("joints").metadata.dimension_names == ("N", "K", "M", "T", "V", "xy")
    assert store.array("joint_scores").metadata.dimension_names == ("N", "K", "M", "T", "V")
    assert store.array("xyz").metadata.dimension_names == ("N", "K", "M", "T", "V", "xyz")
    assert (store.gg.dtype, store.gg.chunks, store.gg.shards) == ("float16", (1, 1, 16, 4, 512), (4, 1, 16, 4, 512))
    assert store.array("status").chunks == (4, 1)
    assert [type(codec).__name__ for codec in store.jm.compressors] == ["Crc32cCodec"]
    assert store.attrs["joint_names"][0] == "head"
    assert store.attrs["protocols"] == ["official"]


def test_records_come_back(holey: Path) -> None:
    store = TokenStore.open(holey)
    records = store.records()
    assert [(r.clip_id, r.key, r.label, r.split) for r in records[:2]] == [
        ("0000", "0000", 0, "test"),
        ("0001", "0001", 1, "train"),
    ]
    assert [r.subject for r in records] == [-1] * 9
    assert len(store) == 9
    assert "clips=9, views=1, penn-action" in repr(store)


def test_statuses_outcomes_and_account_agree(holey: Path) -> None:
    store = TokenStore.open(holey)
    assert store.status[:, 0].tolist() == [1, 1, 2, 1, 1, 3, 1, 1, 1]
    outcomes = store.outcomes()
    assert [entry["outcome"] for entry in outcomes] == [
        *("done", "done", "excluded", "done", "done", "failed", "done", "done", "done"),
    ]
    assert outcomes[5] == {"id": "0005", "outcome": "failed", "reason": "the video ends early"}
    assert set(outcomes[0]) == {"id", "outcome", "source", "sha256"}
    account = store.account()
    assert (account.done, account.excluded, account.failed, account.pending) == (7, 1, 1, 0)
    assert set(account.reasons) == {("excluded", "no skeleton", 1), ("failed", "the video ends early", 1)}


def test_a_survey_is_one_pass_and_what_the_methods_tell_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    folder = write_prepared(tmp_path / "prepared", 9, excluded=[2], failed=[5])
    extract(folder.path, tmp_path / "s", replace(OPTIONS, views=2))
    (tmp_path / "s/commits/001/00001.json").unlink()
    store, read, get = TokenStore.open(tmp_path / "s"), [], LocalBlobs.get
    monkeypatch.setattr(LocalBlobs, "get", lambda self, key, **most: (read.append(key), get(self, key, **most))[1])
    survey = store.survey()
    records = [f"commits/{view:03d}/{shard:05d}.json" for view in range(2) for shard in range(3)]
    assert sorted(key for key in read if key.startswith("commits/")) == [*records, "commits/metadata.json"]
    assert survey.outcomes == store.outcomes()
    assert [entry["outcome"] for entry in survey.outcomes] == [
        *("done", "done", "excluded", "done", "pending", "pending", "pending", "pending", "done"),
    ]
    assert survey.account == store.account()
    assert survey.views == [store.account(0), store.account(1)]
    assert (survey.views[0].failed, survey.views[1].failed) == (1, 0)
    assert survey.content_digest == store.content_digest()
    files = {path.relative_to(tmp_path / "s"): path for path in (tmp_path / "s").rglob("[!.]*") if path.is_file()}
    committed = [path for key, path in files.items() if key.parts[0] not in ("log", "commits")]
    pending = [path for key, path in files.items() if key.parts[1:4] == ("c", "1", "1")]
    assert survey.nbytes == sum(p.stat().st_size for p in committed) - sum(p.stat().st_size for p in pending)


def test_what_is_done_by_a_retry_is_read_by_its_new_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder = write_prepared(tmp_path / "prepared", 9, failed=[4])
    extract(folder.path, tmp_path / "s", replace(OPTIONS, codec="zstd"))
    store = TokenStore.open(tmp_path / "s")
    before = store.read([5, 7])
    commit_prepared(folder, 1)
    with pytest.raises(ArtifactError, match="clip 0004, view 0: has no tokens"):
        store.read([4])
    extract(folder.path, tmp_path / "s", replace(OPTIONS, codec="zstd"), retry=True)
    extract(folder.path, tmp_path / "t", OPTIONS)
    assert np.array_equal(store.read([4, 5, 7]).gg, TokenStore.open(tmp_path / "t").read([4, 5, 7]).gg)
    assert np.array_equal(store.read([5, 7]).jm, before.jm)


def test_a_clip_without_tokens_is_not_read(holey: Path) -> None:
    store = TokenStore.open(holey)
    for row in (2, 5):
        with pytest.raises(
            ArtifactError, match=f"clip 000{row}, view 0: has no tokens .* `star inspect` gives the reason"
        ):
            store.read([0, row])
    assert (store.gg[2] == 0).all()


def test_what_becomes_done_is_seen_by_an_open_store(holey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    (holey / "commits/000/00001.json").unlink()
    (holey / "status/c/1/0").unlink()
    store = TokenStore.open(holey)
    assert store.account().pending == 4
    with pytest.raises(ArtifactError, match="has no tokens"):
        store.read([4])
    extract(holey.parent / "prepared", holey, OPTIONS)
    assert np.isfinite(store.read([4, 6]).gg).all()
    assert store.account().pending == 0


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_batches_are_the_arrays_in_any_order(small: tuple[Path, dict[str, np.ndarray]], data: st.DataObject) -> None:
    path, written = small
    rows = data.draw(st.lists(st.integers(0, 10), min_size=0, max_size=40))
    views = data.draw(st.one_of(st.integers(0, 1), st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows))))
    store = TokenStore.open(path)
    batch = store.read(rows, view=views)
    at = np.asarray(rows, np.int64), np.broadcast_to(np.asarray(views, np.int64), len(rows))
    assert np.array_equal(batch.gg, written["gg"][at])
    assert np.array_equal(batch.jm, written["jm"][at])
    assert np.array_equal(batch.joint_mask, written["joint_mask"][at])
    assert batch.labels.tolist() == [row % 3 for row in rows]


def test_buffers_are_filled_and_returned(small: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, written = small
    store = TokenStore.open(path)
    room = store.buffers(4)
    room.gg[:] = np.nan
    batch = store.read([5, 1], view=1, out=room)
    assert np.shares_memory(batch.gg, room.gg)
    assert np.array_equal(room.gg[:2], written["gg"][[5, 1], 1])
    assert np.isnan(room.gg[2:]).all()
    assert batch.labels.tolist() == room.labels[:2].tolist() == [2, 1]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_kind_that_is_not_asked_for_is_not_read(tmp_path: Path, dtype: str) -> None:
    small_arrays(tmp_path / "s", dtype=dtype)
    both = TokenStore.open(tmp_path / "s").read([5, 1, 10], view=1)
    shutil.rmtree(tmp_path / "s/gg/c")
    store = TokenStore.open(tmp_path / "s")
    room = store.buffers(4, ("jm",))
    for batch in (store.read([5, 1, 10], view=1, tokens=("jm",)), store.read([5, 1, 10], 1, tokens=["jm"], out=room)):
        assert batch.gg.shape == (3, 3, 4, 0)
        assert np.array_equal(batch.jm, both.jm)
        assert np.array_equal(batch.joint_mask, both.joint_mask)
    with pytest.raises(CorruptError, match=r"clip 0005, view 1: gg(_scale)? is missing with its whole shard"):
        store.read([5], view=1)
    with pytest.raises(ConfigError, match=r"out.gg: cannot hold the batch .* \(1, 3, 4, 0\)"):
        store.read([5], tokens=("jm",), out=store.buffers(1))
    with pytest.raises(ConfigError, match=r"tokens: no such kind of tokens \(got 'rgb', expected gg \| jm\)"):
        store.read([5], tokens=("jm", "rgb"))


def test_one_reading_thread_is_kept_by_copies(small: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, written = small
    store, before = pickle.loads(pickle.dumps(TokenStore.open(path, threads=1))), set(threading.enumerate())
    assert np.array_equal(store.read(range(11)).gg, written["gg"][:, 0])
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("gg", lambda a: a[:1]),
        ("gg", lambda a: a.astype(np.float32)),
        ("jm", lambda a: a[..., :-1]),
        ("jm", lambda a: np.asfortranarray(a)),
        ("labels", lambda a: a.astype(np.int32)),
    ],
)
def test_buffers_that_do_not_fit_are_refused(small: tuple[Path, dict], field: str, change) -> None:  # type: ignore[no-untyped-def]
    store = TokenStore.open(small[0])
    room = store.buffers(2)
    with pytest.raises(ConfigError, match=f"out.{field}: cannot hold the batch .* use TokenStore.buffers"):
        store.read([0, 1], out=room._replace(**{field: change(getattr(room, field))}))


def test_rows_and_views_out_of_range_are_told(small: tuple[Path, dict]) -> None:
    store = TokenStore.open(small[0])
    with pytest.raises(ConfigError, match=r"index: is not in the store .* expected 0 to 10"):
        store.read([0, 11])
    with pytest.raises(ConfigError, match="index: is not in the store"):
        store.read([-1])
    with pytest.raises(ConfigError, match=r"view: is not in the store .* expected 0 to 1"):
        store.read([0], view=2)


@pytest.mark.parametrize(
    "indices", [np.array([True, False, True]), [0.7], [[0, 1]], ["0"]], ids=["mask", "fraction", "table", "text"]
)
def test_what_is_no_row_of_numbers_is_refused(small: tuple[Path, dict], indices: object) -> None:
    store = TokenStore.open(small[0])
    with pytest.raises(ConfigError, match=r"indices: must be a 1-D array of integers .* np\.flatnonzero"):
        store.read(indices)
    with pytest.raises(ConfigError, match="view: must be one number or one for each row"):
        store.read([0, 1, 2], view=[0, 0])
    assert len(store.read([]).gg) == 0
    assert len(store.read(np.uint8(1)).gg) == 1


@pytest.mark.processes
def test_the_store_goes_to_other_processes_and_threads(small: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, written = small
    store = TokenStore.open(path)
    store.read(range(11))  # threads and files are open before the fork
    again = pickle.loads(pickle.dumps(store))
    assert np.array_equal(again.read([3]).gg, written["gg"][[3], 0])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for batch in pool.map(store.read, [[1, 2], [9, 0], [4], [10, 10]]):
            assert isinstance(batch, TokenBatch)
        assert np.array_equal(pool.apply(store.read, ([7, 3],)).gg, written["gg"][[7, 3], 0])
    failures = []

    def read_often(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(30):
            rows = rng.integers(0, 11, 5)
            if not np.array_equal(store.read(rows).jm, written["jm"][rows, 0]):
                failures.append(rows)

    threads = [threading.Thread(target=read_often, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_more_shards_than_may_be_open(small: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.clip_reader.OPEN_FILES", 2)
    path, written = small
    store = TokenStore.open(path)
    for _ in range(3):
        rows = np.asarray([0, 5, 9, 1, 10])
        assert np.array_equal(store.read(rows, view=[0, 1, 0, 1, 0]).gg, written["gg"][rows, [0, 1, 0, 1, 0]])


def test_a_batch_out_of_more_shards_than_a_process_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, count = np.random.default_rng(0), 60
    written = {
        "gg": rng.normal(size=(count, 1, 1, 1, 2)).astype(np.float16),
        "jm": rng.normal(size=(count, 1, 1, 13, 2)).astype(np.float16),
        "joint_mask": np.ones((count, 1, 1, 13), bool),
    }
    records = [VideoRecord(clip_id=f"{i:02d}", key=f"{i:02d}", label=0) for i in range(count)]
    write_arrays(
        tmp_path / "s", **written, records=records, class_names=["a"], dataset="penn-action", topology="penn13",
        shard_clips=1,
    )  # fmt: skip
    store, rows = TokenStore.open(tmp_path / "s"), rng.permutation(count)
    store.read(rows[:1])  # the small arrays and the threads
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, usual[1]))
    try:
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.store.clip_reader.OPEN_FILES", 30)
            read = store.read(rows)
        with pytest.raises(ArtifactError, match="ulimit -n"):
            store.read(rows)  # what may be kept of 1,024 is too much here
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert np.array_equal(read.gg, written["gg"][rows, 0])
    assert np.array_equal(read.jm, written["jm"][rows, 0])


def test_what_is_no_store_is_named(tmp_path: Path, holey: Path) -> None:
    for path, sentence in (
        (tmp_path / "nothing", "does not exist"),
        (holey.parent / "prepared", "is a prepared folder, not a token store"),
        (holey / "zarr.json", "is a file, not a folder"),
        (holey / "gg", "is a Zarr group, but not a token store"),
        (tmp_path, "holds no zarr.json"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            TokenStore.open(path)


def test_a_store_of_another_format_is_refused(holey: Path) -> None:
    meta = json.loads((holey / "zarr.json").read_text())
    meta["attributes"]["format"] = "star-tokens/2"
    (holey / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(
        ArtifactError, match=r"another format .got star-tokens/2, expected star-tokens/3.; make it again"
    ):
        TokenStore.open(holey)


def test_a_store_with_a_codec_of_earlier_versions_is_refused(holey: Path) -> None:
    meta = (holey / "zarr.json").read_text()
    (holey / "zarr.json").write_text(meta.replace('"codec": "none"', '"codec": "lz4"'))
    with pytest.raises(ArtifactError, match=r"zarr: has a codec that cannot be read .got lz4, expected none \| zstd."):
        TokenStore.open(holey)


@pytest.mark.parametrize("name", ["label", "clip_id", "split"])
def test_damaged_columns_are_told_not_trained_from(small: tuple[Path, dict], tmp_path: Path, name: str) -> None:
    small_arrays(tmp_path / "s")
    data = bytearray((tmp_path / "s" / name / "c/0").read_bytes())
    data[3] ^= 1
    (tmp_path / "s" / name / "c/0").write_bytes(data)
    with pytest.raises(CorruptError, match=f"{name}: does not match its checksum; run `star verify`"):
        TokenStore.open(tmp_path / "s").records()
    (tmp_path / "s" / name / "c/0").unlink()
    with pytest.raises(CorruptError, match=f"{name}: cannot be read .its chunk is missing"):
        TokenStore.open(tmp_path / "s").records()


@pytest.mark.parametrize("name", ["joint_mask/c/0/0/0/0", "status/c/0/0", "gg/c/0/0/0/0/0", "jm/c/0/0/0/0/0"])
@pytest.mark.parametrize("byte", [2, -6, -2])
def test_damaged_chunks_are_told_not_trained_from(tmp_path: Path, name: str, byte: int) -> None:
    small_arrays(tmp_path / "s")
    data = bytearray((tmp_path / "s" / name).read_bytes())
    data[byte] ^= 1
    (tmp_path / "s" / name).write_bytes(data)
    with pytest.raises(CorruptError, match=r"checksum.*; run `star verify`"):
        TokenStore.open(tmp_path / "s").read([0, 1, 2, 3])


def test_joints_of_a_clip_are_checked(tmp_path: Path) -> None:
    small_arrays(tmp_path / "s")
    store = TokenStore.open(tmp_path / "s")
    assert np.array_equal(store.joints_of(5, 1), np.asarray(store.joints[5, 1]), equal_nan=True)
    path = next((tmp_path / "s/joints/c/1/1").rglob("0"))
    while path.is_dir():
        path = next(path.iterdir())
    path.write_bytes(path.read_bytes()[:-7] + b"1234567")
    with pytest.raises(CorruptError, match="joints"):
        TokenStore.open(tmp_path / "s").joints_of(5, 1)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_joints_are_read_by_clip_and_view(tmp_path: Path, codec: str) -> None:
    rng = np.random.default_rng(2)
    given = {
        "joints": rng.normal(size=(11, 2, 2, 3, 13, 2)).astype(np.float32),
        "joint_scores": rng.random((11, 2, 2, 3, 13)).astype(np.float32),
    }
    small_arrays(tmp_path / "s", codec=codec, joints=given)
    store = TokenStore.open(tmp_path / "s")
    rows, views = [7, 0, 7, 10], [1, 0, 0, 1]
    found = store.read_joints(rows, views)
    for name, array in given.items():
        assert np.array_equal(found[name], array[rows, views])
        assert np.array_equal(store.array(name)[:][rows, views], array[rows, views])
    assert found["xyz"].shape == (4, 2, 3, 13, 3)
    assert np.isnan(found["xyz"]).all()  # none was given
    assert list(store.read_joints([1], 0, fields=["xyz"])) == ["xyz"]
    with pytest.raises(ConfigError, match=r"fields: no such choice .got 'gg'"):
        store.read_joints([1], 0, fields=["gg"])
    with pytest.raises(ConfigError, match="is not in the store"):
        store.read_joints([11], 0)
    with pytest.raises(ConfigError, match=r"joints: xyz: is of another shape"):
        small_arrays(tmp_path / "t", joints={"xyz": given["joints"]})
    with pytest.raises(ConfigError, match=r"joints: no such choice .got 'gg'"):
        small_arrays(tmp_path / "t", joints={"gg": given["joints"]})


def test_a_truncated_shard_is_told(tmp_path: Path) -> None:
    small_arrays(tmp_path / "s")
    path = tmp_path / "s/gg/c/0/0/0/0/0"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptError, match="the index of its shard does not match"):
        TokenStore.open(tmp_path / "s").read([0])
    path.write_bytes(b"")
    with pytest.raises(CorruptError, match="the index of its shard does not match"):
        TokenStore.open(tmp_path / "s").read([0])


def test_write_arrays_checks_what_it_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = TokenStore.open(_small(tmp_path / "a"))
    given = {
        "gg": rng.normal(size=(2, 1, 3, 4, 8)), "jm": rng.normal(size=(2, 1, 3, 12, 6)),
        "joint_mask": np.ones((2, 1, 3, 12), bool), "records": store.records()[:2], "class_names": ["a"],
        "dataset": "penn-action", "topology": "penn13",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="the arrays: have shapes that do not match"):
        write_arrays(tmp_path / "b", **given)
    small = {**given, "jm": rng.normal(size=(2, 1, 3, 13, 6)), "joint_mask": np.ones((2, 1, 3, 13), bool)}
    with pytest.raises(ArtifactError, match="was made from something else: arrays: "):
        write_arrays(tmp_path / "a", **small)


def _small(path: Path) -> Path:
    small_arrays(path)
    return path


def test_metadata_left_unfinished_are_finished(tmp_path: Path) -> None:
    """A writer may be killed between any two keys of the metadata: the next one completes the same store."""
    sizes = StoreSizes(clips=2, views=1, shard_clips=4, persons=2, frames=3, joints=13, cells=4, gg_channels=8,
                       jm_channels=6)  # fmt: skip
    records = TokenStore.open(_small(tmp_path / "small")).records()[:2]
    about = {
        "dataset": "penn-action", "topology": "penn13", "class_names": ["a", "b", "c"], "joint_names": ["j"] * 13,
        "protocols": ["official"],
    }  # fmt: skip
    whole = open_blobs(tmp_path / "whole")
    create_store(whole, sizes=sizes, records=records, made_from={"x": 1}, about=about)
    attributes = json.loads((tmp_path / "whole/zarr.json").read_text())["attributes"]
    keys = put_order(encode_metadata(sizes, records, attributes))
    assert set(keys) == set(encode_metadata(sizes, records, attributes))
    assert keys[-1] == "zarr.json"
    for count in (0, 1, 2, len(keys) // 2, len(keys) - 1, len(keys)):
        part = open_blobs(tmp_path / f"part{count}")
        for key in keys[:count]:
            part.put(key, whole.get(key) or b"")
        create_store(part, sizes=sizes, records=records, made_from={"x": 1}, about=about)
        assert {key: part.get(key) for key in part.keys("")} == {key: whole.get(key) for key in whole.keys("")}

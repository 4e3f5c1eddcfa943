"""Stage 2 from prepared clips to a store: values, outcomes, what is refused, resuming, retrying, further views."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from distributed import LocalCluster
from extract_corpus import (
    KEPT,
    OPTIONS,
    clip_id,
    commit_prepared,
    computing,
    content,
    exchange_clips,
    install,
    stub_tokens,
    tree,
)
from extract_corpus import write_prepared as write

from pipeline import manifest
from pipeline.artifacts.fingerprint import fingerprint, sha256
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.config import PrepareOptions
from pipeline.errors import ArtifactError, ConfigError, CorruptError, DataError
from pipeline.extract import compute, worker
from pipeline.extract.coordinator import _resolved, extract, options_of, run_length, threads_of
from pipeline.extract.provenance import made_from_of
from pipeline.extract.shard import NOT_DECODED, NOT_WHOLE
from pipeline.extract.values import ShardJob
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import decode_picture
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store
from pipeline.views import crop_frames, crop_joints, crop_visible, view_of

HOW = "cpu, fp32, 3 clips at a time"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    install(monkeypatch)
    return monkeypatch


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return write(tmp_path / "prepared", 9, draws=2).path


def tokens_of(i: int, view: int, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Of row i and one view, by hand: decode, crop, the stub."""
    clip, pairs = content(i, 2), manifest.topology("penn13").pairs
    chosen = view_of(clip_id(i), view, seed=seed, draws=2, kept=(KEPT, KEPT), crop=OPTIONS.crop)
    frames = np.stack([decode_picture(picture) for picture in clip.frames[chosen.draw]])
    frames = crop_frames(frames, chosen, crop=OPTIONS.crop)
    joints = crop_joints(clip.joints[chosen.draw], chosen, pairs, crop=OPTIONS.crop)
    scores = crop_visible(clip.scores[chosen.draw], chosen, pairs)
    gg, jm, mask = stub_tokens(frames[None], joints[None], scores[None] > 0)
    return gg[0], jm[0], mask[0], joints, scores, clip.frame_index[chosen.draw], (scores > 0).any((1, 2)).sum()


def xyz_of(i: int, view: int, *, seed: int) -> np.ndarray:
    """(M, T, V, 3) of row i and one view, joint by joint."""
    clip, topology = content(i, 2), manifest.topology("penn13")
    chosen = view_of(clip_id(i), view, seed=seed, draws=2, kept=(KEPT, KEPT), crop=OPTIONS.crop)
    if clip.xyz is None:
        return np.full((*clip.scores.shape[1:], 3), np.nan, np.float32)
    xyz = clip.xyz[chosen.draw].copy()
    if chosen.flip:
        for m, t, v in np.ndindex(xyz.shape[:3]):
            left, right = topology.joint_names[v].replace("right", "left"), topology.joint_names[v]
            other = right.replace("right", "left") if "right" in right else left.replace("left", "right")
            x, y, z = clip.xyz[chosen.draw, m, t, topology.joint_names.index(other)]
            xyz[m, t, v] = -x, y, z
    return xyz


def test_tokens_computed_live_are_the_tokens_read_back(stub: Any, prepared: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    account = extract(prepared, tmp_path / "s", replace(OPTIONS, views=3, seed=4), progress=events.append)
    assert (account.done, account.total) == (9, 9)
    store, plain = TokenStore.open(tmp_path / "s"), zarr.open_group(tmp_path / "s", mode="r")
    for view in range(3):
        batch = store.read(range(9), view=view)
        for i in range(9):
            gg, jm, mask, joints, scores, frames, persons = tokens_of(i, view, seed=4)
            assert np.array_equal(batch.gg[i], gg)
            assert np.array_equal(plain["gg"][i, view], gg)
            assert np.array_equal(batch.jm[i], jm)
            assert np.array_equal(plain["jm"][i, view], jm)
            assert np.array_equal(batch.joint_mask[i], mask)
            assert np.array_equal(plain["joints"][i, view], joints, equal_nan=True)
            assert np.array_equal(plain["joint_scores"][i, view], scores)
            assert np.array_equal(plain["xyz"][i, view], xyz_of(i, view, seed=4), equal_nan=True)
            assert np.array_equal(plain["frame_index"][i, view], frames)
            assert plain["persons"][i, view] == persons
    assert events[0] == {"total": 27, "done": 0, "how": HOW}
    assert len(events) == 28
    assert {event["outcome"] for event in events[1:]} == {"done"}


def test_int8_tokens_are_close_and_named_so(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", replace(OPTIONS, dtype="int8", codec="zstd"))
    store = TokenStore.open(tmp_path / "s")
    batch = store.read(range(9))
    assert store.gg.dtype == np.int8
    assert store.array("gg_scale").shape == (9, 1, 16, 4)
    assert batch.gg.dtype == np.float16
    for i in range(9):
        gg, jm, *_ = tokens_of(i, 0)
        for got, exact in ((batch.gg[i], gg), (batch.jm[i], jm)):
            largest = np.abs(exact.astype(np.float64)).max(-1, keepdims=True)
            assert (np.abs(got.astype(np.float64) - exact) <= 0.57 * largest / 127 + 1e-7).all()
    assert list(verify_store(tmp_path / "s", deep=True)) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"sigma": 1.5}, "sigma: 1.0, now 1.5"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"normalize": True}, "normalize: False, now True"),
        ({"jm_layer": "layer2"}, "jm_layer: layer1, now layer2"),
        ({"dtype": "int8"}, "dtype: float16, now int8"),
        ({"codec": "zstd"}, "codec: none, now zstd"),
        ({"views": 1}, "views: 2, now 1"),
        ({"deterministic": True, "sigma": 2.0}, "deterministic: False, now True; sigma: 1.0, now 2.0"),
    ],
)
def test_a_store_of_other_options_is_refused(
    stub: Any, prepared: Path, tmp_path: Path, change: dict[str, Any], difference: str
) -> None:
    extract(prepared, tmp_path / "s", replace(OPTIONS, views=2))
    before = tree(tmp_path / "s")
    with pytest.raises(ArtifactError, match=f"made from something else: {difference}; use the same options again"):
        extract(prepared, tmp_path / "s", replace(OPTIONS, **{"views": 2, **change}))
    assert tree(tmp_path / "s") == before


def test_what_changes_no_token_may_change(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    moved = prepared.with_name("moved")
    shutil.copytree(prepared, moved)
    assert extract(moved, tmp_path / "s", replace(OPTIONS, batch_clips=7)).done == 9


def test_other_weights_or_clips_are_refused(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    other = write(tmp_path / "other", 10)
    with pytest.raises(ArtifactError, match=r"prepared: .* clips: 9, now 10"):
        extract(other.path, tmp_path / "s", OPTIONS)
    stub.setattr(compute, "resolve", lambda options: (options, {"kind": "random", "sha256": "f" * 64}))
    with pytest.raises(ArtifactError, match=f"something else: weights.sha256: {'0' * 64}, now {'f' * 64}; use"):
        extract(prepared, tmp_path / "s", OPTIONS)


def test_the_same_weights_saved_again_are_the_same_weights(stub: Any, prepared: Path, tmp_path: Path) -> None:
    """They change no token, so the store is not refused."""
    published, saved_again = {"kind": "kinetics400", "sha256": "a" * 64}, {"kind": "file", "sha256": "a" * 64}
    for weights, views in ((published, 1), (saved_again, 2)):
        stub.setattr(compute, "resolve", lambda options, weights=weights: (options, weights))
        assert extract(prepared, tmp_path / "s", replace(OPTIONS, views=views)).done == 9
    attributes = TokenStore.open(tmp_path / "s").attrs
    assert (attributes["weights"], attributes["made_from"]["weights"]) == ("kinetics400", {"sha256": "a" * 64})


def test_the_room_asked_for_is_that_of_the_files_to_come(stub: Any, tmp_path: Path) -> None:
    folder, asked = write(tmp_path / "prepared", 9, failed=[1, 6]), list[int]()
    stub.setattr("pipeline.extract.coordinator.require_disk_space", lambda root, needed: asked.append(needed))

    def chunks(shard: str = "") -> int:
        """Bytes of all shards of view 0, or of one."""
        found = {key: data for key, data in tree(tmp_path / "s").items() if "/c/" in key and key.count("/") > 2}
        return sum(len(data) for key, data in found.items() if not shard or key.split("/")[2] == shard)

    extract(folder.path, tmp_path / "s", OPTIONS)
    assert asked == [chunks()]  # the last shard has one clip, the others four
    extract(folder.path, tmp_path / "s", OPTIONS)
    assert asked[1] == 0
    extract(folder.path, tmp_path / "s", OPTIONS, retry=True)
    assert asked[2] == chunks("0")  # two are made again, one after the other
    (tmp_path / "s/commits/000/00002.json").unlink()
    (tmp_path / "s/status/c/2/0").unlink()
    extract(folder.path, tmp_path / "s", OPTIONS, retry=True)
    assert asked[3] == chunks("0") + chunks("2")


def test_unusable_paths_are_refused_and_left_alone(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    before = sorted(p.name for p in prepared.iterdir())
    for source, out, sentence in (
        (tmp_path / "none", tmp_path / "x", "none: does not exist .* run `star prepare` first"),
        (tmp_path / "s", tmp_path / "x", "is a token store, not a prepared folder"),
        (prepared, prepared, "prepared: is not empty and is not a token store"),
        (prepared, prepared / "dataset.json", "is a file, not a folder"),
        (prepared, prepared / "dataset.json" / "x", "cannot be written"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            extract(source, out, OPTIONS)
    with pytest.raises(ConfigError, match="is the memory of one process"):
        extract(prepared, "memory://x", OPTIONS, workers=2)
    assert sorted(p.name for p in prepared.iterdir()) == before


def test_unfinished_clips_are_not_extracted(stub: Any, prepared: Path, tmp_path: Path) -> None:
    (prepared / "clips-00001.json").unlink()
    with pytest.raises(ArtifactError, match="is not finished: 4 clips are pending; run the same `star prepare`"):
        extract(prepared, tmp_path / "s", OPTIONS)
    assert not (tmp_path / "s").exists()


def test_excluded_and_failed_rows_keep_their_reasons(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 9, excluded=[0, 1, 2, 3], failed=[8])
    account = extract(folder.path, tmp_path / "s", OPTIONS)
    assert (account.done, account.excluded, account.failed) == (4, 4, 1)
    assert set(account.reasons) == {("excluded", "no skeleton", 4), ("failed", "the video ends early", 1)}
    assert TokenStore.open(tmp_path / "s").status[:, 0].tolist() == [2, 2, 2, 2, 1, 1, 1, 1, 3]


def test_a_removed_commit_is_made_again_bit_for_bit(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", replace(OPTIONS, views=2))
    whole, digest = tree(tmp_path / "s"), TokenStore.open(tmp_path / "s").content_digest()
    (tmp_path / "s/commits/001/00001.json").unlink()
    (tmp_path / "s/commits/000/00002.json").write_bytes(b"half a rec")
    (tmp_path / "s/gg/c/1/1/0/0/0").unlink()
    (tmp_path / "s/status/c/2/0").write_bytes(b"")
    events: list[dict[str, Any]] = []
    assert extract(prepared, tmp_path / "s", replace(OPTIONS, views=2), progress=events.append).pending == 0
    assert tree(tmp_path / "s") == whole
    assert events[0] == {"total": 18, "done": 13, "how": HOW}
    assert TokenStore.open(tmp_path / "s").content_digest() == digest


def test_a_finished_store_is_not_touched(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*") if p.is_file()}
    stub.setattr(worker, "extract_run", None)
    extract(prepared, tmp_path / "s", OPTIONS)
    changed = {p.name for p, time in times.items() if p.stat().st_mtime_ns != time}
    assert changed == {".lock", "source.json"}


def test_records_of_another_store_are_refused(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    extract(prepared, tmp_path / "t", replace(OPTIONS, seed=1))
    shutil.copy(tmp_path / "t/commits/000/00001.json", tmp_path / "s/commits/000/00001.json")
    with pytest.raises(ArtifactError, match=r"00001\.json: belongs to another store; delete it"):
        extract(prepared, tmp_path / "s", OPTIONS)


def test_a_damaged_prepared_clip_fails_alone_and_can_be_retried(stub: Any, prepared: Path, tmp_path: Path) -> None:
    whole = (prepared / "clips-00001.h5").read_bytes()
    at = whole.index(content(5, 2).frames[1][3]) + 200
    (prepared / "clips-00001.h5").write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
    (prepared / "clips-00002.h5").write_bytes(b"x" * (prepared / "clips-00002.h5").stat().st_size)
    account = extract(prepared, tmp_path / "s", OPTIONS)
    assert account.reasons == (("failed", NOT_WHOLE, 2),)
    assert [e["id"] for e in TokenStore.open(tmp_path / "s").outcomes() if e["outcome"] == "failed"] == ["0005", "0008"]
    (prepared / "clips-00001.h5").write_bytes(whole)
    commit_prepared(PreparedFolder.open(prepared), 2)
    assert extract(prepared, tmp_path / "s", OPTIONS).failed == 2  # not asked to try again
    assert extract(prepared, tmp_path / "s", OPTIONS, retry=True).done == 9
    extract(prepared, tmp_path / "t", OPTIONS)
    assert tree(tmp_path / "s") == tree(tmp_path / "t")


def test_a_prepared_shard_of_other_shapes_fails_alone(stub: Any, tmp_path: Path) -> None:
    """Its digests may be right: anyone can compute them."""
    folder = write(tmp_path / "prepared", 8)
    shard = folder.shard(1)
    with h5py.File(shard.path, "r+") as file:
        joints = file["joints"][()].swapaxes(3, 4)
        del file["joints"]
        file.create_dataset("joints", data=joints)
    data = shard.path.read_bytes()
    record = unseal(shard.commit_path.read_bytes(), shard.commit_path, {})
    shard.commit_path.write_bytes(seal({**record, "bytes": len(data), "sha256": sha256(data)}))
    account = extract(folder.path, tmp_path / "s", OPTIONS)
    assert (account.done, account.reasons) == (4, (("failed", NOT_WHOLE, 4),))


def test_clips_that_failed_before_are_filled_in(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 9, failed=[1, 6], excluded=[7])
    extract(folder.path, tmp_path / "s", replace(OPTIONS, views=2))
    assert TokenStore.open(tmp_path / "s").account(0).failed == 2
    for number in (0, 1):
        commit_prepared(folder, number, excluded=[7])
    calls: list[int] = []
    stub.setattr(compute, "worker_computer", computing(lambda f, j, v: calls.append(len(f)) or stub_tokens(f, j, v)))
    events: list[dict[str, Any]] = []
    account = extract(folder.path, tmp_path / "s", replace(OPTIONS, views=2), retry=True, progress=events.append)
    assert (account.done, account.excluded, account.failed) == (8, 1, 0)
    assert calls == [1] * 4  # the done ones are kept, not computed again
    assert events[0] == {"total": 18, "done": 2, "how": HOW}
    assert len(events) == 17
    fresh = write(tmp_path / "fresh", 9, excluded=[7])
    extract(fresh.path, tmp_path / "t", replace(OPTIONS, views=2))
    assert tree(tmp_path / "s") == tree(tmp_path / "t")
    assert list(verify_store(tmp_path / "s", deep=True)) == []


def test_missing_clips_are_told_and_filled_in_by_the_same_command(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 9, failed=[1], missing=[5, 8])
    out, views = tmp_path / "s", replace(OPTIONS, views=2)
    account = extract(folder.path, out, views)
    assert (account.done, account.failed, account.missing, account.excluded) == (6, 1, 2, 0)
    assert account.total == 9
    assert set(account.reasons) == {("missing", "no video file", 2), ("failed", "the video ends early", 1)}
    store = TokenStore.open(out)
    assert store.status.T.tolist() == [[1, 3, 1, 1, 1, 4, 1, 1, 4]] * 2
    assert extract(folder.path, out, views) == account
    commit_prepared(folder, 0)  # what failed is tried again on request alone
    commit_prepared(folder, 1)
    assert extract(folder.path, out, views).missing == 1
    commit_prepared(folder, 2)
    account = extract(folder.path, out, views)
    assert (account.done, account.failed, account.missing) == (8, 1, 0)
    assert extract(folder.path, out, views, retry=True).done == 9
    extract(write(tmp_path / "fresh", 9).path, tmp_path / "t", views)
    assert tree(out) == tree(tmp_path / "t")


def test_a_retry_leaves_alone_what_is_no_nearer(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 9, failed=[1, 6])
    extract(folder.path, tmp_path / "s", OPTIONS)
    commit_prepared(folder, 1)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("*") if p.is_file()}
    events: list[dict[str, Any]] = []
    assert extract(folder.path, tmp_path / "s", OPTIONS, retry=True, progress=events.append).failed == 1
    changed = {str(p.relative_to(tmp_path / "s")) for p, time in times.items() if p.stat().st_mtime_ns != time}
    assert "commits/000/00001.json" in changed
    assert not {name for name in changed if name.startswith(("gg/c/0", "jm/c/0", "commits/000/00000"))}
    assert len(events) == 1 + 8  # the clips of both shards are reported


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO, errno.ESTALE])
def test_the_systems_trouble_is_no_clips_failure(stub: Any, prepared: Path, tmp_path: Path, number: int) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, "Unable to synchronously open file")

    with stub.context() as context:
        context.setattr(h5py, "File", failing)
        with pytest.raises(ArtifactError, match=f"cannot be read now .{os.strerror(number)}"):
            extract(prepared, tmp_path / "s", OPTIONS)
    assert extract(prepared, tmp_path / "s", OPTIONS).done == 9


def test_weights_lie_where_the_command_was_typed(stub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cluster's worker has a working directory of its own."""
    sent: list[str] = []

    def on_a_worker(work: Any, numbers: list[int], text: str, **_: object) -> Iterator[dict[str, str]]:
        sent.append(json.loads(text)["weights"])
        yield {"options": text, "weights": {"kind": "file", "sha256": "0"}}

    monkeypatch.setattr("pipeline.extract.coordinator.run_shards", on_a_worker)
    monkeypatch.chdir(tmp_path)
    for weights in ("w.pth", "random"):
        _resolved(replace(OPTIONS, weights=weights), "tcp://somewhere:1")
    assert sent == [str(tmp_path / "w.pth"), "random"]


def test_a_retry_does_not_put_its_seal_on_damage(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 4, failed=[1])
    extract(folder.path, tmp_path / "s", OPTIONS)
    path = tmp_path / "s/gg/c/0/0/0/0/0"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    commit_prepared(folder, 0)
    extract(folder.path, tmp_path / "s", OPTIONS, retry=True)
    assert list(verify_store(tmp_path / "s", deep=True)) == []
    assert np.array_equal(TokenStore.open(tmp_path / "s").read([0]).gg[0], tokens_of_one_draw(0)[0])


def tokens_of_one_draw(i: int) -> tuple[np.ndarray, ...]:
    clip = content(i, 1)
    frames = np.stack([decode_picture(picture) for picture in clip.frames[0]])[None, :, 4:36, 4:36]
    return tuple(part[0] for part in stub_tokens(frames, clip.joints[:1] - 4, clip.scores[:1] > 0))


def test_a_clip_whose_tokens_overflow_costs_no_other(stub: Any, prepared: Path, tmp_path: Path) -> None:
    bad = tokens_of(4, 0)[0]

    def overflowing(frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, ...]:
        tokens = stub_tokens(frames, joints, visible)
        if any(np.array_equal(gg, bad) for gg in tokens[0]):
            raise DataError("clip 1 of the batch", "GG tokens do not fit into float16", got=1e5)
        return tokens

    stub.setattr(compute, "worker_computer", computing(overflowing))
    account = extract(prepared, tmp_path / "s", OPTIONS)
    assert account.reasons == (("failed", "GG tokens do not fit into float16", 1),)
    store = TokenStore.open(tmp_path / "s")
    assert store.status[:, 0].tolist() == [1, 1, 1, 1, 3, 1, 1, 1, 1]
    assert np.array_equal(store.read([5]).gg[0], tokens_of(5, 0)[0])
    assert (store.gg[4] == 0).all()


def test_a_picture_that_is_no_picture_costs_its_clip_alone(stub: Any, tmp_path: Path) -> None:
    """It was committed like that, so its digest matches and only decoding fails."""
    folder, whole = write(tmp_path / "prepared", 4), content(2, 1)
    pictures = (*whole.frames[0][:5], whole.frames[0][5][:-2], *whole.frames[0][6:])  # one is cut off
    stub.setattr(
        "extract_corpus.content", lambda i, draws: replace(whole, frames=(pictures,)) if i == 2 else content(i, draws)
    )
    commit_prepared(folder, 0)
    account = extract(folder.path, tmp_path / "s", OPTIONS)
    assert account.reasons == (("failed", NOT_DECODED, 1),)
    assert TokenStore.open(tmp_path / "s").status[:, 0].tolist() == [1, 1, 3, 1]


def test_views_are_appended_without_rewriting(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    files = [p for p in (tmp_path / "s").rglob("*") if p.is_file() and "log" not in p.parts and p.name != ".lock"]
    growing = {"zarr.json", "metadata.json", "content.json"}  # arrays that get longer say so
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in files if p.name not in growing}
    assert len(before) > 30
    opened = TokenStore.open(tmp_path / "s")
    assert extract(prepared, tmp_path / "s", replace(OPTIONS, views=4)).done == 9
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in before} == before
    assert opened.gg.shape[1] == opened.sizes.views == 1  # who has it open sees what was
    assert np.array_equal(opened.read([3]).gg[0], tokens_of(3, 0)[0])
    grown = TokenStore.open(tmp_path / "s")
    assert grown.gg.shape[1] == grown.sizes.views == 4
    assert np.array_equal(grown.read([3], view=3).jm[0], tokens_of(3, 3)[1])
    extract(prepared, tmp_path / "at once", replace(OPTIONS, views=4))
    assert tree(tmp_path / "s") == tree(tmp_path / "at once")
    assert list(verify_store(tmp_path / "s")) == []


def test_views_that_were_nearly_announced_are_taken_back(stub: Any, prepared: Path, tmp_path: Path) -> None:
    """The command was killed while it wrote metadata, and the next one has the number of views of before."""
    extract(prepared, tmp_path / "s", OPTIONS)
    before, many = tree(tmp_path / "s"), replace(OPTIONS, views=2)
    extract(prepared, tmp_path / "t", many)
    shutil.copy(tmp_path / "t/gg/zarr.json", tmp_path / "s/gg/zarr.json")
    assert zarr.open_array(tmp_path / "s/gg", mode="r").shape[1] == 2
    extract(prepared, tmp_path / "s", OPTIONS)
    assert tree(tmp_path / "s") == before
    shutil.copy(tmp_path / "t/gg/zarr.json", tmp_path / "s/gg/zarr.json")
    extract(prepared, tmp_path / "s", many)
    assert tree(tmp_path / "s") == tree(tmp_path / "t")


@pytest.mark.parametrize("name", ["made_from", "sizes", "dtype"])
def test_metadata_that_lack_a_name_are_refused(stub: Any, prepared: Path, tmp_path: Path, name: str) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    path = tmp_path / "s/zarr.json"
    meta = json.loads(path.read_text())
    meta["attributes"]["x" + name[1:]] = meta["attributes"].pop(name)
    path.write_text(json.dumps(meta))
    with pytest.raises(CorruptError, match=r"zarr\.json: is damaged: it has no .*; restore it"):
        extract(prepared, tmp_path / "s", OPTIONS)


def test_only_whole_views_are_announced(stub: Any, prepared: Path, tmp_path: Path) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)

    def stopping(*_: Any) -> Any:
        raise KeyboardInterrupt

    stub.setattr(compute, "worker_computer", computing(stopping))
    with pytest.raises(KeyboardInterrupt):
        extract(prepared, tmp_path / "s", replace(OPTIONS, views=2))
    assert TokenStore.open(tmp_path / "s").sizes.views == 1
    assert zarr.open_group(tmp_path / "s", mode="r")["gg"].shape[1] == 1


def test_each_record_goes_after_all_that_it_names(stub: Any, prepared: Path, tmp_path: Path) -> None:
    from pipeline.store.blobs_local import LocalBlobs

    put: list[str] = []
    real = LocalBlobs.put
    stub.setattr(LocalBlobs, "put", lambda self, key, data: (real(self, key, data), put.append(key))[0])
    extract(prepared, tmp_path / "s", replace(OPTIONS, views=2))
    assert put[-1] == "commits/content.json"
    for key in [key for key in put[:-1] if key.startswith("commits/")]:
        record = json.loads((tmp_path / "s" / key).read_text())
        named = [entry["key"] for entry in record["files"]]
        assert len(named) >= 7
        assert max(put.index(name) for name in named) < put.index(key)
    assert put.index("zarr.json") < put.index("commits/metadata.json") < put.index("gg/c/0/0/0/0/0")


def test_as_much_overlap_as_a_gpu_gets_changes_nothing(stub: Any, tmp_path: Path) -> None:
    """The next groups are begun before one is waited for; one of them cannot be decoded, and one overflows."""
    folder = write(tmp_path / "prepared", 24, shard_clips=5, failed=[2], excluded=[7, 20, 21, 22, 23])
    under_way, most, bad = 0, 0, tokens_of(9, 0)[0]

    def begin(frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

        def wait() -> tuple[np.ndarray, ...]:
            nonlocal under_way
            under_way -= 1
            tokens = stub_tokens(frames, joints, visible)
            if any(np.array_equal(gg, bad) for gg in tokens[0]):
                raise DataError("a clip", "GG tokens do not fit into float16", got=1e5)
            return tokens

        return SimpleNamespace(wait=wait)

    stub.setattr(compute, "worker_computer", lambda *_: begin)
    for name, overlap in (("one by one", (1, 1, 0)), ("together", (6, 4, 1))):
        most = 0
        stub.setattr(worker, "overlap", lambda device, overlap=overlap: overlap)
        account = extract(folder.path, tmp_path / name, OPTIONS)
        assert (account.done, account.excluded, account.failed, most) == (17, 5, 2, 1 + overlap[2])
    assert tree(tmp_path / "one by one") == tree(tmp_path / "together")


@pytest.mark.processes
def test_the_runs_of_a_worker_with_several_threads_take_turns(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 16, shard_clips=2)
    at_work, most = 0, 0

    def begin(*given: np.ndarray) -> Any:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.01)
        at_work -= 1
        return SimpleNamespace(wait=lambda: stub_tokens(*given))

    stub.setattr(compute, "worker_computer", lambda *_: begin)
    extract(folder.path, tmp_path / "alone", OPTIONS)
    with LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address=":0", silence_logs=logging.ERROR
    ) as cluster:
        extract(folder.path, tmp_path / "cluster", OPTIONS, scheduler=cluster.scheduler_address)
    assert most == 1
    assert tree(tmp_path / "cluster") == tree(tmp_path / "alone")


def test_memory_does_not_grow_with_the_shards(stub: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "prepared", 24, shard_clips=2)
    alive: weakref.WeakSet[ShardJob] = weakref.WeakSet()
    most = 0
    real = ShardJob.groups

    def counted(job: ShardJob) -> Any:
        nonlocal most
        alive.add(job)
        most = max(most, len(alive))
        return real(job)

    ShardJob.__hash__ = object.__hash__  # type: ignore[method-assign, assignment]
    stub.setattr(ShardJob, "groups", counted)
    extract(folder.path, tmp_path / "s", OPTIONS)
    assert 1 < most <= 5


def test_options_of_a_store_are_those_it_was_made_with(stub: Any, prepared: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, views=2, codec="zstd", sigma=1.25, seed=3, dtype="int8")
    extract(prepared, tmp_path / "s", options)
    source, found = options_of(str(tmp_path / "s"))
    assert source == prepared
    assert found == replace(options, batch_clips=found.batch_clips, device=found.device)
    assert extract(source, tmp_path / "s", found, retry=True).done == 9
    with pytest.raises(ArtifactError, match=r"elsewhere: no longer exists.* give its new path as `prepared`"):
        options_of(str(tmp_path / "s"), prepared=tmp_path / "elsewhere")
    for damaged in (b"{", b"[]", b'{"prepared": 3}', None):  # its bytes are not part of the content, so nobody's digest
        (tmp_path / "s/log/source.json").unlink()
        if damaged is not None:
            (tmp_path / "s/log/source.json").write_bytes(damaged)
        with pytest.raises(ArtifactError, match="does not record what it was made from; give `prepared` and `weights`"):
            options_of(str(tmp_path / "s"))
    assert options_of(str(tmp_path / "s"), prepared=prepared, weights="w.pth")[1].weights == "w.pth"


def test_threads_and_runs() -> None:
    assert threads_of(replace(OPTIONS, deterministic=True), 1, None) == 1
    assert threads_of(OPTIONS, 10**6, None) == 1
    assert threads_of(OPTIONS, 1, "tcp://elsewhere:8786") == 0  # only the worker knows
    assert run_length(1781, 1, "cpu") == 1781  # one worker need not stop between two runs
    assert [run_length(n, 2, "cpu") for n in (1, 8, 16, 1000)] == [1, 1, 2, 4]
    assert run_length(1781, 8, "cuda:0,cuda:1") == 55


def test_numbers_are_floats_and_finite(prepared: Path) -> None:
    """1 and 1.0 are the same option, so they give one fingerprint."""
    folder, weights = PreparedFolder.open(prepared), {"kind": "random", "sha256": "0"}
    whole, point = (made_from_of(folder, replace(OPTIONS, sigma=sigma), weights) for sigma in (1, 1.0))
    assert fingerprint(whole) == fingerprint(point)
    for value in (float("inf"), float("nan"), -float("inf")):
        with pytest.raises(ConfigError, match=rf"sigma: must be a finite number .got {value}"):
            replace(OPTIONS, sigma=value)
        with pytest.raises(ConfigError, match=rf"budget_s: must be a finite number .got {value}"):
            PrepareOptions(budget_s=value)


def test_a_damaged_weights_sentence_names_the_file(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"w.pth: cannot be read as weights"):
        extract(prepared, tmp_path / "s", replace(OPTIONS, weights=str(tmp_path / "w.pth")))
    assert not (tmp_path / "s").exists()


def test_a_damaged_dataset_is_refused(stub: Any, prepared: Path, tmp_path: Path) -> None:
    data = (prepared / "dataset.json").read_bytes()
    (prepared / "dataset.json").write_bytes(data.replace(b"penn-action", b"penn_action"))
    with pytest.raises(CorruptError, match=r"dataset.json"):
        extract(prepared, tmp_path / "s", OPTIONS)


@pytest.mark.parametrize("views", [1, 2])
def test_tokens_of_other_content_are_not_added(stub: Any, prepared: Path, tmp_path: Path, views: int) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    before = tree(tmp_path / "s")
    exchange_clips(prepared, 1, 8)
    if views == 1:
        (tmp_path / "s/commits/000/00002.json").unlink()  # a shard to make again: row 8
        before = tree(tmp_path / "s")
    with pytest.raises(ArtifactError, match=r"holds tokens of . clips whose content in .* is another one .got 0001"):
        extract(prepared, tmp_path / "s", replace(OPTIONS, views=views))
    assert tree(tmp_path / "s") == before


@pytest.mark.parametrize(
    "name",
    [
        "gg/c/1/0/0/0/0", "joints/c/0/0/0/0/0/0", "status/c/2/0", "commits/000/00001.json", "commits/metadata.json",
        "clips.txt", "label/c/0", "gg/zarr.json", "zarr.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("lost", [False, True])
def test_exactly_what_is_damaged_is_made_again(
    stub: Any, prepared: Path, tmp_path: Path, name: str, lost: bool
) -> None:
    extract(prepared, tmp_path / "s", OPTIONS)
    path, whole = tmp_path / "s" / name, tree(tmp_path / "s")
    files = [p for p in (tmp_path / "s").rglob("*") if p.is_file() and "log" not in p.parts and p.name != ".lock"]
    times = {p: p.stat().st_mtime_ns for p in files}
    if lost:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    pending = lost and name.startswith("commits/0")  # that is no damage, but work that is not done yet
    assert [damage.file for damage in verify_store(tmp_path / "s")] == ([] if pending else [str(path)])
    account = extract(prepared, tmp_path / "s", OPTIONS, damaged=True)
    assert account.done == account.total == 9
    assert tree(tmp_path / "s") == whole
    assert list(verify_store(tmp_path / "s")) == []
    changed = {p for p in files if p.stat().st_mtime_ns != times[p]}
    shard = {"gg": "1", "joints": "0", "status": "2", "commits": "1"}.get(name.split("/")[0])
    if shard is not None and not name.endswith(("zarr.json", "metadata.json")):
        assert changed
        own = (f"0000{shard}.json", "content.json")
        assert all(f"/c/{shard}/" in str(p) or p.name in own for p in changed)
    else:
        assert path in changed
        assert all("/c/" not in str(p) or p == path for p in changed)


def test_what_is_no_store_is_not_made_again(stub: Any, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/clips.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds no zarr\.json"):
        extract(prepared, tmp_path / "mine", OPTIONS, damaged=True)
    assert tree(tmp_path / "mine") == {"clips.txt": b"mine"}

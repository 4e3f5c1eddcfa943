"""Token data sets against their store: values, splits, views, memory, loader processes."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from star_stores import write_small_store
from torch.utils.data import DataLoader

from pipeline.errors import ArtifactError, ConfigError, CorruptError, DataError
from pipeline.store.layout import StoreSizes
from pipeline.store.token_store import TokenStore
from star.data.dataset import TokenDataset
from star.data.loader import loader, workers_for
from star.data.sampler import Batches
from star.data.statistics import channel_statistics


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("stores") / "small.zarr", views=3)


@pytest.mark.parametrize("in_memory", [True, False])
def test_items_are_the_stores_own_tokens(path: Path, in_memory: bool) -> None:
    store = TokenStore.open(path)
    dataset = TokenDataset(store, protocol="xsub", split="test", views=1, in_memory=in_memory)
    assert (dataset.held is not None) is in_memory
    assert [record.subject for i, record in enumerate(store.records()) if i in dataset.rows] == [9] * 16
    for item in (0, 7, 15):
        row = dataset.rows[item]
        clip = dataset[item]
        assert np.array_equal(clip.gg, store.gg[row, 1])
        assert np.array_equal(clip.jm, store.jm[row, 1])
        assert np.array_equal(clip.joint_mask, store.joint_mask[row, 1])
        assert (int(clip.labels), int(clip.clips)) == (store.labels[row], row)
    batch = dataset.read([3, 3, 0])
    assert torch.equal(batch.jm[0], batch.jm[1])
    assert torch.equal(batch.jm[2], dataset[0].jm)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("step", [1, 3])
def test_joints_come_with_the_tokens_where_they_are_asked_for(path: Path, in_memory: bool, step: int) -> None:
    store = TokenStore.open(path)
    dataset = TokenDataset(
        store, tokens="jm", fields=("joints", "joint_scores", "xyz"), views="all", frame_step=step, in_memory=in_memory
    )
    items = [5, 0, 5, 44]
    batch = dataset.read(items)
    rows, views = dataset.rows[np.asarray(items) // 3], np.asarray(items) % 3
    for name in ("joints", "joint_scores", "xyz"):
        expected = store.array(name)[:][rows, views][:, :, ::step]
        assert np.array_equal(getattr(batch, name), expected, equal_nan=True)
        assert np.array_equal(getattr(dataset[5], name), expected[0], equal_nan=True)
    assert batch.joints.isfinite().any()
    collated = next(iter(DataLoader(dataset, batch_size=2)))
    assert torch.equal(collated.joint_scores, dataset.read([0, 1]).joint_scores)
    without = TokenDataset(store, tokens="jm", views="all", frame_step=step, in_memory=in_memory)
    assert without.read(items).joints is None
    assert dataset.nbytes - without.nbytes == 32 * 3 * len(range(0, 4, step)) * 2 * 25 * 6 * 4
    with pytest.raises(ConfigError, match=r"fields: no such choice .got 'gg'"):
        TokenDataset(store, fields=("gg",))


def test_train_and_test_share_no_clip_and_no_subject(path: Path) -> None:
    train, test = (TokenDataset(path, split=split) for split in ("train", "test"))
    assert len(train) + len(test) == 48
    assert not set(train.clip_ids()) & set(test.clip_ids())
    subjects = [{name[8:12] for name in dataset.clip_ids()} for dataset in (train, test)]
    assert subjects == [{"P001", "P002"}, {"P009"}]


def test_a_kind_not_requested_has_no_channels(path: Path) -> None:
    joints = TokenDataset(path, tokens=("jm",), frame_step=3)
    assert joints[0].gg.shape == (2, 4, 0)
    assert joints[0].jm.shape == (2, 25, 6)
    assert torch.equal(joints[0].jm, TokenDataset(path)[0].jm[::3])
    assert joints.nbytes == 32 * 2 * 25 * 6 * 2
    assert TokenDataset(path, tokens=("gg",))[0].jm.numel() == 0
    for name, kinds in (("gg", ("gg",)), ("jm", ("jm",)), ("both", ("gg", "jm"))):
        assert TokenDataset(path, tokens=name).tokens == kinds


def test_a_kind_not_requested_is_not_read(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "s")
    shutil.rmtree(tmp_path / "s/gg/c")
    for in_memory in (True, False):
        joints = TokenDataset(tmp_path / "s", tokens=("jm",), in_memory=in_memory)
        assert torch.equal(joints.read(range(32)).jm, TokenDataset(path).read(range(32)).jm)
    with pytest.raises(CorruptError, match="gg is missing"):
        TokenDataset(tmp_path / "s", in_memory=False)[0]


def test_views_all_are_every_clip_in_every_view(path: Path) -> None:
    store = TokenStore.open(path)
    dataset = TokenDataset(path, views="all")
    assert len(dataset) == 3 * len(dataset.rows)
    batch = dataset.read(range(len(dataset)))
    assert batch.clips.tolist() == np.repeat(dataset.rows, 3).tolist()
    assert np.array_equal(batch.jm[7], store.jm[dataset.rows[2], 1])


@pytest.mark.parametrize("in_memory", [True, False])
def test_random_views_are_a_function_of_seed_epoch_and_clip(path: Path, in_memory: bool) -> None:
    def views(dataset: TokenDataset, epoch: int) -> list[int]:
        stored = dataset.store.jm
        batch = dataset.read([(epoch, i) for i in range(len(dataset))])
        return [
            next(k for k in range(3) if np.array_equal(jm, stored[row, k]))
            for jm, row in zip(batch.jm.numpy(), batch.clips.tolist(), strict=True)
        ]

    dataset = TokenDataset(path, views="random", seed=4, in_memory=in_memory)
    first, second = views(dataset, 0), views(dataset, 1)
    assert views(TokenDataset(path, views="random", seed=4), 0) == first
    assert views(dataset, 0) == first != second
    assert set(first) == {0, 1, 2}
    mixed = dataset.read([(1, 5), (0, 5)])
    assert torch.equal(mixed.jm[0], dataset.read([(1, 5)]).jm[0])
    assert torch.equal(mixed.jm[1], dataset.read([(0, 5)]).jm[0])


def test_fractions_are_nested_and_keep_every_class(path: Path) -> None:
    quarter, half, whole = (TokenDataset(path, fraction=f, seed=1) for f in (0.25, 0.5, 1.0))
    assert [len(d) for d in (quarter, half, whole)] == [8, 16, 32]
    assert set(quarter.rows) < set(half.rows) < set(whole.rows)
    assert np.bincount(quarter.labels).tolist() == [2, 2, 2, 2]
    assert np.bincount(TokenDataset(path, fraction=0.01).labels).tolist() == [1, 1, 1, 1]


def test_shuffled_labels_are_the_same_labels_on_other_clips(path: Path) -> None:
    true, shuffled = TokenDataset(path), TokenDataset(path, shuffled_labels=True)
    assert sorted(true.labels) == sorted(shuffled.labels)
    assert 0 < (true.labels == shuffled.labels).mean() < 0.6


def test_a_plain_dataloader_works(path: Path) -> None:
    dataset = TokenDataset(path)
    batches = list(DataLoader(dataset, batch_size=5))
    assert torch.equal(torch.cat([batch.jm for batch in batches]), dataset.read(range(32)).jm)


@pytest.mark.processes
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_dataloaders_processes_open_the_store_themselves(path: Path, in_memory: bool) -> None:
    dataset = TokenDataset(path, views=1, in_memory=in_memory)
    sent = pickle.dumps(dataset)
    assert pickle.loads(sent)._store is None
    assert len(sent) < 10_000 < dataset.nbytes  # what is held in memory stays here
    batches = list(DataLoader(dataset, batch_size=5, num_workers=1, multiprocessing_context="spawn"))
    assert torch.equal(torch.cat([batch.gg for batch in batches]), dataset.read(range(32)).gg)


@pytest.mark.parametrize("in_memory", [True, False])
def test_reading_ahead_gives_the_same_batches(path: Path, in_memory: bool) -> None:
    dataset = TokenDataset(path, views="random", in_memory=in_memory)
    plan = Batches(items=len(dataset), batch_size=3, epochs=3, seed=0, start=3)  # several epochs' views at a time
    alone = list(loader(dataset, plan, workers=0, pin=False))
    ahead = list(loader(TokenDataset(path, views="random", in_memory=in_memory), plan, workers=3, pin=False))
    assert len(alone) == len(ahead) == 30
    for ours, theirs in zip(alone, ahead, strict=True):
        assert ours.tensors().keys() == theirs.tensors().keys()
        assert all(torch.equal(tensor, theirs.tensors()[name]) for name, tensor in ours.tensors().items())


def test_an_error_of_a_reader_reaches_the_caller_and_ends_the_threads(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "s")
    dataset = TokenDataset(tmp_path / "s", tokens=("gg",), in_memory=False)
    (tmp_path / "s/gg/c/1/0/0/0/0").write_bytes(b"short")
    before = threading.active_count()
    batches = loader(dataset, [[i] for i in range(len(dataset))], workers=2, pin=False)
    whole = [row for row in dataset.rows if row < 16]
    assert [int(next(batches).clips) for _ in whole] == whole
    with pytest.raises(CorruptError, match="the index of its shard does not match"):
        next(batches)
    assert threading.active_count() <= before  # fewer where threads of earlier tests have ended


def test_no_items_are_an_empty_batch(path: Path) -> None:
    for in_memory in (True, False):
        batch = TokenDataset(path, in_memory=in_memory).read([])
        assert batch.jm.shape == (0, 4, 25, 6)
        assert batch.labels.shape == (0,)


def test_statistics_are_of_the_training_split_without_absent_joints(path: Path) -> None:
    store, dataset = TokenStore.open(path), TokenDataset(path, views=2)
    found = channel_statistics(dataset)
    jm = np.concatenate([store.jm[row, 2][store.joint_mask[row, 2]] for row in dataset.rows]).astype(np.float64)
    gg = np.concatenate([store.gg[row, 2].reshape(-1, 6) for row in dataset.rows]).astype(np.float64)
    for kind, values in (("gg", gg), ("jm", jm)):
        mean, spread = found[kind]
        assert np.abs(mean.numpy() - values.mean(0)).max() < 1e-9
        assert np.abs(spread.numpy() - values.std(0)).max() < 1e-9
    few = channel_statistics(dataset, most=2)["jm"][0]
    ends = np.concatenate([store.jm[row, 2][store.joint_mask[row, 2]] for row in dataset.rows[[0, -1]]])
    assert np.abs(few.numpy() - ends.astype(np.float64).mean(0)).max() < 1e-9


def test_the_clip_of_a_nan_token_is_named(tmp_path: Path) -> None:
    path = write_small_store(tmp_path / "nan.zarr", nan_clip=5)
    dataset = TokenDataset(path)
    with pytest.raises(DataError, match=TokenStore.open(path).clip_ids[5]):
        channel_statistics(dataset)


def test_bad_requests_are_one_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"xsub \| xview"):
        TokenDataset(path, protocol="xset")
    with pytest.raises(ConfigError, match=r"train \| test"):
        TokenDataset(path, split="valid")
    with pytest.raises(ConfigError, match="0 to 2"):
        TokenDataset(path, views=3)
    with pytest.raises(ConfigError, match="random"):
        TokenDataset(path, views="some")
    for tokens in ("rgb", ("rgb",), ("gg", "both")):
        with pytest.raises(ConfigError, match=r"gg \| jm"):
            TokenDataset(path, tokens=tokens)
    with pytest.raises(ArtifactError, match="does not exist"):
        TokenDataset(tmp_path / "none.zarr")
    with pytest.raises(IndexError):
        TokenDataset(path)[32]
    lonely = write_small_store(tmp_path / "lonely.zarr", subjects=(1,))
    with pytest.raises(DataError, match="test split of xsub has no clip"):
        TokenDataset(lonely, split="test")


class Unfinished:
    """A store with another status, in which some views or clips are not done."""

    def __init__(self, path: Path, status: np.ndarray) -> None:
        self._store, self.status = TokenStore.open(path), status
        self.url, self.attrs, self.sizes = self._store.url, self._store.attrs, self._store.sizes
        self.labels, self.clip_ids, self.records = self._store.labels, self._store.clip_ids, self._store.records
        self.read, self.rows_of = self._store.read, self._store.rows_of


def test_failed_clips_are_counted_and_pending_ones_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(TokenStore.open(path).sizes, StoreSizes)
    monkeypatch.setattr("star.data.dataset.TokenStore", Unfinished)
    status = np.ones((48, 3), np.uint8)
    status[0] = 2
    status[1, 2] = 3
    dataset = TokenDataset(Unfinished(path, status), views="all")
    whole = TokenDataset(Unfinished(path, np.ones((48, 3), np.uint8)))
    assert dataset.left_out + len(dataset.rows) == len(whole)
    assert not {0, 1} & set(dataset.rows)
    status[:, 2] = 0  # a view that is being appended is not used yet
    assert TokenDataset(Unfinished(path, status), views="random").views.tolist() == [0, 1]
    status[4] = 0
    with pytest.raises(ArtifactError, match="is not finished"):
        TokenDataset(Unfinished(path, status), views="random")


def test_default_number_of_loader_threads(path: Path) -> None:
    held, read = (TokenDataset(path, in_memory=in_memory) for in_memory in (True, False))
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [workers_for(data, device) for data in (held, read) for device in (cpu, gpu)] == [0, 2, 2, 2]

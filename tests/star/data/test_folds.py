"""Groups of training clips: whole subjects, always the same, about equal; and the sides that a run gets from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from star_stores import record, write_small_store

from pipeline.errors import ConfigError, DataError
from pipeline.records import UNKNOWN, VideoRecord
from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays
from star.config.options import DataConfig
from star.config.presets import fast, paper, smoke
from star.config.text import TrainConfig, with_overrides
from star.data.dataset import TokenDataset
from star.data.folds import folds_of
from star.data.selection import number_of_folds, sides_of
from star.data.splits import CHOOSING, for_choosing, open_splits


def of_subjects(counts: dict[int, int]) -> list[VideoRecord]:
    """Records of subjects with so many clips each."""
    return [record(subject, 0, replication) for subject, count in counts.items() for replication in range(count)]


def unknown(label: int, name: str, **known: int) -> VideoRecord:
    return VideoRecord(clip_id=name, key=name, label=label, **known)


@pytest.mark.parametrize(("validation", "groups"), [(0.1, 10), (0.2, 5), (0.25, 4), (0.34, 3), (0.5, 2), (0.66, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_subjects_stay_whole_and_groups_are_about_equal(validation: float, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = {int(subject): int(rng.integers(5, 40)) for subject in rng.permutation(40)[:13]}
    records = of_subjects(counts)
    numbers = folds_of(records, validation)
    group_of = dict(zip((each.subject for each in records), numbers.tolist(), strict=True))
    assert [group_of[each.subject] for each in records] == numbers.tolist()
    sizes = np.bincount(numbers)
    assert len(sizes) == groups
    assert sizes.max() - sizes.min() <= max(counts.values())  # what dealing the largest first guarantees
    shuffled = rng.permutation(len(records))
    assert np.array_equal(folds_of([records[i] for i in shuffled], validation), numbers[shuffled])


def test_no_more_groups_than_subjects() -> None:
    assert folds_of(of_subjects({1: 8, 3: 9, 5: 8, 7: 7}), 0.05).tolist() == [1] * 8 + [0] * 9 + [2] * 8 + [3] * 7
    with pytest.raises(ConfigError, match=r"data\.validation: nothing would be left .* at least two subjects"):
        folds_of(of_subjects({4: 8}), 0.25)
    with pytest.raises(ConfigError, match="nothing would be left"):
        folds_of([], 5e-324)


def test_clips_of_unknown_subjects_are_dealt_class_by_class() -> None:
    records = [unknown(label, f"{label}-{i:03d}") for label in range(7) for i in range(3 + 5 * label)]
    numbers = folds_of(records, 0.25)
    for label in range(7):
        own = np.bincount(numbers[[each.label == label for each in records]], minlength=4)
        assert own.max() - own.min() <= 1
    assert np.ptp(np.bincount(numbers)) <= 1
    turns = [number for each, number in zip(records, numbers.tolist(), strict=True) if each.label == 6]
    assert turns[:4] * (len(turns) // 4) != turns[: len(turns) // 4 * 4]  # in random order, not by name


def test_cameras_of_an_unknown_subjects_performance_stay_together() -> None:
    records = [
        unknown(label, f"{label}{setup}{take}{camera}", setup=setup, replication=take, camera=camera)
        for label in range(3) for setup in (1, 2) for take in (1, 2, 3) for camera in (1, 2, 3)
    ]  # fmt: skip
    numbers = folds_of(records, 0.5)
    together: dict[tuple[int, int, int], set[int]] = {}
    for each, number in zip(records, numbers.tolist(), strict=True):
        together.setdefault((each.label, each.setup, each.replication), set()).add(number)
    assert {len(found) for found in together.values()} == {1}
    assert Counter(numbers.tolist()) == {0: 27, 1: 27}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    path = tmp_path_factory.mktemp("folds") / "small.zarr"
    return TokenStore.open(write_small_store(path, subjects=(1, 2, 4, 5, 9)))


def config(*settings: str) -> TrainConfig:
    return with_overrides(TrainConfig(), ["data.protocol=xsub", *settings])


@pytest.mark.parametrize("protocol", ["xsub", "xview"])
def test_every_training_clip_validates_in_one_fold(store: TokenStore, protocol: str) -> None:
    """A protocol that holds cameras out validates on subjects, too."""
    whole = TokenDataset(store, protocol=protocol).rows
    held_out = []
    for fold in range(number_of_folds(store, protocol, 0.25)):
        settings = [f"data.protocol={protocol}", "data.validation=0.25", f"data.fold={fold}"]
        for seed in (0, 1):
            splits = open_splits(store, config(*settings, f"seed={seed}"))
            assert splits.val is not None
            assert splits.test.rows.tolist() == TokenDataset(store, protocol=protocol, split="test").rows.tolist()
            assert sorted([*splits.train.rows, *splits.val.rows]) == whole.tolist()
            subjects = [{store.records()[row].subject for row in side.rows} for side in (splits.train, splits.val)]
            assert not subjects[0] & subjects[1]
            if seed:
                assert splits.val.rows.tolist() == held_out[-1]  # whatever the run's seed
            else:
                held_out.append(splits.val.rows.tolist())
    assert sorted(row for rows in held_out for row in rows) == whole.tolist()


def test_what_comes_from_training_clips_comes_without_those_that_validate(store: TokenStore) -> None:
    settings = ["data.validation=0.25", "data.fraction=0.5", "data.shuffled_labels=true"]
    splits = open_splits(store, config(*settings))
    assert splits.val is not None
    assert len(splits.train.rows) == 24  # a half of three subjects
    assert np.array_equal(splits.val.labels, store.labels[splits.val.rows])
    assert not np.array_equal(splits.train.labels, store.labels[splits.train.rows])
    assert sorted(splits.train.labels) == sorted(store.labels[splits.train.rows])


def with_splits(path: Path, store: TokenStore, side: dict[int, str], label: dict[int, int] | None = None) -> TokenStore:
    """The same clips as data of a folder, whose subjects are each on a side ("" none)."""
    rows = [replace(each, split=side[each.subject]) for each in store.records()]
    rows = [each if label is None else replace(each, label=label.get(each.subject, each.label)) for each in rows]
    tokens = store.read(np.arange(len(rows)))
    write_arrays(
        path, gg=tokens.gg[:, None], jm=tokens.jm[:, None], joint_mask=tokens.joint_mask[:, None], records=rows,
        class_names=store.attrs["class_names"], dataset="folder",
    )  # fmt: skip
    return TokenStore.open(path)


def test_a_stores_own_validation_clips_are_used_as_they_are(store: TokenStore, tmp_path: Path) -> None:
    own = with_splits(tmp_path / "own.zarr", store, {1: "train", 2: "train", 4: "val", 5: "val", 9: "test"})
    rows = {
        side: [own.records()[row].subject for row in TokenDataset(own, split=side).rows] for side in ("train", "val")
    }
    assert (set(rows["train"]), set(rows["val"])) == ({1, 2}, {4, 5})
    for share in (0.0, 0.25):
        splits = open_splits(own, with_overrides(TrainConfig(), [f"data.validation={share}"]))
        assert splits.val is not None
        assert (len(splits.train.rows), len(splits.val.rows), len(splits.test.rows)) == (32, 32, 16)
    assert for_choosing(own, TrainConfig()).data.validation == 0
    with pytest.raises(
        ConfigError, match=r"data\.fold: there is nothing to rotate: given .* own \(got 1, expected 0\)"
    ):
        open_splits(own, with_overrides(TrainConfig(), ["data.validation=0.25", "data.fold=1"]))
    with pytest.raises(ConfigError, match="nothing to rotate"):
        number_of_folds(own, "given", 0.25)


def test_what_cannot_be_held_out_is_one_sentence(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: no such group .*got 4, expected 0 to 3"):
        open_splits(store, config("data.validation=0.25", "data.fold=4"))
    sides = {1: "train", 2: "train", 4: "", 5: "", 9: "test"}
    lonely = with_splits(tmp_path / "lonely.zarr", store, sides, label={1: 3, 2: 0, 9: 0})  # a class is one subject's
    settings = ["data.protocol=given", "data.allow_missing_classes=true", "data.validation=0.5"]
    with pytest.raises(DataError, match=r"no clip of 3 of 4 classes, without the validation clips .*data\.fold"):
        open_splits(lonely, with_overrides(TrainConfig(), settings[::2]))
    assert len(open_splits(lonely, with_overrides(TrainConfig(), settings)).train.rows) == 16
    with pytest.raises(
        ConfigError, match=r"no such split .got 'val', expected train \| test.*data\.validation above 0"
    ):
        TokenDataset(store, split="val")
    for value in ("-0.1", "1", "1.5", "nan"):
        with pytest.raises(ConfigError, match=r"data\.validation"):
            config(f"data.validation={value}")
    with pytest.raises(ConfigError, match=r"leaves nothing to train on .got 0\.7, expected 0, or at most 0\.66"):
        config("data.validation=0.7")
    with pytest.raises(ConfigError, match=r"data\.fold: no clips are held out"):
        config("data.fold=1")
    assert config("data.validation=5e-324").data.validation > 0


def test_only_presets_that_are_ours_hold_clips_out(store: TokenStore) -> None:
    assert (paper().data.validation, TrainConfig().data.validation, DataConfig().validation) == (0, 0, 0)
    assert (fast().data.validation, smoke().data.validation) == (0.25, 0.25)
    chosen = for_choosing(store, paper())
    assert (chosen.data.validation, chosen.score_test) == (CHOOSING, False)
    assert for_choosing(store, config("data.validation=0.5")).data.validation == 0.5


def test_one_shots_exemplars_are_on_no_side() -> None:
    """NTU120's auxiliary classes train and validate; exemplars and novel classes stay as they are."""

    class OneShot:
        attrs: ClassVar = {"dataset": "ntu120"}

        def records(self) -> list[VideoRecord]:
            return [
                VideoRecord(clip_id=f"S001C003P{s:03d}R001A{a:03d}", key="", label=a - 1, subject=s, setup=1, camera=3,
                            replication=1)
                for s in (1, 2, 8) for a in (1, 2, 3)
            ]  # fmt: skip

    before = sides_of(OneShot(), "oneshot")  # type: ignore[arg-type]
    after = sides_of(OneShot(), "oneshot", validation=0.34)  # type: ignore[arg-type]
    assert before.keys() | {"val"} == after.keys()
    for side in ("exemplars", "test"):
        assert after[side] == before[side]
    assert len(before["train"]) == 6
    assert {each.subject for each in after["val"]}.isdisjoint(each.subject for each in after["train"])
    assert sorted(each.clip_id for each in [*after["train"], *after["val"]]) == [e.clip_id for e in before["train"]]
    assert UNKNOWN not in {each.subject for each in after["val"]}

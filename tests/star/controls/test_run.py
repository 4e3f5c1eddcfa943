"""Controls recover what is there, see nothing else, and choose without the test side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from star_stores import JOINTS, one_thread, plain, record, write_small_store

from pipeline.errors import DataError
from pipeline.records import UNKNOWN
from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays
from star.build import seeded_model
from star.config.text import TrainConfig, with_overrides
from star.controls import gru, inputs, run
from star.controls.kept import Control
from star.controls.run import controls, controls_on, design_of
from star.controls.shown import handful, whole
from star.controls.sides import Side, folds
from star.data.dataset import TokenDataset
from star.data.splits import fitted, train_split
from star.data.statistics import place_statistics
from star.model import StarTransformer

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

CONFIG = plain()
COORDINATES = "joint coordinates in the picture"


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GRU, which takes most of the time, is hardly trained."""
    monkeypatch.setattr(gru, "MOST_STEPS", 5)


def by_name(found: list[Control]) -> dict[str, Control]:
    names = {control.name: control for control in found}
    assert len(names) == len(found)
    return names


def accuracy(found: list[Control]) -> dict[str, float]:
    return {name: control.validation.top1 for name, control in by_name(found).items()}


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes differ in which joint moves, and nothing in the tokens does."""
    path = tmp_path_factory.mktemp("stores") / "moving.zarr"
    return write_small_store(path, signal=0.0, subjects=(1, 2, 3, 9, 10), replications=4)


@pytest.fixture(scope="module")
def tokens_tell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes differ in the tokens of the first half of the frames; joints are noise."""
    path = tmp_path_factory.mktemp("stores") / "tokens.zarr"
    return write_small_store(path, signal=3.0, moving=0.0, subjects=(1, 2, 3, 9, 10), replications=4)


def test_motion_of_a_joint_is_found_in_coordinates_alone(moving: Path) -> None:
    found = controls(moving, CONFIG, test=True)
    top1 = accuracy(found)
    for method in ("ridge", "logistic regression", "GRU"):
        assert top1.pop(f"{method} on {COORDINATES}") > 0.9
    assert max(top1.values()) < 0.55, top1
    tested = {control.name: control.test.top1 for control in found if control.test is not None}
    assert len(tested) == len(found)
    assert tested[f"ridge on {COORDINATES}"] > 0.9
    assert max(share for name, share in tested.items() if COORDINATES not in name) < 0.55
    assert f"ridge on {COORDINATES} and in space" not in top1  # the store knows none


def test_what_tokens_tell_is_found_in_tokens_alone(tokens_tell: Path, few_steps: None) -> None:
    found = accuracy(controls(tokens_tell, with_overrides(CONFIG, ["model.tokens=both"]), test=False))
    for method in ("ridge", "logistic regression"):
        assert found[f"{method} on all JM tokens"] > 0.9
        assert found[f"{method} on all GG and JM tokens"] > 0.9
        assert found[f"{method} on JM tokens averaged over time"] > 0.9
        assert found[f"{method} on all GG tokens"] < 0.55
        assert found[f"{method} on one frame's JM tokens"] < 0.55  # the middle one has no class in this store
        assert found[f"{method} on {COORDINATES}"] < 0.55
    assert found["ridge on all GG and JM tokens, shuffled labels"] < 0.55
    assert found["most frequent class"] == 0.25


def test_places_in_space_are_seen_where_they_are_known(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = sorted(
        (record(s, c, r) for s in (1, 2, 9) for c in range(3) for r in range(1, 5)), key=lambda r: r.clip_id
    )
    n, frames = len(records), 4
    xyz = rng.normal(scale=0.01, size=(n, 1, 2, frames, JOINTS, 3)) + rng.normal(size=(JOINTS, 3))
    for i, row in enumerate(records):
        xyz[i, 0, 0, :, row.label, 2] += np.arange(frames)  # away from the camera: the picture does not tell
    xyz[:, :, 1] = np.nan
    write_arrays(
        tmp_path / "s", gg=rng.normal(size=(n, 1, frames, 4, 3)), jm=rng.normal(size=(n, 1, frames, JOINTS, 3)),
        joint_mask=np.ones((n, 1, frames, JOINTS), bool), records=records, class_names=["a", "b", "c"],
        dataset="synthetic", joints={"xyz": xyz, "joints": xyz[..., :2]},
    )  # fmt: skip
    found = accuracy(controls(tmp_path / "s", CONFIG, test=False))
    assert found[f"ridge on {COORDINATES} and in space"] > 0.9
    assert found[f"GRU on {COORDINATES} and in space"] > 0.9
    assert found[f"ridge on {COORDINATES}"] < 0.6


def test_a_store_without_joints_has_controls_of_its_tokens(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = sorted((record(s, c, r) for s in (1, 9) for c in range(2) for r in range(1, 4)), key=lambda r: r.clip_id)
    tokens = rng.normal(size=(len(records), 1, 4, JOINTS, 3))
    write_arrays(
        tmp_path / "s", gg=tokens, jm=tokens, joint_mask=np.zeros(tokens.shape[:-1], bool), records=records,
        class_names=["a", "b"], dataset="synthetic",
    )  # fmt: skip
    config = plain("data.validation=0")  # of one training subject
    names = [control.name for control in controls(tmp_path / "s", config, test=False)]
    assert "ridge on all JM tokens" in names  # every one is absent: all rows are the same
    assert not [name for name in names if "coordinates" in name]


def test_pixels_are_seen_where_pictures_are_at_hand(moving: Path, few_steps: None) -> None:
    labels = TokenStore.open(moving).labels
    asked = set[int]()

    def pictures(rows: np.ndarray) -> np.ndarray:
        asked.update(rows.tolist())
        noise = np.random.default_rng(rows).integers(0, 50, (len(rows), 6, 6))
        noise[np.arange(len(rows)), labels[rows]] += 100
        return noise.astype(np.uint8)

    found = accuracy(controls(moving, CONFIG, test=False, frames=pictures))
    assert found["ridge on one frame's pixels"] > 0.9
    assert asked == set(TokenDataset(moving, split="train").rows.tolist())


def test_the_test_side_decides_nothing_and_is_read_after_all_choices(
    moving: Path, monkeypatch: pytest.MonkeyPatch, few_steps: None
) -> None:
    train, test = (TokenDataset(moving, split=split) for split in ("train", "test"))
    rows, reads = set(test.rows.tolist()), list[str]()
    whole = TokenStore.read
    joints, choose = TokenStore.read_joints, run.validated

    def spied(method: Any) -> Any:
        def read(store: TokenStore, indices: Any, *args: Any, **named: Any) -> Any:
            reads.append("test" if rows & set(np.asarray(indices).tolist()) else "train")
            return method(store, indices, *args, **named)

        return read

    def chosen(*args: Any) -> Any:
        before = len(reads)
        found = choose(*args)
        assert "test" not in reads[before:]
        return found

    monkeypatch.setattr(TokenStore, "read", spied(whole))
    monkeypatch.setattr(TokenStore, "read_joints", spied(joints))
    monkeypatch.setattr(run, "validated", chosen)
    without = controls_on(design_of(train, None, None, seed=0), "jm")
    assert "test" not in reads
    assert all(control.test is None for control in without)
    test.labels = np.random.default_rng(0).permutation(test.labels)
    found = controls_on(design_of(train, None, test, seed=0), "jm")
    assert "test" in reads
    for one, other in zip(found, without, strict=True):
        assert (one.name, one.chosen) == (other.name, other.chosen)
        assert np.array_equal(one.validation.probabilities, other.validation.probabilities)
        assert one.test is not None
        assert np.array_equal(one.test.labels, test.labels)


def test_a_validation_side_decides_alone(moving: Path) -> None:
    """Its clips are not learnt from, and only they are scored."""
    whole, test = (TokenDataset(moving, split=split) for split in ("train", "test"))
    train, validation = TokenDataset(moving, split="train"), TokenDataset(moving, split="train")
    held = np.flatnonzero(np.asarray(TokenStore.open(moving).array("subject")[:])[whole.rows] == 10)
    train.rows, train.labels = np.delete(whole.rows, held), np.delete(whole.labels, held)
    validation.rows, validation.labels = whole.rows[held], whole.labels[held]
    found = by_name(controls_on(design_of(train, validation, test, seed=0), "jm"))
    control = found[f"ridge on {COORDINATES}"]
    assert control.validation.clip_ids.tolist() == validation.clip_ids().tolist()
    assert control.validation.top1 > 0.9
    assert "on the validation side" in control.chosen
    assert len(control.validation.labels) == 16
    validation.labels = (validation.labels + 1) % 4
    wrong = by_name(controls_on(design_of(train, validation, None, seed=0), "jm"))
    assert wrong[f"GRU on {COORDINATES}"].validation.top1 < 0.1  # what is learnt does not follow its labels


def test_folds_hold_out_whole_subjects_or_a_share_of_every_class(moving: Path) -> None:
    side = Side.of(TokenDataset(moving, split="train"))
    parts = folds(side)
    assert [np.unique(side.subjects[left]).tolist() for _, left in parts] in ([[10], [2], [1]], [[1], [2], [10]])
    for learn, left in parts:
        assert not set(side.subjects[learn]) & set(side.subjects[left])
    many = replace(side, subjects=np.arange(len(side)) % 12)
    parts = folds(many)
    assert len(parts) == 5
    assert sorted(np.concatenate([left for _, left in parts]).tolist()) == list(range(len(side)))
    unknown = replace(side, subjects=np.full(len(side), UNKNOWN))
    for learn, left in folds(unknown):
        assert sorted([*learn, *left]) == list(range(len(side)))
        assert set(side.labels[left]) == set(side.labels[learn]) == {0, 1, 2, 3}
    with pytest.raises(DataError, match="no two training clips of a class"):
        folds(unknown.take(np.unique(side.labels, return_index=True)[1]))


def test_what_does_not_fit_into_memory_is_learnt_from_fewer_clips(
    moving: Path, monkeypatch: pytest.MonkeyPatch, few_steps: None
) -> None:
    train = TokenDataset(moving, split="train", in_memory=False)
    seen = inputs.tokens(Side.of(train), ["jm"])[-1]
    monkeypatch.setattr(inputs, "free_bytes", lambda _: inputs.SHARE * inputs.COPIES * 4 * seen.columns * 20)
    sizes = list[int]()
    learn = run.Trial.__init__

    def counted(trial: Any, learnt: Side, seen: inputs.Input) -> None:
        learn(trial, learnt, seen)
        sizes.append(len(trial.learnt))

    monkeypatch.setattr(run.Trial, "__init__", counted)
    found = accuracy(controls_on(design_of(train, None, None, seed=0), "jm"))
    assert "ridge on all JM tokens (20 of 48 training clips)" in found
    assert "ridge on the mean of all JM tokens" in found
    assert set(sizes) >= {20, 32}


def test_the_gru_has_the_same_bits_again_and_leaves_randomness_alone(moving: Path, few_steps: None) -> None:
    side = Side.of(TokenDataset(moving, split="train"))
    state = torch.random.get_rng_state()
    first, again = (gru.gru_probabilities(side, side, most=99, seed=3) for _ in range(2))
    assert np.array_equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not np.array_equal(first, gru.gru_probabilities(side, side, most=99, seed=4))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_token_that_is_no_number_is_told(tmp_path: Path, split: str, few_steps: None) -> None:
    whole = TokenDataset(write_small_store(tmp_path / "whole.zarr"), split=split)
    store = write_small_store(tmp_path / "nan.zarr", nan_clip=int(whole.rows[3]))
    with pytest.raises(DataError, match=f"clip {whole.clip_ids()[3]}: has tokens that are not finite"):
        controls(store, CONFIG, test=True)


@pytest.mark.parametrize("tokens", ["gg", "jm", "both"])
def test_only_the_tokens_of_the_run_are_read(moving: Path, tokens: str, few_steps: None) -> None:
    config: TrainConfig = with_overrides(CONFIG, [f"model.tokens={tokens}"])
    names = [control.name for control in controls(moving, config, test=False)]
    kinds = {"gg": {"GG"}, "jm": {"JM"}, "both": {"GG", "JM", "GG and JM"}}[tokens]
    whole = {name.removeprefix("ridge on all ").removesuffix(" tokens") for name in names if "ridge on all" in name}
    assert {name for name in whole if "shuffled" not in name} == kinds


def test_ridge_sees_tokens_as_the_model_reads_them(tokens_tell: Path) -> None:
    """Its rows are the whitened, thinned tokens of the run's own data set and model."""
    config = with_overrides(CONFIG, ["data.frame_step=2", "data.frame_mean=true", "model.whiten=true"])
    train = train_split(TokenStore.open(tokens_tell), config)
    model = seeded_model(fitted(config.model, train), seed=0)
    assert isinstance(model, StarTransformer)
    model.standardise(**place_statistics(train))
    batch = train.read(range(len(train)))
    expected = model.jm_standard(batch.jm) * batch.joint_mask[..., None]
    side = Side.of(train)
    (seen,) = inputs.tokens_as_read(side, ["jm"], inputs.Reading.of(config))
    assert np.allclose(seen.begin(side)(side), expected.flatten(1).numpy(), atol=0.01)  # the data set holds float16
    assert seen.columns == expected[0].numel()
    assert seen.name == "JM tokens as the model reads them (means of 2 frames, whitened)"
    whole = Side.of(TokenDataset(tokens_tell))
    assert inputs.tokens_as_read(whole, ["jm"], inputs.AS_STORED) == []
    assert accuracy(controls(tokens_tell, config, test=False, only=lambda _, sees: sees == seen.name)) == {
        f"ridge on {seen.name}": pytest.approx(1, abs=0.1)
    }


def test_of_each_kind_the_best_on_validation_is_shown(moving: Path, few_steps: None) -> None:
    found = controls(moving, with_overrides(CONFIG, ["model.tokens=both"]), test=False)
    assert whole("both") == "all GG and JM tokens"
    shown = handful(found, "both")
    assert [control.sees for control in shown[:3]] == [whole("both"), whole("gg"), whole("jm")]
    linear = [each for each in found if each.sees == COORDINATES and each.method != "GRU"]
    (one,) = (each for each in shown if each in linear)
    assert one.validation.top1 == max(each.validation.top1 for each in linear)
    assert [control.name for control in shown[-2:]] == [f"GRU on {COORDINATES}", "most frequent class"]
    assert not [control for control in shown if "shuffled" in control.sees]
    assert len(shown) == 9  # with the model's own reading and pooled tokens, one frame's; no pixels
    worst = [replace(each, validation=found[0].validation) for each in found if each not in linear[:1]]
    assert linear[0] in handful([*worst, linear[0]], "both")

"""Studies train what they say, report every variant, and go on where they stopped."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest
from star_stores import one_thread, plain, write_small_store

from pipeline.errors import ConfigError
from pipeline.store.token_store import TokenStore
from star.build import seeded_model
from star.config.presets import PRESETS, paper
from star.config.text import TrainConfig, with_overrides
from star.controls import gru
from star.controls.run import controls
from star.data.sampler import Batches
from star.data.splits import CHOOSING, for_choosing, open_splits
from star.evaluate.scores import Scores
from star.evaluate.scoring import evaluate_run
from star.runs.run import Run, open_run
from star.study.ablate import ablate, file_name, planned, planned_controls
from star.study.beside import with_tokens_of
from star.study.studies import STUDIES, against_controls, pairs, variants
from star.study.table import markdown, pairs_csv, rows_csv

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@pytest.mark.parametrize("study", sorted(STUDIES))
@pytest.mark.parametrize("base", [plain(), TrainConfig(), *(preset() for preset in PRESETS.values())])
def test_every_variant_is_another_config(study: str, base: TrainConfig) -> None:
    found = variants(study, base, views=2, items=32)
    configs = [with_overrides(base, settings) for settings in found.values()]
    assert len({repr(config) for config in configs}) == len(configs) >= 2
    assert len({file_name(label) for label in found}) == len(found)


@pytest.mark.parametrize(("tokens", "labels"), [
    ("gg", ["none", "grid"]), ("jm", ["none", "joints"]), ("both", ["none", "joints", "grid", "joints and grid"]),
])  # fmt: skip
def test_only_positions_of_tokens_in_use_are_varied(tokens: str, labels: list[str]) -> None:
    base = with_overrides(TrainConfig(), [f"model.tokens={tokens}", "model.width=8", "model.heads=1"])
    found = variants("positions", base, views=1, items=32)
    assert list(found) == labels
    learnt = []
    for settings in found.values():
        model = seeded_model(with_overrides(base, settings).model, seed=0)
        learnt.append({name for name, _ in model.named_parameters() if "position" in name})
    assert learnt == [
        {f"tokens.{kind}_position" for kind, name in (("jm", "joints"), ("gg", "grid")) if name in label}
        for label in labels
    ]


@pytest.mark.parametrize("views", ["random", "all", "0", "1"])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_sampling_changes_one_choice_of_the_config(step: int, views: str) -> None:
    base = plain(f"data.frame_step={step}", f"data.views={views}")
    first, *others = [
        with_overrides(base, settings) for settings in variants("sampling", base, views=2, items=32).values()
    ]
    assert first == base
    for other in others:
        assert (other.data.frame_step != step) + (other.data.views != base.data.views) == 1
    assert all(other.data.views == base.data.views for other in others[: len({step, 1, 2, 4}) - 1])
    assert any(other.data.views != base.data.views for other in others)
    alone = variants("sampling", base, views=1, items=32).values()
    assert all(with_overrides(base, settings).data.views == base.data.views for settings in alone)
    assert len(alone) == len({step, 1, 2, 4})


def test_frames_are_named() -> None:
    labels = variants("sampling", plain("data.frame_step=3"), views=2, items=32)
    means = variants("sampling", plain("data.frame_step=4", "data.frame_mean=true"), views=1, items=32)
    assert list(means) == ["means of 4 frames", "every frame", "means of 2 frames"]
    assert list(labels) == ["every 3rd frame", "every frame", "every 2nd frame", "every 4th frame", "view 0 alone"]


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_each_study_names_its_pairs(study: str) -> None:
    labels = list(variants(study, TrainConfig(), views=2, items=32))
    found = pairs(study, labels)
    assert found
    assert len({frozenset(pair) for pair in found}) == len(found)
    for pair in found:
        assert len(set(pair)) == 2
        assert set(pair) <= set(labels)
    if study == "tokens":  # the paper's claim
        assert found == [("both", "jm"), ("both", "gg")]
    else:
        assert len(found) == len(labels) - 1


def test_pairs_are_differences_that_a_claim_makes_positive() -> None:
    assert pairs("attention", ["softmax", "uniform"]) == [("softmax", "uniform")]
    assert pairs("layers", ["1 + 1", "2 + 2", "3 + 3"]) == [("2 + 2", "1 + 1"), ("3 + 3", "1 + 1")]
    modules = list(variants("modules", TrainConfig(), views=1, items=32))
    assert {first for first, _ in pairs("modules", modules)} == {"full zigzag | full binary"}


@pytest.mark.parametrize(("settings", "steps"), [
    (["optim.epochs=3", "optim.batch_size=10"], 12),  # 32 clips: four steps an epoch
    (["optim.epochs=3", "optim.batch_size=10", "optim.min_steps=50"], 50),
    (["optim.epochs=3", "optim.batch_size=10", "data.fraction=0.5"], 12),
])  # fmt: skip
def test_shares_of_the_data_take_equal_steps(tmp_path: Path, settings: list[str], steps: int) -> None:
    store = write_small_store(tmp_path / "small.zarr", subjects=(1, 2, 4, 9))  # one of three is held out
    config = plain("model.width=16", "data.frame_step=1", *settings)
    clips = []
    for variant in planned(store, tmp_path / "out", study="data-fraction", config=config, seeds=1):
        train, optim = open_splits(store, variant.config, in_memory=False).train, variant.config.optim
        clips.append(len(train))
        batches = Batches(
            items=len(train), batch_size=optim.batch_size, epochs=optim.epochs, min_steps=optim.min_steps, seed=0
        )
        assert batches.steps == steps
    assert clips == [4, 8, 16, 32]


def test_a_study_with_a_variant_that_does_not_fit_trains_none(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr")  # 4 frames: every 4th leaves one, and zigzag needs two
    config = plain("model.width=16")
    calls: list[str] = []
    study = {"study": "sampling", "config": config, "progress": lambda name, *_: calls.append(name)}
    with pytest.raises(ConfigError, match=r"variant 'every 4th frame': zigzag_attention.*got 1 frame"):
        ablate(store, tmp_path / "out", **study)
    assert not calls
    assert not (tmp_path / "out").exists()
    labels = [variant.label for variant in planned(store, tmp_path, study="sampling", config=config, seeds=1)]
    assert labels == ["every 2nd frame", "every frame", "every 4th frame"]  # the store has one view


def test_the_papers_own_pair_is_among_the_modules() -> None:
    assert (
        with_overrides(
            TrainConfig(), variants("modules", TrainConfig(), views=1, items=32)["full zigzag | full binary"]
        )
        == TrainConfig()
    )
    with pytest.raises(ConfigError, match="baselines"):
        variants("everything", plain(), views=1, items=32)


def test_a_study_is_a_table_of_its_runs_and_resumes(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", signal=0.5, subjects=(1, 2, 4, 9))
    config = plain("model.width=16", "data.frame_step=1", "optim.epochs=2", "eval_every=0")
    calls: list[tuple[str, int, int]] = []

    def listen(name: str, done: int, total: int, event: object) -> None:
        calls.append((name, done, total))
        if (name, stop) == ("uniform, seed 1", True):
            raise KeyboardInterrupt

    stop = True
    study = {"study": "attention", "config": config, "seeds": 2, "progress": listen, "controls": False}
    with pytest.raises(KeyboardInterrupt):
        ablate(store, tmp_path / "out", **study)
    stop = False
    calls.clear()
    table = ablate(store, tmp_path / "out", **study)
    rows = table.rows
    assert {name for name, _, _ in calls} == {"uniform, seed 1"}  # what was finished is not trained again
    assert {(done, total) for _, done, total in calls} == {(3, 4)}
    assert [row.label for row in rows] == ["softmax", "uniform"]
    folder = tmp_path / "out" / "attention"
    for row in rows:
        for seed in range(2):
            run = open_run(folder / file_name(row.label) / f"seed-{seed}")
            assert run.config.seed == seed
            assert run.config.model.uniform_attention == (row.label == "uniform")
            last = {line["split"]: line for line in run.metrics() if "top1" in line}
            assert last["val"]["top1"] == row.top1[seed]
            assert ("test" in last) == (run.path / "test.npz").exists() == (row.label == table.best)
            if row.test is not None:
                assert last["test"]["top1"] == row.test.top1[seed] == evaluate_run(run).top1
    assert [row.label for row in rows if row.test is not None] == [table.best]
    assert table.best == max(rows, key=lambda row: row.mean).label
    assert [each.pair for each in table.comparisons] == [("softmax", "uniform")]
    assert (folder / "table.md").read_text() == markdown(table)
    assert (folder / "table.csv").read_text() == rows_csv(table)
    assert (folder / "pairs.csv").read_text() == pairs_csv(table)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_each_variant_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an earlier call has scored on the test split is shown, counted, and never scored again."""
    store = write_small_store(tmp_path / "small.zarr", signal=0.5, subjects=(1, 2, 4, 9))
    config = with_overrides(paper(), ["model.tokens=jm", "model.width=16", "model.heads=1", "optim.epochs=1"])
    config = with_overrides(config, ["model.encoder_depth=1", "model.decoder_depth=0"])
    looked: list[Path] = []

    def counted(run: Run, *, split: str, **how: object) -> Scores:
        assert split == "test"
        looked.append(run.path)
        return evaluate_run(run, split=split, **how)  # type: ignore[arg-type]

    monkeypatch.setattr("star.study.held_back.evaluate_run", counted)
    study = {"study": "attention", "config": config, "seeds": 2, "controls": False}
    table = ablate(store, tmp_path / "out", **study, test="none")
    text = (tmp_path / "out/attention/table.md").read_text()
    assert (looked, table.looks, "test top-1" in text) == ([], 0, False)
    assert "compared on 16 validation clips. Looks at the test split: 0. All validation clips are of one sub" in text
    assert open_run(tmp_path / "out/attention/softmax/seed-0").config.data.validation == CHOOSING  # paper has none
    table = ablate(store, tmp_path / "out", **study)
    text = (tmp_path / "out/attention/table.md").read_text()
    best = tmp_path / "out/attention" / file_name(table.best)
    assert (looked, table.looks) == ([best / "seed-0", best / "seed-1"], 1)
    assert f"Looks at the test split: 1 ({table.best}; all seeds of a variant are one look)." in text
    assert "| test top-1 |" in text
    table = ablate(store, tmp_path / "out", **study, test="all")
    assert (len(looked), len(set(looked)), table.looks) == (4, 4, 2)
    again = ablate(store, tmp_path / "out", **study, test="none")
    assert (len(looked), again.looks) == (4, 2)  # what was looked at stays counted
    assert [row.test.top1 for row in again.rows if row.test] == [row.test.top1 for row in table.rows if row.test]
    header, *lines = (tmp_path / "out/attention/table.csv").read_text().splitlines()
    column = header.split(",").index("test_top1_mean")
    assert [float(line.split(",")[column]) for line in lines] == [row.test.mean for row in table.rows if row.test]
    with pytest.raises(ConfigError, match=r"test: .*best \| all \| none"):
        ablate(store, tmp_path / "out", **study, test="worst")


def test_controls_stand_below_and_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gru, "MOST_STEPS", 5)
    store = write_small_store(tmp_path / "small.zarr", signal=0.5, subjects=(1, 2, 4, 9))
    config = plain("model.width=16", "data.frame_step=2", "optim.epochs=1", "eval_every=0")
    told: list[str] = []
    study = {"config": config, "seeds": 1, "control_progress": told.append}
    table = ablate(store, tmp_path / "out", study="attention", test="none", **study)
    folder, first = tmp_path / "out/attention", table.rows[0]
    labels = [row.label for row in table.controls]
    assert labels[0] == "ridge on all JM tokens"
    assert labels[1] == "ridge on JM tokens as the model reads them (1 of 2 frames)"
    assert labels[-2:] == ["most frequent class", "softmax, shuffled labels"]
    run = open_run(folder / "shuffled-labels/seed-0")
    assert run.config == with_overrides(open_run(folder / "softmax/seed-0").config, ["data.shuffled_labels=true"])
    assert all(row.test is None for row in table.every)
    kept = {control.name: control for control in controls(store, choosing(store, config), test=False)}
    assert all(row.mean == kept[row.label].validation.top1 for row in table.controls[:-1])
    assert [each.pair for each in table.comparisons] == [("softmax", "uniform"), ("softmax", labels[0])]
    assert table.comparisons[1].value == pytest.approx(first.mean - kept[labels[0]].validation.top1)
    whole = (tmp_path / "out/controls/controls.md").read_text()
    assert all(name in whole and control.chosen in whole for name, control in kept.items())
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [(line["variant"], int(line["control"])) for line in lines] == [
        (row.label, int(row.label in labels)) for row in table.every
    ]
    assert f"| control: {labels[0]} |" in markdown(table)
    names = planned_controls(
        TokenStore.open(store), config,
        planned(store, tmp_path / "out", study="attention", config=config, seeds=1), pictures=False,
    )  # fmt: skip
    assert names == [labels[-1], *kept]
    assert len(told) == len({control.sees for control in kept.values()})

    told.clear()
    table = ablate(store, tmp_path / "out", study="attention", **study)
    assert len(told) == len({control.sees for control in kept.values() if control.name in labels})  # on test as well
    assert [row.label for row in table.controls] == labels
    tested = {control.name: control for control in controls(store, choosing(store, config), test=True)}
    for row in table.controls[:-1]:
        assert row.test is not None
        assert row.test.top1 == (tested[row.label].test.top1,)  # type: ignore[union-attr]
    assert table.looks == 1
    text = (folder / "table.md").read_text()
    assert f"Looks at the test split: 1 ({table.best}; all seeds of a variant are one look). " in text
    assert f" {len(labels)} controls were scored there as well, all choices made. All validation clips" in text

    told.clear()
    assert ablate(store, tmp_path / "out", study="attention", test="none", **study).looks == 1
    other = ablate(store, tmp_path / "out", study="positions", test="none", **study)
    assert told == []  # of the same clips
    assert [row.label for row in other.controls] == [*labels[:-1], "none, shuffled labels"]
    assert all(row.test is None for row in other.every)
    shutil.rmtree(tmp_path / "out/attention")
    shutil.rmtree(tmp_path / "out/positions")
    assert ablate(store, tmp_path / "out", study="attention", test="none", controls=False, **study).controls == []


def choosing(store: Path, config: TrainConfig) -> TrainConfig:
    return for_choosing(TokenStore.open(store), config)


@pytest.mark.parametrize(("study", "kinds"), [("tokens", "both"), ("layers", "jm")])
def test_controls_see_what_the_variants_see(tmp_path: Path, study: str, kinds: str) -> None:
    store = write_small_store(tmp_path / "small.zarr")
    found = planned(store, tmp_path / "out", study=study, config=plain(), seeds=1)
    assert with_tokens_of(plain(), [variant.config for variant in found]).model.tokens == kinds
    assert against_controls("tokens", ["gg", "jm", "both"]) == "both"
    assert against_controls("layers", ["1 + 1", "2 + 2"]) == "1 + 1"

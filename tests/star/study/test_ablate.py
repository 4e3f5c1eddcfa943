"""Studies train what they say, report every variant, and go on where they stopped."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from star_stores import one_thread, write_small_store

from pipeline.errors import ConfigError
from star.build import seeded_model
from star.config.presets import smoke
from star.config.text import TrainConfig, with_overrides
from star.evaluate.metrics import wilson_interval
from star.evaluate.scores import Scores
from star.runs.run import open_run
from star.study.ablate import ablate, file_name, markdown, planned, row_of
from star.study.studies import STUDIES, variants

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@pytest.mark.parametrize("study", sorted(STUDIES))
@pytest.mark.parametrize("preset", [smoke(), TrainConfig()])
def test_every_variant_is_another_config(study: str, preset: TrainConfig) -> None:
    found = variants(study, preset, views=2)
    configs = [with_overrides(preset, settings) for settings in found.values()]
    assert len({repr(config) for config in configs}) == len(configs) >= 2
    assert len({file_name(label) for label in found}) == len(found)


@pytest.mark.parametrize(("tokens", "labels"), [
    ("gg", ["none", "grid"]), ("jm", ["none", "joints"]), ("both", ["none", "joints", "grid", "joints and grid"]),
])  # fmt: skip
def test_only_positions_of_tokens_in_use_are_varied(tokens: str, labels: list[str]) -> None:
    base = with_overrides(TrainConfig(), [f"model.tokens={tokens}", "model.width=8", "model.heads=1"])
    found = variants("positions", base, views=1)
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
    base = with_overrides(smoke(), [f"data.frame_step={step}", f"data.views={views}"])
    first, *others = [with_overrides(base, settings) for settings in variants("sampling", base, views=2).values()]
    assert first == base
    for other in others:
        assert (other.data.frame_step != step) + (other.data.views != base.data.views) == 1
    assert all(other.data.views == base.data.views for other in others[: len({step, 1, 2, 4}) - 1])
    assert any(other.data.views != base.data.views for other in others)
    alone = variants("sampling", base, views=1).values()
    assert all(with_overrides(base, settings).data.views == base.data.views for settings in alone)
    assert len(alone) == len({step, 1, 2, 4})


def test_frames_are_named() -> None:
    labels = variants("sampling", with_overrides(smoke(), ["data.frame_step=3"]), views=2)
    assert list(labels) == ["every 3rd frame", "every frame", "every 2nd frame", "every 4th frame", "view 0 alone"]


def test_a_study_with_a_variant_that_does_not_fit_trains_none(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr")  # 4 frames: every 4th leaves one, and zigzag needs two
    config = with_overrides(smoke(), ["model.width=16"])
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
        with_overrides(TrainConfig(), variants("modules", TrainConfig(), views=1)["full zigzag | full binary"])
        == TrainConfig()
    )
    with pytest.raises(ConfigError, match="baselines"):
        variants("everything", smoke(), views=1)


def test_a_study_is_a_table_of_its_runs_and_resumes(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", signal=0.5)
    config = with_overrides(smoke(), ["model.width=16", "data.frame_step=1", "optim.epochs=2", "eval_every=0"])
    calls: list[tuple[str, int, int]] = []

    def listen(name: str, done: int, total: int, event: object) -> None:
        calls.append((name, done, total))
        if (name, stop) == ("uniform, seed 1", True):
            raise KeyboardInterrupt

    stop = True
    study = {"study": "attention", "config": config, "seeds": 2, "progress": listen}
    with pytest.raises(KeyboardInterrupt):
        ablate(store, tmp_path / "out", **study)
    stop = False
    calls.clear()
    rows = ablate(store, tmp_path / "out", **study)
    assert {name for name, _, _ in calls} == {"uniform, seed 1"}  # what was finished is not trained again
    assert {(done, total) for _, done, total in calls} == {(3, 4)}
    assert [row.label for row in rows] == ["softmax", "uniform"]
    folder = tmp_path / "out" / "attention"
    for row in rows:
        for seed in range(2):
            run = open_run(folder / file_name(row.label) / f"seed-{seed}")
            assert run.config.seed == seed
            assert run.config.model.uniform_attention == (row.label == "uniform")
            assert run.metrics()[-1]["top1"] == row.top1[seed]
    table = list(csv.DictReader((folder / "table.csv").open()))
    assert [float(line["top1_mean"]) for line in table] == [row.mean for row in rows]
    assert [float(line["top1_1"]) for line in table] == [row.top1[1] for row in rows]
    assert (folder / "table.md").read_text() == markdown("attention", rows)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def scores(right: list[bool]) -> Scores:
    return Scores(
        clip_ids=np.arange(len(right)).astype(str), labels=np.zeros(len(right), np.int64),
        probabilities=np.asarray([[1.0, 0] if r else [0, 1.0] for r in right]), class_names=("x", "y"),
        split="test", protocol="xsub",
    )  # fmt: skip


def test_a_row_is_mean_spread_interval_and_paired_test() -> None:
    a, b = scores([True] * 9 + [False]), scores([True] * 7 + [False] * 3)
    row = row_of("x | y", [a, b], reference=None)
    assert (row.mean, row.top1) == (0.8, (0.9, 0.7))
    assert row.spread == pytest.approx(math.sqrt(0.02))
    assert row.interval == wilson_interval(8, 10)
    assert math.isnan(row.p_value)
    worse = row_of("worse", [scores([False] * 9 + [True])], reference=a)
    assert math.isnan(worse.spread)
    assert worse.p_value == pytest.approx(2 * 11 / 1024)  # one of ten discordant clips, or none, on either side
    assert "| x / y | 80.0 | 14.1 |" in markdown("test", [row, worse])

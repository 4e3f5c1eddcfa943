"""Claims about the synthetic set: its clips can be learnt, one frame of each cannot, nor can shuffled labels."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from command_line import done

from star.config.presets import smoke
from star.config.text import with_overrides
from star.evaluate.scoring import evaluate_run
from star.runs.run import open_run
from star.study.seeds import spread_of, train_seeds

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.soak
def test_soak_the_demo_reaches_its_accuracy(tmp_path: Path) -> None:
    """All of `make demo`: 24 clips of each of 14 actions, preset smoke, seed 0, subjects that training never saw."""
    printed = done("demo", "--out", tmp_path / "demo", "--clips-per-class", 24, "--seed", 0, "--quiet")
    run = open_run(tmp_path / "demo" / "run")
    assert (run.config.preset, run.config.seed, run.store["protocol"]) == ("smoke", 0, "xsub")
    scores = evaluate_run(run)
    assert len(scores.labels) == 112
    assert scores.top1 >= 0.95
    assert float(re.search(r"test accuracy (\S+)$", printed.strip()).group(1)) == pytest.approx(scores.top1, abs=6e-4)


@pytest.mark.soak
def test_soak_shuffled_labels_stay_at_chance(tmp_path: Path) -> None:
    """The demo's own clips and settings, the training labels shuffled: it guesses one of 14 actions."""
    done("demo", "--out", tmp_path / "demo", "--clips-per-class", 24, "--seed", 0, "--quiet")
    config = with_overrides(smoke(), ["data.shuffled_labels=true", "eval_every=0"])
    scores = train_seeds(tmp_path / "demo" / "tokens.zarr", tmp_path / "shuffled", config=config, seeds=3)
    low, high = spread_of(scores).interval
    assert low < 1 / 14 < high < 0.2


@pytest.mark.soak
def test_soak_one_picture_does_not_tell_a_pair_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe on one frame alone stays near guessing on the time-reversed pairs; one on all frames does not."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    right, clips = import_module("single_frame").right_of_rows(tmp_path, 24, "layer1")
    assert clips == {"train": 96, "test": 48}
    assert right["one frame alone"] / clips["test"] < 0.65
    assert right["all frames of the clip"] / clips["test"] > 0.85

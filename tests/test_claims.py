"""Claims about the synthetic set: it can be learnt, but from no kind of input alone, nor with shuffled labels."""

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
    assert scores.top1 >= 0.85
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
@pytest.mark.parametrize("seed", [0, 1])
def test_soak_the_set_needs_both_kinds_of_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Neither coordinates, nor one frame, nor one kind of tokens tells all actions apart; both kinds together do."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    drawn_set = import_module("drawn_set")
    clips = drawn_set.draw(tmp_path, 24, seed, "layer1")
    assert (clips.train.sum(), (~clips.train).sum()) == (224, 112)
    found = drawn_set.table(clips)
    assert found["joint coordinates"] <= 0.80
    assert max(found[row] for row in found if row.endswith("one frame")) <= 0.60
    assert found["both of all frames"] >= 0.85
    assert max(found["JM tokens of all frames"], found["GG tokens of all frames"]) <= found["both of all frames"] - 0.1

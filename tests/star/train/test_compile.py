"""A compiled training takes the steps of the plain one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from star_stores import one_thread, plain, write_small_store

from star.runs.run import Run
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.metrics() if "loss" in line]


def test_losses_are_those_of_the_uncompiled_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.nn.Module] = []
    compile_ = partial(torch.compile, backend="aot_eager")  # without a C++ compiler, and in seconds

    def compiled(model: torch.nn.Module) -> object:
        asked.append(model)
        return compile_(model)

    monkeypatch.setattr(torch, "compile", compiled)
    store = write_small_store(tmp_path / "small.zarr")
    settings = ["model.width=16", "model.tokens=both", "data.frame_step=1", "optim.epochs=2", "optim.batch_size=12"]
    settings += ["eval_every=1", "data.validation=0"]  # the 32 clips make steps of 12, 12 and 8
    eager = train(store, tmp_path / "eager", config=plain(*settings))
    assert not asked
    run = train(store, tmp_path / "run", config=plain(*settings, "optim.compile=true"))
    assert len(asked) == 1
    assert len(losses(run)) == 6
    assert losses(run) == pytest.approx(losses(eager), abs=1e-4)
    assert max(losses(eager)) - min(losses(eager)) > 0.01
    ends = [[line["top1"] for line in each.metrics() if "top1" in line] for each in (eager, run)]
    assert ends[0] == ends[1]

"""`torchrun --no-python star train`, two processes on a CPU: the result of one process, and one process prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import done
from star_stores import one_thread, plain_options, write_small_store

from star.config.text import with_overrides
from star.evaluate.scoring import evaluate_run
from star.runs.run import open_run
from star.train.start import train as train_here

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures(one_thread.__name__)]

SETTINGS = ["model.width=16", "data.frame_step=1", "eval_every=1", "optim.batch_size=10", "optim.epochs=2"]
SETTINGS += ["model.dropout=0", "optim.lr=3e-3"]  # 32 clips: 10 + 10 + 10 + 2, so that a step has a rank with one clip
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
STAR = Path(sys.executable).parent / "star"


def losses(run: Path) -> np.ndarray:
    return np.asarray([line["loss"] for line in open_run(run).metrics() if "loss" in line])


def test_two_processes_of_torchrun_give_the_run_of_one(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", signal=0.5, subjects=(1, 2, 4, 9))
    for name in ("pipeline", "star", "cli"):  # of the user's own, where they work
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not the installed package')")
    train = ["train", "--from-cache", str(store), "--device", "cpu", "--json", *plain_options(*SETTINGS)]
    shown = subprocess.run(
        [sys.executable, "-m", *TORCHRUN, str(STAR), *train, "--out", str(tmp_path / "together")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=6000,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "Traceback" not in shown.stderr
    (line,) = shown.stdout.splitlines()  # one process prints
    alone = json.loads(done(*train, "--out", tmp_path / "alone"))
    assert json.loads(line) == {**alone, "run": str(tmp_path / "together")}
    # the clips of a step decide its loss: another order gives others, far beyond sums taken in another order
    expected = losses(tmp_path / "alone")
    assert np.allclose(losses(tmp_path / "together"), expected, rtol=2e-3)
    other = with_overrides(open_run(tmp_path / "alone").config, ["seed=1"])
    assert not np.allclose(train_here(store, tmp_path / "other", config=other).metrics()[0]["loss"], expected[0], 2e-3)
    one, two = (evaluate_run(tmp_path / name) for name in ("alone", "together"))
    assert one.clip_ids.tolist() == two.clip_ids.tolist()
    assert np.abs(one.probabilities - two.probabilities).max() < 1e-2
    assert 0 < one.top1 < 1  # hard enough that a moved number would show


@pytest.mark.parametrize(("together", "later"), [("1", "later"), ("2", "")])
def test_one_of_several_processes_waits_for_nobody_when_it_fails(together: str, later: str) -> None:
    """What torch does as the interpreter ends would wait, on GPUs, for processes that wait for this one."""
    lines = "import atexit, sys, cli.main; atexit.register(print, 'later'); sys.argv[1:] = ['inspect', '/nowhere']"
    shown = subprocess.run(
        [sys.executable, "-c", f"{lines}; cli.main.main()"],
        env={**os.environ, "WORLD_SIZE": together}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout.strip()) == (1, later)
    assert shown.stderr.startswith("star: /nowhere")


@pytest.mark.parametrize(("together", "later"), [("1", "later"), ("2", "")])
def test_an_error_of_ours_is_shown_before_a_process_leaves_the_others(together: str, later: str) -> None:
    lines = "import atexit, cli.main; atexit.register(print, 'later'); cli.main.app = lambda: 1 / 0; cli.main.main()"
    shown = subprocess.run(
        [sys.executable, "-c", lines],
        env={**os.environ, "WORLD_SIZE": together}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout.strip()) == (1, later)
    assert shown.stderr.count("ZeroDivisionError: division by zero") == 1

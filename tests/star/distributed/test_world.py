"""Training and evaluation over several processes (gloo on the CPU) are those of one process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from star_stores import one_thread, plain, plain_options, write_small_store

from pipeline.errors import ConfigError
from star.data.sampler import Batches
from star.distributed.machine import _control_groups, _left_in, choose_device, free_bytes
from star.distributed.world import PATIENCE_S, join_world
from star.evaluate.scoring import evaluate_run
from star.runs.checkpoint import checkpoints, load_checkpoint
from star.runs.metrics_log import read_metrics
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

TESTS = Path(__file__).resolve().parents[2]

SETTINGS = [
    "model.width=16",
    "data.frame_step=1",
    "eval_every=1",
    "optim.batch_size=10",
    "optim.epochs=3",
    "model.dropout=0",
]  # 32 clips: 10 + 10 + 10 + 2

CHILD = """
import json, os, sys
from star_stores import plain
from star.data import TokenDataset
from star.evaluate import evaluate_run
from star.train import train
store, run, stop, *settings = sys.argv[1:]
read = TokenDataset.read
log = open(f"{run}.picks-{os.environ['RANK']}", "a")
def logged(self, items, **how):
    if self.split == "train" and items and isinstance(items[0], tuple):
        log.write(json.dumps(items) + chr(10))
        log.flush()
    return read(self, items, **how)
TokenDataset.read = logged
def progress(event):
    if event.done == int(stop):
        os._exit(3)
train(store, run, config=plain(*settings), device="cpu", save_every_s=0, progress=progress)
scores = evaluate_run(run, device="cpu", batch_size=3)
print(json.dumps(scores.summary()))
"""


COMMANDS = """
import errno, json, os, sys
from command_line import star as star_command
import star.runs.metrics_log
rank = int(os.environ["RANK"])
def full(file, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
for command in json.loads(sys.argv[1]):
    if command.pop() == "full" and rank == 0:
        star.runs.metrics_log.write_unbuffered = full
    shown = star_command(*(word.replace("RANK", str(rank)) for word in command))
    print(json.dumps([shown.exit_code, shown.stdout, shown.stderr.splitlines()]), flush=True)
os._exit(0)  # as `cli.main.main` does after an error: a group that has lost a process cannot be taken apart
"""


STOPPED = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
import star.train.loop
from star_stores import plain
from star.train import train
save = star.train.loop.save_checkpoint
def slow(*given):
    time.sleep(1.5)
    return save(*given)
star.train.loop.save_checkpoint = slow
store, run, *settings = sys.argv[1:]
answers = iter([False, True])
try:
    train(store, run, config=plain(*settings), device="cpu", save_every_s=1e9,
          stop=nullcontext(lambda: next(answers)))
except KeyboardInterrupt:
    print([path.name for path in Path(run).glob("checkpoint-*.pt")])
"""


def launch(world: int, *arguments: str, script: str = CHILD) -> list[subprocess.Popen[str]]:
    """A script in `world` processes, with the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    shared |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip


def picks_of(run: Path, rank: int) -> list[list[tuple[int, int]]]:
    path = Path(f"{run}.picks-{rank}")
    picks = [[tuple(pick) for pick in json.loads(line)] for line in path.read_text().splitlines()]
    path.unlink()
    return picks


def picks_from(start: int, *, rank: int, world: int) -> list[list[tuple[int, int]]]:
    """What a rank reads from a step on; a short step leaves a rank without any."""
    return list(Batches(items=32, batch_size=10, epochs=3, seed=0, start=start, rank=rank, world=world))


def saved_step(run: Path) -> int:
    checkpoint = load_checkpoint(run)
    return 0 if checkpoint is None else checkpoint.step


@pytest.mark.processes
def test_from_one_process_to_two_and_back_and_to_three(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", signal=0.3, subjects=(1, 2, 4, 9))
    config = plain(*SETTINGS)
    train(store, tmp_path / "alone", config=config)
    plan = Batches(items=32, batch_size=10, epochs=3, seed=0)
    run = tmp_path / "run"

    def alone_until(stop: int) -> None:
        asked = (step >= stop for step in itertools.count(saved_step(run) + 1))
        with pytest.raises(KeyboardInterrupt):
            train(store, run, config=config, stop=contextlib.nullcontext(lambda: next(asked)))

    alone_until(2)
    first, *others = launch(2, str(store), str(run), "6", *SETTINGS)
    assert first.wait() == 3  # the leader dies after step 6, with no word to the others
    for other in others:
        other.kill()
        other.wait()
    for rank in range(2):
        expected = [picks for picks in picks_from(2, rank=rank, world=2)[:3] if picks]
        assert picks_of(run, rank)[: len(expected)] == expected
    assert saved_step(run) == 5  # what the leader had saved: it died before it could save its sixth step
    alone_until(8)
    start = saved_step(run)
    assert start == 8
    children = launch(3, str(store), str(run), "99", *SETTINGS)
    answers = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    assert all(child.returncode == 0 for child in children)
    for rank in range(3):  # the very picks of the steps that are left
        assert picks_of(run, rank) == [picks for picks in picks_from(start, rank=rank, world=3) if picks]
    alone, together = read_metrics(tmp_path / "alone"), read_metrics(run)
    assert [line["step"] for line in alone] == [line["step"] for line in together]
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (alone, together)]
    assert len(losses[0]) == plan.steps
    assert np.allclose(*losses, rtol=2e-3)  # sums are taken in another order
    summary = evaluate_run(run).summary()
    assert answers == [summary] * 3  # every rank has all scores, and they are those of one process
    assert 0 < summary["top1"] <= 1


@pytest.mark.processes
@pytest.mark.soak
def test_soak_kills_of_one_two_and_three_processes(tmp_path: Path) -> None:
    """N (50) kills of all processes at random moments, each time with another number of them: the picks of every
    process are those of the step it went on from, and the run ends as one process's alone."""
    store = write_small_store(tmp_path / "small.zarr", signal=0.3, subjects=(1, 2, 4, 9))
    train(store, tmp_path / "alone", config=plain(*SETTINGS))
    alone = read_metrics(tmp_path / "alone")
    steps = Batches(items=32, batch_size=10, epochs=3, seed=0).steps
    rng = np.random.default_rng(int(os.environ.get("SEED") or 0))
    kills = runs = 0
    while kills < int(os.environ.get("N") or 50):
        run = tmp_path / f"run-{runs}"
        while (start := saved_step(run)) < steps:
            world, more, lines = int(rng.integers(1, 4)), int(rng.integers(1, 4)), len(read_metrics(run))
            children = launch(world, str(store), str(run), "99", *SETTINGS)
            while any(child.poll() is None for child in children) and len(read_metrics(run)) < lines + more:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.05)
            for child in children:
                child.kill()
            ends = [child.wait() for child in children]
            kills += -signal.SIGKILL in ends
            for rank in range(world):
                if Path(f"{run}.picks-{rank}").exists():
                    read = picks_of(run, rank)
                    assert read == [picks for picks in picks_from(start, rank=rank, world=world) if picks][: len(read)]
        train(store, run, config=plain(*SETTINGS))  # the last evaluation may still be due
        together = read_metrics(run)
        assert [line["step"] for line in together] == [line["step"] for line in alone]
        losses = [[line["loss"] for line in lines if "loss" in line] for lines in (alone, together)]
        assert np.allclose(*losses, rtol=2e-3)
        runs += 1
    print(f"{kills} kills, {runs} runs, each with the picks and losses of the undisturbed one")


@pytest.mark.processes
def test_no_process_ends_before_the_step_is_saved(tmp_path: Path) -> None:
    """torchrun ends all processes, also the one that saves, as soon as one has ended."""
    store = write_small_store(tmp_path / "small.zarr", subjects=(1, 2, 4, 9))
    children = launch(2, str(store), str(tmp_path / "run"), *SETTINGS, script=STOPPED)
    assert [child.communicate()[0].strip() for child in children] == ["['checkpoint-00000002.pt']"] * 2


@pytest.mark.processes
def test_an_error_is_reported_by_one_process(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", signal=0.3, subjects=(1, 2, 4, 9))
    config = plain(*SETTINGS)
    for folder in ("run-0", "run-1"):  # of hosts that do not see the same folder
        train(store, tmp_path / folder, config=config)
        (tmp_path / folder / "metrics.jsonl").unlink()
    state = torch.load(checkpoints(tmp_path / "run-1")[-1], weights_only=True)
    state["seed"] = 3
    torch.save(state, checkpoints(tmp_path / "run-1")[-1])
    train(store, tmp_path / "torn", config=config)
    with open(tmp_path / "torn" / "metrics.jsonl", "r+") as file:
        file.seek(len(file.readline()))
        file.write("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    cases = [
        (["--out", str(tmp_path / "full")], "is not empty and is not a training run"),  # known to the first alone
        (["--out", str(tmp_path / "full"), "--seeds", "2"], "thesis.tex"),  # to each, before any training
        (["--out", str(tmp_path / "new"), "--preset", "bogus"], "no such choice"),  # to each by itself
        (
            ["--out", str(tmp_path / "new"), "--protocol", "xset"],
            "--protocol: is not a protocol",
        ),  # to each, by its data
        (["--out", str(tmp_path / "torn")], "metrics.jsonl: line 2 is not a metrics line"),
        (["--out", f"{tmp_path}/run-RANK"], "is not the same for every process of this training: another checkpoint"),
        (["--out", str(tmp_path / "new"), "full"], "metrics.jsonl: the disk is full"),  # amid the training
    ]
    options = ["--device", "cpu", "--quiet", *plain_options(*SETTINGS)]
    commands = [["train", "--from-cache", str(store), *options, *words] for words, _ in cases]
    for command in commands[:-1]:
        command.append("")
    children = launch(2, json.dumps(commands), script=COMMANDS)
    first, second = ([json.loads(line) for line in child.communicate()[0].splitlines()] for child in children)
    assert [child.returncode for child in children] == [0, 0]
    for (_, sentence), (code, printed, lines) in zip(cases, first, strict=True):
        assert (code, printed, len(lines)) == (1, "", 1), lines
        assert sentence in lines[0]
    assert second[:-1] == [[1, "", []]] * 6
    code, _, (lost,) = second[-1]  # its own message, since the other process could not report
    assert code == 1
    assert "process 1 of 2: lost the others" in lost


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"one GPU for all processes \(got cuda:1\); set `device` to cuda"):
        join_world("cuda:1")


def test_too_few_gpus_are_reported_by_one_process_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    for name, value in (("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4"), ("RANK", "4"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    for device in ("auto", "cuda"):
        with pytest.raises(ConfigError, match=r"4 processes, 2 GPUs.*--nproc-per-node 2`, or set `device` to cpu"):
            join_world(device)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit, match="1"):
        join_world("cuda")
    assert waited == [PATIENCE_S]  # torchrun would end the process that reports


def test_devices_are_named_when_they_are_not_there() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="no such device"):
        choose_device("gpu")
    with pytest.raises(ConfigError, match="no such GPU"):
        choose_device("cuda:63")


def test_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**6))
    shares = []
    for processes in ("1", "4"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        shares.append(free_bytes(torch.device("cpu")))
    assert shares == [10**6, 10**6 // 4]


def test_limits_are_read_from_a_process_up_to_the_root(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/slurm/job_7/step_0\n")
    job = tmp_path / "slurm/job_7"
    assert _control_groups(own, tmp_path) == [job / "step_0", job, tmp_path / "slurm", tmp_path]
    own.write_text("9:cpu:/a\n7:memory:/slurm/job_7\n0::/\n")  # version 1
    memory = tmp_path / "memory"
    assert _control_groups(own, tmp_path) == [memory / "slurm/job_7", memory / "slurm", memory]
    assert _control_groups(tmp_path / "nothing", tmp_path) == [tmp_path]
    assert Path("/sys/fs/cgroup") in _control_groups()[-1].parents or _control_groups()[-1] == Path("/sys/fs/cgroup")


def test_a_limit_of_the_first_version_is_seen(tmp_path: Path) -> None:
    for name, text in (
        ("memory.limit_in_bytes", "1000"),
        ("memory.usage_in_bytes", "700"),
        ("memory.stat", "cache 300\ntotal_inactive_file 150"),
    ):
        (tmp_path / name).write_text(text + "\n")
    assert _left_in(tmp_path) == 450
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # how it says that there is none
    assert _left_in(tmp_path) > 1 << 62


def test_a_containers_limit_is_seen(tmp_path: Path) -> None:
    assert _left_in(tmp_path) == 1 << 63  # none
    for name, text in (
        ("memory.current", "700"),
        ("memory.stat", "anon 1\ninactive_file 150"),
        ("memory.max", "max"),
    ):
        (tmp_path / name).write_text(text + "\n")
    assert _left_in(tmp_path) == 1 << 63
    (tmp_path / "memory.max").write_text("1000\n")
    assert _left_in(tmp_path) == 450

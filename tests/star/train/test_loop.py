"""Training learns, can be stopped anywhere, and refuses what does not fit; on small stores made in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from star_stores import change_attributes, one_thread, plain, plain_options, write_small_store

from cli.training import StopOnSignal
from pipeline.errors import ArtifactError, ConfigError, CorruptError, DataError
from pipeline.records import keyed_rng
from pipeline.store.token_store import TokenStore
from star.batch import Batch
from star.build import seeded_model
from star.config.text import TrainConfig
from star.data.dataset import TokenDataset
from star.data.splits import fitted
from star.data.statistics import channel_statistics
from star.distributed.world import World
from star.evaluate.completeness import completeness_of
from star.evaluate.metrics import wilson_interval
from star.evaluate.scores import load_scores
from star.evaluate.scoring import evaluate_run
from star.runs.checkpoint import checkpoints, load_checkpoint
from star.runs.metrics_log import read_metrics
from star.runs.run import open_run
from star.study.seeds import train_seeds
from star.train.optim import make_optimizer
from star.train.plan import plan_training
from star.train.progress import Clock, TrainEvent
from star.train.start import train
from star.train.step import mix, train_step

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

TINY = ["model.width=16", "data.frame_step=1", "eval_every=1", "optim.batch_size=8", "optim.epochs=3", "optim.lr=3e-3"]
TINY += ["data.validation=0.34"]
SUBJECTS = (1, 2, 4, 9)  # of three training subjects one validates
CPU = World(device=torch.device("cpu"))
TESTS = Path(__file__).resolve().parents[2]


def tiny(*settings: str) -> TrainConfig:
    return plain(*TINY, *settings)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("stores") / "small.zarr", views=2, subjects=SUBJECTS)


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(store, out, config=tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4"))
    return out


def test_steps_lower_the_loss_and_eight_clips_can_be_learnt(store: Path) -> None:
    dataset = TokenDataset(store, fraction=0.25, validation=0.34, tokens=("jm",))
    assert len(dataset) == 8
    config = tiny("model.dropout=0")
    model = seeded_model(fitted(config.model, dataset), seed=0)
    model.standardise(gg=None, jm=channel_statistics(dataset)["jm"])
    optimizer, batch = make_optimizer(model, config.optim), dataset.read(range(8))
    losses = [
        train_step(model, optimizer, batch, config=config.optim, clips=8, step=step, seed=0, world=CPU)
        for step in range(40)
    ]
    assert losses[1] < losses[0]
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        assert (model(batch).argmax(1) == batch.labels).all()


def test_a_run_learns_and_reports_it(store: Path, tmp_path: Path) -> None:
    events: list[TrainEvent] = []
    run = train(store, tmp_path / "run", config=tiny("optim.epochs=10"), progress=events.append)
    lines = run.metrics()
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 41))
    *validations, test = [line for line in lines if "top1" in line]
    assert [(line["step"], line["split"]) for line in validations] == [(step, "val") for step in range(4, 41, 4)]
    assert (test["step"], test["split"], lines[-1]) == (40, "test", test)
    assert (validations[-1]["top1"] >= 0.8, test["top1"] >= 0.8) == (True, True)
    for split, line in (("val", validations[-1]), ("test", test)):
        assert evaluate_run(run, split=split).top1 == load_scores(run.path / f"{split}.npz").top1 == line["top1"]
    ends = [(event.split, event.top1) for event in events[-2:]]
    assert ends == [("val", validations[-1]["top1"]), ("test", test["top1"])]
    assert all(0 <= event.wait_share <= 1 and event.clips_per_s > 0 for event in events)
    assert [event.epoch for event in events if event.top1 is None][::4] == list(range(1, 11))
    assert open_run(run.path).config == run.config


def test_a_small_split_gets_more_epochs_up_to_the_steps_asked_for(store: Path, tmp_path: Path) -> None:
    few = tiny("optim.min_steps=6", "eval_every=0")  # 3 epochs of 4 steps are more
    assert train(store, tmp_path / "few", config=few).checkpoint().step == 12
    config = tiny("optim.min_steps=14")
    assert plan_training(store, config=config, device="cpu").steps == 14
    events: list[TrainEvent] = []
    run = train(store, tmp_path / "more", config=config, progress=events.append)
    lines = run.metrics()
    assert [line["step"] for line in lines if line.get("split") == "val"] == [4, 8, 12, 14]
    assert {(event.epoch, event.epochs) for event in events if event.done > 12} == {(4, 4)}
    assert completeness_of(run).finished


def test_the_remaining_time_includes_evaluation_and_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("star.train.progress.time.perf_counter", lambda: now[0])
    clock = Clock(first=0, total=10, steps_per_epoch=10)
    for done, _ in zip((1, 2), clock.waiting(iter("ab")), strict=True):
        now[0] += 3.0
        event = clock.event(done=done, clips=6, loss=0.0, lr=0.0)
        with clock.paused():
            now[0] += 5.0
    assert (event.clips_per_s, event.wait_share, event.eta_s) == (2.0, 0.0, (6 + 5) / 2 * 8)  # one evaluation so far


def test_shuffled_labels_stay_near_chance(store: Path, tmp_path: Path) -> None:
    """Four classes; each seed permutes the labels anew, so the seeds' 96 predictions are nearly independent."""
    config = tiny("optim.epochs=10", "data.shuffled_labels=true")
    scores = train_seeds(store, tmp_path / "runs", config=config, seeds=6)
    low, high = wilson_interval(sum(int(each.right.sum()) for each in scores), sum(len(each.labels) for each in scores))
    assert low < 0.25 < high
    assert high < 0.5  # with its own labels such a run reaches 0.8


class Stop(Exception):
    """Raised by a test inside a training."""


def stop_at(step: int) -> Callable[[TrainEvent], None]:
    def progress(event: TrainEvent) -> None:
        if event.done == step:
            raise Stop

    return progress


def same_run(run: Path, other: Path) -> bool:
    """Metrics equal to the last digit, and so are all weights."""
    a, b = load_checkpoint(run), load_checkpoint(other)
    assert a is not None
    assert b is not None
    weights = all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    averages = all(torch.equal(a.average[name], b.average[name]) for name in a.average)
    names = ("metrics.jsonl", "val.npz", "test.npz")
    left = all((run / name).read_bytes() == (other / name).read_bytes() for name in names)
    return left and weights and averages


@pytest.mark.parametrize("save_every_s", [0.0, 1e9])
def test_a_run_stopped_at_any_step_resumes_to_the_same_bits(
    store: Path, undisturbed: Path, tmp_path: Path, save_every_s: float
) -> None:
    config = tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4")
    state = torch.get_rng_state()
    for step in (1, 4, 7, 11):
        with pytest.raises(Stop):
            train(store, tmp_path / "run", config=config, save_every_s=save_every_s, progress=stop_at(step))
    train(store, tmp_path / "run", config=config, save_every_s=save_every_s)
    assert same_run(tmp_path / "run", undisturbed)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's randomness is the caller's


def test_a_finished_run_is_left_alone(store: Path, undisturbed: Path) -> None:
    config = tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4")

    def files() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in undisturbed.iterdir() if path.name != ".lock"}

    before = files()
    train(store, undisturbed, config=config)
    assert files() == before
    with pytest.raises(ArtifactError, match="holds a run already"):
        train(store, undisturbed, config=config, resume=False)


KILLED = """
import sys
from pathlib import Path
from star_stores import plain
from star.train import train
train(Path(sys.argv[1]), Path(sys.argv[2]), config=plain(*sys.argv[3:]), save_every_s=0)
"""


def killed_while_it_trains(store: Path, run: Path, settings: list[str], rng: np.random.Generator) -> bool:
    """Resume a run in a child process and kill it at a random moment; whether it was still running."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store), str(run), *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
    )
    more, lines = rng.integers(1, 4), len(read_metrics(run))
    while child.poll() is None and len(read_metrics(run)) < lines + more:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.02)
    child.kill()
    return child.wait() == -signal.SIGKILL


def killed_again_and_again(store: Path, undisturbed: Path, folder: Path, times: int) -> None:
    """`times` real kills at random moments, one run after another; every run ends as the undisturbed one."""
    settings = [*TINY, "optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4"]
    rng = np.random.default_rng(int(os.environ.get("SEED") or 0))
    kills = runs = 0
    while kills < times:
        run = folder / f"run-{runs}"
        while kills < times and ((found := load_checkpoint(run)) is None or found.step < 12):
            kills += killed_while_it_trains(store, run, settings, rng)
        train(store, run, config=tiny(*settings))
        assert same_run(run, undisturbed)
        assert not list(run.glob(".*part*"))
        runs += 1


@pytest.mark.processes
def test_real_kills_at_random_moments_leave_a_run_that_goes_on(store: Path, undisturbed: Path, tmp_path: Path) -> None:
    killed_again_and_again(store, undisturbed, tmp_path, 5)


@pytest.mark.processes
@pytest.mark.soak
def test_soak_fifty_kills_at_random_moments(store: Path, undisturbed: Path, tmp_path: Path) -> None:
    killed_again_and_again(store, undisturbed, tmp_path, int(os.environ.get("N") or 50))


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_with_its_step_saved(store: Path, tmp_path: Path, number: int) -> None:
    settings = [*TINY, "optim.epochs=20000", "eval_every=10000"]
    command = [sys.executable, "-m", "cli.main", "train", "--from-cache", str(store), "--out", str(tmp_path / "run")]
    command += ["--device", "cpu", *plain_options(*settings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while len(read_metrics(tmp_path / "run")) < 5 and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(number)
    out, messages = child.communicate(timeout=600)
    assert (child.returncode, out) == (130, "")
    assert "stopping after this step" in messages
    assert "the same command resumes" in messages
    stopped, lines = load_checkpoint(tmp_path / "run"), read_metrics(tmp_path / "run")
    assert stopped is not None  # the next one by the clock was half a minute away
    assert 5 <= stopped.step == len(lines) < 80_000


def test_a_second_sigterm_does_not_cut_off_the_save() -> None:
    """torchrun and the batch system may both send one; a second Ctrl-C is the user's."""
    with StopOnSignal() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_stop_between_steps_saves_the_step(store: Path, undisturbed: Path, tmp_path: Path) -> None:
    config, run = tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4"), tmp_path / "run"
    answers = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        train(store, run, config=config, save_every_s=1e9, stop=nullcontext(lambda: next(answers)))
    stopped = load_checkpoint(run)
    assert stopped is not None
    assert stopped.step == 3
    train(store, run, config=config, stop=nullcontext(lambda: False))
    assert same_run(run, undisturbed)


@pytest.mark.parametrize("end", ["fails", "is stopped"])
def test_a_missing_evaluation_is_made_by_the_next_call(
    store: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    config, run = tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4"), tmp_path / "run"

    def failing(*given: object, **how: object) -> None:
        raise DataError("clip 7", "has tokens that are not finite")

    for step in (4, 8, 12):  # each the last of its epoch
        if end == "fails":
            monkeypatch.setattr("star.train.loop.score", failing)
            with pytest.raises(DataError, match="clip 7"):
                train(store, run, config=config, save_every_s=1e9)
            monkeypatch.undo()
        elif step < 12:
            answers = iter([False, False, False, True])
            with pytest.raises(KeyboardInterrupt):
                train(store, run, config=config, save_every_s=1e9, stop=nullcontext(lambda it=answers: next(it)))
        kept = load_checkpoint(run)
        assert kept is not None
        assert kept.step == step or end == "is stopped"
        assert [line["step"] for line in read_metrics(run) if "top1" in line] == list(range(4, step, 4))
        if step < 12:
            with pytest.raises(Stop):  # this call begins with the evaluation that is due
                train(store, run, config=config, save_every_s=1e9, progress=stop_at(step + 1))
            assert read_metrics(run)[-2]["top1"] >= 0
    train(store, run, config=config)
    assert same_run(run, undisturbed)


def test_a_finished_run_reads_no_tokens(store: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*given: object) -> None:
        raise AssertionError("tokens were read")

    monkeypatch.setattr(TokenDataset, "_fetch", read)
    train(store, undisturbed, config=tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4"))
    monkeypatch.undo()
    monkeypatch.setattr(TokenDataset, "hold", read)  # a single pass needs no memory of a whole split
    assert evaluate_run(undisturbed).top1 == read_metrics(undisturbed)[-1]["top1"]


def test_micro_batches_do_not_change_the_gradient(store: Path) -> None:
    dataset = TokenDataset(store, tokens=("jm",))
    batch, grads = dataset.read(range(8)), []
    for size in (0, 3):
        config = tiny("model.dropout=0", "optim.kind=sgd", f"optim.micro_batch={size}")
        model = seeded_model(fitted(config.model, dataset), seed=0)
        optimizer = make_optimizer(model, config.optim)
        train_step(model, optimizer, batch, config=config.optim, clips=8, step=0, seed=0, world=CPU)
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(grads[0], grads[1], atol=1e-6)
    assert grads[0].abs().max() > 1e-3


def test_mixup_mixes_tokens_and_labels_alike() -> None:
    gg = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    jm = torch.tensor([[2.0, 2.0], [4.0, 0.0]]).reshape(2, 1, 2, 1)
    mask = torch.tensor([[True, True], [True, False]]).reshape(2, 1, 2)
    batch = Batch(gg, jm, mask, labels=torch.tensor([0, 2]), clips=torch.tensor([4, 5]), xyz=jm)
    mixed, targets = mix(batch, share=0.75, classes=3)
    assert mixed.gg.flatten().tolist() == [1.5, 2.5]
    assert mixed.jm.flatten().tolist() == [2.5, 2.0, 3.5, 2.0]  # the joint that one clip lacks stays the other's
    assert mixed.joint_mask.all()
    assert (mixed.clips.tolist(), mixed.xyz) == ([4, 5], None)
    assert targets.tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75]]


def one_step(store: Path, batch: Batch, *settings: str) -> tuple[float, float, torch.Tensor]:
    """Loss, norm of the gradient that moved the weights, and logits before, of one step of one model."""
    dataset = TokenDataset(store, tokens=("jm",))
    config = tiny("model.dropout=0", "optim.kind=sgd", *settings)
    model = seeded_model(fitted(config.model, dataset), seed=0)
    logits: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, given, found: logits.append(found.detach()))
    clips = len(batch.labels)
    loss = train_step(
        model, make_optimizer(model, config.optim), batch, config=config.optim, clips=clips, step=0, seed=0, world=CPU
    )
    grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return loss, float(grads.norm()), torch.cat(logits)


def test_each_option_of_a_step_does_what_it_says(store: Path) -> None:
    batch = TokenDataset(store, tokens=("jm",)).read(range(8))
    hard, norm, logits = one_step(store, batch, "optim.clip_norm=0")
    logs = logits.log_softmax(dim=1)
    right = logs[torch.arange(8), batch.labels]
    assert hard == pytest.approx(-right.mean().item(), rel=1e-5)
    smoothed, *_ = one_step(store, batch, "optim.label_smoothing=0.2")
    assert smoothed == pytest.approx(-(0.8 * right + 0.2 * logs.mean(dim=1)).mean().item(), rel=1e-5)
    assert abs(smoothed - hard) > 1e-3
    assert one_step(store, batch, f"optim.clip_norm={norm / 4}")[1] == pytest.approx(norm / 4, rel=1e-3)
    *_, rounded = one_step(store, batch, "optim.precision=bf16")
    assert (logits.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    mixed, _, others = one_step(store, batch, "optim.mixup=1")
    rng = keyed_rng(0, "step", 0, 0)
    rng.integers(2**62)  # of dropout
    _, targets = mix(batch, share=float(rng.beta(1, 1)), classes=4)
    assert mixed == pytest.approx(-(others.log_softmax(dim=1) * targets).sum(dim=1).mean().item(), rel=1e-4)
    assert not torch.allclose(others, logits, atol=1e-3)


def test_other_settings_and_other_stores_are_refused(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(store, run, config=tiny(), save_every_s=0, progress=stop_at(2))
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.003, now 0\.1"):
        train(store, run, config=tiny("optim.lr=0.1"))
    for views in (1, 2):  # with as many as the run chose from, or fewer
        other = write_small_store(tmp_path / f"other-{views}.zarr", views=views, seed=1)
        with pytest.raises(ArtifactError, match=r"another store: arrays: \w+, now"):
            train(other, run, config=tiny())
        with pytest.raises(ArtifactError, match="another store"):
            evaluate_run(run, store=other)
    with pytest.raises(ArtifactError, match="not a training run"):
        evaluate_run(store)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(ArtifactError, match="is not empty"):
        train(store, tmp_path / "full", config=tiny())
    train(store, run, config=tiny())  # and it still goes on


def test_a_flipped_bit_of_a_checkpoint_is_found(store: Path, tmp_path: Path) -> None:
    """torch loads it without an error."""
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(store, run, config=tiny(), save_every_s=0, progress=stop_at(3))
    newest = checkpoints(run)[-1]
    data = bytearray(newest.read_bytes())
    kept = load_checkpoint(run)
    assert kept is not None
    name, weights = max(kept.model.items(), key=lambda item: item[1].numel())
    at = bytes(data).index(weights.numpy().tobytes()[:16])
    data[at + 3] ^= 64
    newest.write_bytes(data)
    assert not torch.equal(torch.load(newest, weights_only=True)["model"][name], weights)
    with pytest.raises(CorruptError, match=r"does not match its checksums.*the checkpoint before it"):
        load_checkpoint(run)


def test_an_unreadable_checkpoint_is_not_called_damaged(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(store, run, config=tiny(), save_every_s=0, progress=stop_at(2))

    def refused(path: Path, **_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipeline.artifacts.archives.open_regular", refused)
    with pytest.raises(ArtifactError, match=r"cannot be read .Permission denied.; make it readable"):
        load_checkpoint(run)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    store: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run, config = tmp_path / "run", tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4")
    with pytest.raises(Stop):
        train(store, run, config=config, save_every_s=0, progress=stop_at(6))
    before, last = checkpoints(run)
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(CorruptError, match=last.name):
        train(store, run, config=config)
    last.unlink()
    assert before.exists()
    train(store, run, config=config)
    assert same_run(run, undisturbed)


def test_bad_data_is_one_sentence(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = write_small_store(tmp_path / "nan.zarr", nan_clip=2)
    name = TokenStore.open(bad).clip_ids[2]
    with pytest.raises(DataError, match=name):
        train(bad, tmp_path / "run1", config=tiny())
    with monkeypatch.context() as patch:  # found by the loss where nothing is in memory and no statistics are taken
        patch.setattr("star.data.dataset.free_bytes", lambda device: 0)
        with pytest.raises(DataError, match=name):
            train(bad, tmp_path / "run2", config=tiny("data.standardise=false"))
    assert (tmp_path / "run2" / "metrics.jsonl").exists()
    bad_test = write_small_store(tmp_path / "nan-test.zarr", nan_clip=-1)
    with pytest.raises(DataError, match=rf"{TokenStore.open(bad_test).clip_ids[-1]}.*extract-tokens` into another"):
        train(bad_test, tmp_path / "run6", config=tiny())
    assert read_metrics(tmp_path / "run6")[-1]["step"] == 6  # no test token was read before the last step
    lonely = write_small_store(tmp_path / "lonely.zarr", subjects=(1, 2))
    with pytest.raises(DataError, match="test split of xsub has no clip"):
        train(lonely, tmp_path / "run3", config=tiny())
    with pytest.raises(DataError, match="not a finite number"):
        train(store, tmp_path / "run4", config=tiny("optim.lr=1e30", "optim.kind=sgd", "optim.clip_norm=0"))
    with pytest.raises(ConfigError, match=r"GPU|device"):
        train(store, tmp_path / "run5", config=tiny(), device="tpu9")


def test_a_gradient_that_is_not_finite_moves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = TokenDataset(store, tokens=("jm",))
    config = tiny()
    model = seeded_model(fitted(config.model, dataset), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda *given: torch.tensor(float("inf")))
    with pytest.raises(DataError, match=r"step 3: the loss or its gradient .* gradient norm inf\)"):
        train_step(
            model, make_optimizer(model, config.optim), dataset.read(range(8)),
            config=config.optim, clips=8, step=2, seed=0, world=CPU,
        )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_class_without_training_clips_is_refused_unless_allowed(tmp_path: Path) -> None:
    whole = write_small_store(tmp_path / "store.zarr")
    change_attributes(whole, lambda attributes: attributes["class_names"].append("never seen"))
    with pytest.raises(DataError, match="none of never seen"):
        train(whole, tmp_path / "run", config=tiny())
    run = train(whole, tmp_path / "run", config=tiny("data.allow_missing_classes=true", "optim.epochs=1"))
    assert evaluate_run(run).probabilities.shape == (16, 5)


def test_a_full_disk_at_a_checkpoint_is_one_sentence(
    store: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = tmp_path / "run", tiny("optim.ema=0.9", "model.dropout=0.2", "optim.mixup=0.4")
    real, calls = os.fsync, []

    def full_after_five(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(name)
        if sum("checkpoint" in call for call in calls) > 5 and "checkpoint" in name:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full_after_five)
    with pytest.raises(ArtifactError, match="the disk is full"):
        train(store, run, config=config, save_every_s=0)
    monkeypatch.undo()
    kept = load_checkpoint(run)
    assert kept is not None
    assert kept.step == 5
    assert not list(run.glob(".*part*"))
    train(store, run, config=config)
    assert same_run(run, undisturbed)


def test_options_that_change_training_run(store: Path, tmp_path: Path) -> None:
    for i, settings in enumerate(
        [
            ["optim.precision=bf16", "model.tokens=both", "data.frame_step=2"],
            ["optim.label_smoothing=0.1", "model.tokens=gg", "model.gg_positions=true", "data.views=all"],
            ["model.uniform_attention=true", "data.fraction=0.5", "data.standardise=false", "eval_every=0"],
        ]
    ):
        run = train(store, tmp_path / str(i), config=tiny("optim.epochs=2", *settings))
        lines = run.metrics()
        assert np.isfinite([line["loss"] for line in lines if "loss" in line]).all()
        assert [line["split"] for line in lines if "top1" in line] == ["val"] * (1 if i == 2 else 2) + ["test"]


def test_tensorboard_shows_the_metrics(store: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(store, tmp_path / "run", config=tiny("optim.epochs=1"), tensorboard=True)
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    lines = run.metrics()
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert {event.step: event.value for event in board.Scalars("train/loss")} == pytest.approx(losses)
    assert board.Scalars("test/top1")[-1].value == pytest.approx(lines[-1]["top1"])
    assert board.Scalars("val/top1")[-1].value == pytest.approx(lines[-2]["top1"])


def test_without_tensorboard_the_run_names_what_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where the extra is missing
    with pytest.raises(ConfigError, match=r"tensorboard: .* not installed; run `pip install 'star-tokens\[tensorboard"):
        train(store, tmp_path / "run", config=tiny("optim.epochs=1"), tensorboard=True)
    train(store, tmp_path / "run", config=tiny("optim.epochs=1"))


def test_a_deterministic_training_allows_no_other_kernels_and_restores_the_flags(store: Path, tmp_path: Path) -> None:
    """On a CPU only the flags can be tested: deterministic algorithms are on in every step."""
    asked = []

    def progress(event: TrainEvent) -> None:
        asked.append(torch.are_deterministic_algorithms_enabled())

    settings = ["optim.deterministic=true", "model.tokens=both", "optim.epochs=1"]
    train(store, tmp_path / "run", config=tiny(*settings), progress=progress)
    assert asked == [True] * len(asked) != []
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory

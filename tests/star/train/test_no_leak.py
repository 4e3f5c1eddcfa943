"""No test clip is read before the last step, and nothing of the test or validation side moves a weight."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from star_stores import JOINTS, one_thread, plain, record, write_small_store

from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays
from star.config.text import TrainConfig
from star.data.splits import open_splits
from star.data.statistics import channel_statistics
from star.runs.checkpoint import load_checkpoint
from star.runs.metrics_log import read_metrics
from star.runs.run import Run
from star.train.progress import TrainEvent
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

TRAIN, VALIDATION, TEST = (2, 4), 1, 9  # subjects


def config(*settings: str) -> TrainConfig:
    tiny = ["model.width=16", "data.frame_step=1", "eval_every=1", "optim.epochs=3", "optim.mixup=0.4", "optim.ema=0.9"]
    return plain(*tiny, "data.validation=0.34", *settings)


class Spy:
    """Which rows of the store are read, and in which views, before the last step is done and after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, last: int) -> None:
        self.before: Counter[tuple[int, int]] = Counter()
        self.after: Counter[tuple[int, int]] = Counter()
        self.trained = 0
        self.last = last
        read = TokenStore.read

        def spied(store: TokenStore, indices: np.ndarray, view: np.ndarray = 0, **how: object) -> object:  # type: ignore[assignment]
            rows = np.atleast_1d(indices)
            views = np.broadcast_to(view, rows.shape)
            seen = self.before if self.trained < self.last else self.after
            seen.update(zip(rows.tolist(), views.tolist(), strict=True))
            return read(store, indices, view, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(TokenStore, "read", spied)

    def __call__(self, event: TrainEvent) -> None:
        self.trained = event.done


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("validation", [0.34, 0])
def test_no_test_clip_is_read_before_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool, validation: float
) -> None:
    store = write_small_store(tmp_path / "s.zarr", subjects=(*TRAIN, VALIDATION, TEST), views=2)
    asked = config(f"data.validation={validation}")
    splits = open_splits(store, asked, in_memory=False)
    spy = Spy(monkeypatch, last=3 * -(-len(splits.train) // 8))
    if not in_memory:
        monkeypatch.setattr("star.data.dataset.free_bytes", lambda device: 0)
    trained: Counter[int] = Counter()
    monkeypatch.setattr("star.train.loop.train_step", counting(trained))
    run = train(store, tmp_path / "run", config=asked, progress=spy, workers=2)
    sides = {side.split: set(side.rows.tolist()) for side in splits.all}
    assert {row for row, _ in spy.before} == set().union(*sides.values()) - sides["test"]
    assert {row for row, _ in spy.after} >= sides["test"]
    looks = {count for (row, _), count in spy.after.items() if row in sides["test"]}
    assert looks == {1}  # once, in each view
    assert len([row for row, _ in spy.after if row in sides["test"]]) == 2 * 16
    assert trained == dict.fromkeys(sides["train"], 3)  # each in each epoch, and no other
    assert [line["step"] for line in run.metrics() if line.get("split") == "test"] == [spy.last]


def counting(trained: Counter[int]) -> object:
    from star.train.step import train_step

    def counted(model: object, optimizer: object, batch: object, **how: object) -> float:
        trained.update(batch.clips.tolist())  # type: ignore[attr-defined]
        return train_step(model, optimizer, batch, **how)  # type: ignore[arg-type]

    return counted


def test_a_run_to_choose_by_reads_no_test_clip_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_small_store(tmp_path / "s.zarr", subjects=(*TRAIN, VALIDATION, TEST))
    asked = config("score_test=false")
    spy = Spy(monkeypatch, last=10**9)
    run = train(store, tmp_path / "run", config=asked, progress=spy)
    test = set(open_splits(store, asked, in_memory=False).test.rows.tolist())
    assert not {row for row, _ in spy.before} & test
    assert (run.path / "val.npz").exists()
    assert not (run.path / "test.npz").exists()
    assert {line["split"] for line in run.metrics() if "top1" in line} == {"val"}


def store_with_other(path: Path, subject: int | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in which this subject has other tokens and other labels under the same names; nothing else differs."""
    subjects = (*TRAIN, VALIDATION, TEST)
    records = sorted(
        (record(s, c, r) for s in subjects for c in range(4) for r in (1, 2, 3, 4)), key=lambda r: r.clip_id
    )
    rng = np.random.default_rng(0)
    jm, gg = rng.normal(size=(64, 1, 4, JOINTS, 6)), rng.normal(size=(64, 1, 4, 4, 6))
    for i, row in enumerate(records):
        jm[i, :, :2, :, row.label] += 3
    other = np.asarray([each.subject == subject for each in records])
    jm[other] = np.random.default_rng(1).normal(size=jm[other].shape, loc=7, scale=5)
    records = [replace(each, label=(each.label + 1) % 4) if each.subject == subject else each for each in records]
    monkeypatch.setattr("pipeline.store.write.sha256", lambda *data: "0" * 64)  # made from the same, as far as it says
    shutil.rmtree(path, ignore_errors=True)
    write_arrays(
        path, gg=gg.astype(np.float16), jm=jm.astype(np.float16), joint_mask=np.ones((64, 1, 4, JOINTS), bool),
        records=records, class_names=list("abcd"), dataset="synthetic",
    )  # fmt: skip
    return path


def trained_on(tmp_path: Path, subject: int | None, monkeypatch: pytest.MonkeyPatch) -> Run:
    store = store_with_other(tmp_path / "s.zarr", subject, monkeypatch)
    return train(store, tmp_path / f"other-{subject}", config=config())


def test_other_test_clips_change_nothing_but_the_test_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = (trained_on(tmp_path, subject, monkeypatch) for subject in (None, TEST))
    *lines, test = plain.metrics()
    *other_lines, other_test = other.metrics()
    assert (test["split"], other_test["split"]) == ("test", "test")
    assert test != other_test  # the change is seen where it should be
    assert [line for line in lines if "top1" in line] != []
    assert lines == other_lines
    names = sorted(path.name for path in plain.path.glob("checkpoint-*.pt"))
    assert len(names) == 2
    for name in (*names, "val.npz"):
        assert (plain.path / name).read_bytes() == (other.path / name).read_bytes()
    assert (plain.path / "test.npz").read_bytes() != (other.path / "test.npz").read_bytes()


def test_other_validation_clips_change_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = (trained_on(tmp_path, subject, monkeypatch) for subject in (None, VALIDATION))
    scored = [[line["top1"] for line in run.metrics() if line.get("split") == "val"] for run in (plain, other)]
    assert scored[0] != scored[1]
    left = [[line for line in run.metrics() if line.get("split") != "val"] for run in (plain, other)]
    assert left[0] == left[1]  # the losses and the test line
    a, b = (load_checkpoint(run.path) for run in (plain, other))
    assert a is not None
    assert b is not None
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    assert all(torch.equal(a.average[name], b.average[name]) for name in a.average)


def test_statistics_are_those_of_the_clips_that_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a store whose validation clips lie far off."""
    store = TokenStore.open(store_with_other(tmp_path / "s.zarr", VALIDATION, monkeypatch))
    splits = open_splits(store, config())
    mean, spread = channel_statistics(splits.train)["jm"]
    rows = [row for row, each in enumerate(store.records()) if each.subject in TRAIN]
    tokens = store.read(rows).jm.astype(np.float64).reshape(-1, 6)
    assert np.allclose(mean, tokens.mean(axis=0), atol=1e-9)
    assert np.allclose(spread, tokens.std(axis=0), atol=1e-9)
    assert splits.val is not None
    with pytest.raises(AssertionError, match="training split alone"):
        channel_statistics(splits.val)


def test_a_run_stopped_before_its_test_line_looks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the validation line of the last step: the next call makes up for the test line alone."""
    store = write_small_store(tmp_path / "s.zarr", subjects=(*TRAIN, VALIDATION, TEST))

    def stop(event: TrainEvent) -> None:
        if (event.done, event.split) == (12, "val"):
            raise KeyboardInterrupt

    whole = train(store, tmp_path / "whole", config=config())
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "run", config=config(), progress=stop)
    assert [line["split"] for line in read_metrics(tmp_path / "run") if "top1" in line] == ["val"] * 3
    scored: list[str] = []
    from star.train.loop import score

    def counted(model: object, dataset: object, **how: object) -> object:
        scored.append(dataset.split)  # type: ignore[attr-defined]
        return score(model, dataset, **how)  # type: ignore[arg-type]

    monkeypatch.setattr("star.train.loop.score", counted)
    for _ in range(2):
        train(store, tmp_path / "run", config=config())
    assert scored == ["test"]
    for name in ("metrics.jsonl", "val.npz", "test.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (whole.path / name).read_bytes()

"""A disk that fills up while a run writes its metrics: one sentence, and the run resumes."""

from __future__ import annotations

import contextlib
import errno
import os
from io import FileIO
from pathlib import Path

import pytest
from command_line import one_sentence, star
from star_stores import one_thread, plain, plain_options, write_small_store

from pipeline.artifacts.files import write_unbuffered
from pipeline.artifacts.lock import sole_writer
from pipeline.errors import ArtifactError
from star.config.text import TrainConfig
from star.runs.metrics_log import read_metrics
from star.train.progress import TrainEvent
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SETTINGS = ["model.width=16", "data.frame_step=1", "eval_every=0", "optim.epochs=25", "optim.batch_size=8"]
TOLD = r"the disk is full; free some space and run the same command again: .*the last checkpoint, are kept"


def config() -> TrainConfig:
    return plain(*SETTINGS)


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_disk_that_fills_up_under_the_metrics(tmp_path: Path, small_disk: Path, tensorboard: bool) -> None:
    store = write_small_store(tmp_path / "small.zarr", subjects=(1, 2, 4, 9))
    whole = train(store, tmp_path / "whole", config=config())

    def fill(event: TrainEvent) -> None:
        if event.done == 3:
            with open(small_disk / "other", "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    write_unbuffered(file, bytes(4096))

    run = small_disk / "run"
    with pytest.raises(ArtifactError, match=TOLD) as told:
        train(store, run, config=config(), save_every_s=1e9, progress=fill, tensorboard=tensorboard)
    named = ("metrics.jsonl", "tensorboard")[: 1 + tensorboard]  # whichever needs its next page first
    assert str(told.value).startswith(tuple(f"{run}/{name}" for name in named))
    assert 3 <= len(read_metrics(run)) < 100
    (small_disk / "other").unlink()
    train(store, run, config=config(), tensorboard=tensorboard)
    assert (run / "metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()


def test_a_disk_without_room_for_a_lock_is_told_by_its_name(small_disk: Path) -> None:
    (small_disk / "out").mkdir()
    (small_disk / "out" / ".lock").touch()
    with open(small_disk / "other", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            write_unbuffered(file, bytes(4096))
    with pytest.raises(ArtifactError, match=rf"{small_disk}/out: the disk is full"), sole_writer(small_disk / "out"):
        pass


def test_the_command_tells_it_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_small_store(tmp_path / "small.zarr", subjects=(1, 2, 4, 9))

    def full(file: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("star.runs.metrics_log.write_unbuffered", full)
    command = ["train", "--from-cache", store, "--out", tmp_path / "run", "--quiet", "--device", "cpu"]
    one_sentence(star(*command, *plain_options(*SETTINGS)), f"{tmp_path}/run/metrics.jsonl: the disk is full")


def test_what_is_taken_in_parts_is_given_in_parts(tmp_path: Path) -> None:
    taken = []

    class Slow(FileIO):
        def write(self, data: memoryview) -> int:
            taken.append(bytes(data)[:3])
            return len(taken[-1])

    with Slow(tmp_path / "file", "w") as file:
        write_unbuffered(file, b"abcdefgh")
    assert taken == [b"abc", b"def", b"gh"]

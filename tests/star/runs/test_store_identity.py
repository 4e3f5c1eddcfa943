"""A run keeps to the views and clips of its store that it began with, and to its store wherever that lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import done, one_sentence, star
from star_stores import one_thread, plain, plain_options, write_small_store

from pipeline.errors import ArtifactError, ConfigError
from pipeline.store.token_store import TokenStore
from star.config.options import OF_THE_STORE
from star.config.presets import preset
from star.config.text import TrainConfig
from star.evaluate.completeness import completeness_of
from star.evaluate.scoring import evaluate_run, trained_clips
from star.runs.run import Run, open_run
from star.study.ablate import ablate
from star.train.progress import TrainEvent
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

DONE, FAILED, PENDING = 1, 3, 0


def config(*settings: str) -> TrainConfig:
    tiny = ["model.width=16", "data.frame_step=1", "eval_every=1", "optim.epochs=2", "optim.batch_size=8"]
    tiny += ["data.validation=0.34"]  # subject 1; subjects 2 and 4 train
    return plain(*tiny, *settings)


class Shown(TokenStore):
    """A store at an earlier time: the test sets its status (N, K)."""

    shown: np.ndarray

    @property
    def status(self) -> np.ndarray:
        return self.shown


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subjects = (1, 2, 4, 9)
    return write_small_store(tmp_path_factory.mktemp("stores") / "small.zarr", views=3, signal=0.3, subjects=subjects)


def at_a_time(path: Path, *, views: int = 3, failed: tuple[int, ...] = ()) -> TokenStore:
    """The store when it had so many views and these rows had failed."""
    store = Shown.open(path)
    assert isinstance(store, Shown)
    store.shown = np.full((64, 3), DONE, np.uint8)
    store.shown[:, views:] = PENDING
    store.shown[list(failed)] = FAILED
    return store


class Stop(Exception):
    """Raised by a test inside a training."""


def stop_at_three(event: TrainEvent) -> None:
    if event.done == 3:
        raise Stop


@pytest.mark.parametrize("views", ["all", "random"])
def test_views_added_to_a_store_do_not_change_a_run(path: Path, tmp_path: Path, views: str) -> None:
    asked = config(f"data.views={views}")
    train(at_a_time(path, views=2), tmp_path / "undisturbed", config=asked)
    with pytest.raises(Stop):
        train(at_a_time(path, views=2), tmp_path / "run", config=asked, save_every_s=0, progress=stop_at_three)
    run = train(at_a_time(path), tmp_path / "run", config=asked)
    assert run.store["views"] == {"train": [0, 1], "val": [0, 1], "test": [0, 1]}
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("undisturbed", "run")]
    assert metrics[0] == metrics[1]
    lines = train(at_a_time(path), tmp_path / "run", config=asked).metrics()  # finished, and so left alone
    assert len([line for line in lines if "loss" in line]) == 2 * {"all": 8, "random": 4}[views]
    early = evaluate_run(run, store=at_a_time(path, views=2))
    assert np.array_equal(evaluate_run(run, store=at_a_time(path)).probabilities, early.probabilities)
    assert early.top1 == lines[-1]["top1"]
    new = train(at_a_time(path), tmp_path / "new", config=asked)
    assert new.store["views"]["train"] == [0, 1, 2]
    with pytest.raises(ArtifactError, match=r"lacks views .*finished views \[0, 1\].*\[0, 1, 2\]"):
        train(at_a_time(path, views=2), tmp_path / "new", config=asked)


def test_a_run_stopped_before_its_first_step_has_no_fixed_views(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("star.train.start.Training", no_room)
        with pytest.raises(ConfigError, match="no room"):
            train(path, tmp_path / "run", config=config("data.views=0"))
    assert open_run(tmp_path / "run").store["views"]["train"] == [0]
    run = train(path, tmp_path / "run", config=config("data.views=random"))
    assert run.store["views"]["train"] == [0, 1, 2]


def no_room(*given: object, **how: object) -> None:
    raise ConfigError("optim.batch_size", "there is no room")


def test_a_study_uses_the_views_of_its_first_run(path: Path, tmp_path: Path) -> None:
    asked = {"study": "attention", "config": config("data.views=random"), "seeds": 1}

    def stop_in_the_second(name: str, done: int, total: int, event: TrainEvent) -> None:
        if name.startswith("uniform"):
            raise Stop

    with pytest.raises(Stop):
        ablate(at_a_time(path, views=2), tmp_path / "out", **asked, progress=stop_in_the_second)
    shutil.rmtree(tmp_path / "out/attention/uniform/seed-0")
    ablate(at_a_time(path), tmp_path / "out", **asked)
    runs = [open_run(tmp_path / "out/attention" / name / "seed-0") for name in ("softmax", "uniform")]
    assert [run.store["views"] for run in runs] == [{"train": [0, 1], "val": [0, 1], "test": [0, 1]}] * 2


def test_a_finished_run_stays_finished(path: Path, tmp_path: Path) -> None:
    """`star retry` may have finished more clips of its training split."""
    run = train(at_a_time(path, failed=(0,)), tmp_path / "run", config=config("data.views=all"))
    for store in (at_a_time(path, failed=(0,)), at_a_time(path)):
        assert completeness_of(run, store=store).finished


@pytest.mark.parametrize(("row", "split"), [(4, "train"), (0, "val"), (-1, "test")])
def test_clips_added_to_a_split_are_refused(path: Path, tmp_path: Path, row: int, split: str) -> None:
    run = train(at_a_time(path, failed=(row,)), tmp_path / "run", config=config())
    assert run.store["clips"][split]["count"] == {"train": 31, "val": 15, "test": 15}[split]
    sentence = rf"the {split} split has other clips .* into another folder"
    with pytest.raises(ArtifactError, match=sentence):
        train(at_a_time(path), tmp_path / "run", config=config())
    if split != "train":
        with pytest.raises(ArtifactError, match=sentence):
            evaluate_run(run, split=split, store=at_a_time(path))
    else:
        assert len(evaluate_run(run, store=at_a_time(path)).labels) == 16
        assert len(trained_clips(run, store=at_a_time(path, failed=(row,)))) == 31
        with pytest.raises(ArtifactError, match=sentence):
            trained_clips(run, store=at_a_time(path))


def test_a_run_of_an_older_format_is_refused(path: Path, tmp_path: Path) -> None:
    run: Run = train(path, tmp_path / "run", config=config())
    about = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**about, "format": "star-run/4"}))
    with pytest.raises(ArtifactError, match=r"another version .*star-run/4.*train it again"):
        open_run(run.path)


def test_a_store_that_has_moved_is_found_again(path: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.zarr", tmp_path / "new.zarr"
    shutil.copytree(path, old)
    with pytest.raises(Stop):
        train(old, tmp_path / "run", config=config(), save_every_s=0, progress=stop_at_three)
    old.rename(new)
    one_sentence(star("evaluate", tmp_path / "run"), str(old), "does not exist", "--store")
    one_sentence(star("report", tmp_path / "run"), str(old), "does not exist", "--store")
    assert star("evaluate", tmp_path / "run", "--store", new).exit_code == 0
    train(new, tmp_path / "run", config=config())
    assert open_run(tmp_path / "run").store["url"] == str(new)
    top1 = json.loads(done("evaluate", tmp_path / "run", "--json"))["top1"]
    assert top1 == open_run(tmp_path / "run").metrics()[-1]["top1"]
    other = write_small_store(tmp_path / "other.zarr", views=3, seed=1)
    refused = star("evaluate", tmp_path / "run", "--store", other)
    one_sentence(refused, "another store", "give the store it was trained on")
    assert "--out" not in refused.stderr


def test_no_protocol_is_the_stores_first(path: Path, tmp_path: Path) -> None:
    run = train(path, tmp_path / "run", config=config())
    assert open_run(run.path).config.data.protocol == run.config.data.protocol == "xsub"
    before = (run.path / "metrics.jsonl").stat().st_mtime_ns
    assert train(path, run.path, config=config("data.protocol=xsub")).config == run.config
    assert train(path, run.path, config=config("data.protocol=")).config == run.config
    assert (run.path / "metrics.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match=r"data\.protocol: xsub, now xview"):
        train(path, run.path, config=config("data.protocol=xview"))


def test_config_json_has_what_the_store_decides(path: Path, tmp_path: Path) -> None:
    run = train(path, tmp_path / "run", config=config("data.frame_step=2"))
    model = json.loads((run.path / "config.json").read_text())["config"]["model"]
    assert {name: model[name] for name in OF_THE_STORE} == {
        "frames": 2, "cells": 4, "gg_channels": 6, "joints": 25, "jm_channels": 6, "persons": 2, "classes": 4,
    }  # fmt: skip
    assert vars(open_run(run.path).config.model) == run.checkpoint().model_config
    train(path, run.path, config=config("data.frame_step=2"))  # the same settings still
    command = ("train", "--from-cache", path, "--device", "cpu", "--quiet", "--json")
    again = json.loads(done(*command, "--out", tmp_path / "again", "--config", run.path / "config.json"))
    assert again["top1"] == run.metrics()[-1]["top1"]
    mine = tmp_path / "mine.json"
    mine.write_text('{"optim": {"epochs": 1, "min_steps": 0}, "data": {"frame_step": 1}}')
    done(*command, "--out", tmp_path / "mine", "--preset", "smoke", "--config", mine)
    found = open_run(tmp_path / "mine").config
    assert (found.preset, found.optim.epochs) == ("smoke", 1)
    assert found.optim.lr == preset("smoke").optim.lr != preset("paper").optim.lr
    one_sentence(star(*command, "--out", tmp_path / "no", "--preset", "bogus", "--config", mine), "bogus", "smoke")


def test_a_store_made_again_with_other_tokens_is_told(tmp_path: Path) -> None:
    """The same names, labels, options and fingerprint; other content."""
    subjects = (1, 2, 4, 9)
    write_small_store(tmp_path / "s", seed=0, subjects=subjects)
    run = train(tmp_path / "s", tmp_path / "run", config=config("optim.epochs=1"))
    assert run.store["content_digest"] == TokenStore.open(tmp_path / "s").content_digest()
    for path in (tmp_path / "run").glob("checkpoint-*.pt"):
        shutil.copy(path, tmp_path / path.name)
    fingerprint = run.store["fingerprint"]
    shutil.rmtree(tmp_path / "s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.store.write.fingerprint_of", lambda _: fingerprint)
        patch.setattr("pipeline.store.check.fingerprint_of", lambda _: fingerprint)
        write_small_store(tmp_path / "s", seed=1, subjects=subjects)
    with pytest.raises(
        ArtifactError, match=r"clips of the train split have other tokens in .* than when the run began"
    ):
        train(tmp_path / "s", tmp_path / "run", config=config("optim.epochs=1"))
    assert completeness_of(run).other_tokens
    assert completeness_of(run, split="val").other_tokens
    shown = star("evaluate", run.path, "--device", "cpu", "--quiet")
    assert shown.exit_code == 0
    assert f"the clips have other tokens now than when {run.path} was trained" in shown.stderr


def test_a_server_that_a_run_names_is_not_asked(path: Path, tmp_path: Path) -> None:
    run = train(path, tmp_path / "run", config=config("optim.epochs=1"))
    about = json.loads((run.path / "config.json").read_text())
    about["store"]["url"] = "s3://stranger/store"
    (run.path / "config.json").write_text(json.dumps(about))
    words = ("s3://stranger/store", "which is opened only if you name it", "name it with --store")
    one_sentence(star("evaluate", run.path, "--device", "cpu", "--quiet"), *words)
    one_sentence(star("report", run.path, "--device", "cpu", "--quiet"), *words)
    done("evaluate", run.path, "--store", path, "--device", "cpu", "--quiet")


@pytest.mark.parametrize(
    "setting",
    [
        "model.width=100000", "model.width=1000000000000", "model.encoder_depth=1000000000", "model.mlp_ratio=1000000",
        "model.decoder_depth=100000000000000000000",
    ],
)  # fmt: skip
def test_a_model_beyond_all_memory_leaves_nothing_behind(path: Path, tmp_path: Path, setting: str) -> None:
    words = ("do not fit into the memory of cpu", setting.split("=")[0], "make model.width")
    command = ("train", "--from-cache", path, "--out", tmp_path / "run", "--device", "cpu", "--quiet")
    command += tuple(plain_options(setting))
    one_sentence(star(*command), *words)
    assert not (tmp_path / "run").exists()
    one_sentence(star(*command, "--dry-run"), *words)


def test_a_device_that_is_not_supported_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    one_sentence(
        star("train", "--from-cache", path, "--out", tmp_path / "run", "--device", "mps"), "mps is not supported"
    )
    assert not (tmp_path / "run").exists()

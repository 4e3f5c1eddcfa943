"""Rotated training subjects: every training clip is scored once, by a run that did not see it; the test split never."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import done, one_sentence, star
from star_stores import one_thread, plain, plain_options, write_small_store

from pipeline.errors import ArtifactError, ConfigError
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig
from star.data.dataset import TokenDataset
from star.evaluate.metrics import wilson_interval
from star.evaluate.scores import Scores, load_scores
from star.evaluate.scoring import evaluate_run
from star.runs.run import open_run
from star.study.folds import pooled, train_folds
from star.study.seeds import train_seeds
from star.train.progress import TrainEvent
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

TINY = ["model.width=16", "data.frame_step=1", "optim.epochs=2", "optim.lr=3e-3"]


def config(*settings: str) -> TrainConfig:
    return plain(*TINY, *settings)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("folds") / "small.zarr", signal=0.3, subjects=(1, 2, 4, 9))


def fails(*given: object, **how: object) -> None:
    raise AssertionError("was trained or scored again")


def test_every_training_clip_is_scored_once_by_a_run_that_did_not_see_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int, int]] = []

    def listen(name: str, done: int, total: int, event: TrainEvent) -> None:
        calls.append((name, done, total))
        if stop and name == "fold 1":
            raise KeyboardInterrupt

    stop = True
    with pytest.raises(KeyboardInterrupt):
        train_folds(store, tmp_path / "out", config=config(), progress=listen)
    stop = False
    found = train_folds(store, tmp_path / "out", config=config(), progress=listen)
    assert sorted(set(calls)) == [("fold 0", 0, 3), ("fold 1", 1, 3), ("fold 2", 2, 3)]
    whole = TokenDataset(store)
    ids = [scores.clip_ids for (scores,) in found.folds]
    assert sorted(np.concatenate(ids)) == sorted(whole.clip_ids())
    for fold, (scores,) in enumerate(found.folds):
        run = open_run(tmp_path / f"out/fold-{fold}")
        assert run.config.data.fold == fold
        assert len(np.unique(scores.subjects)) == 1
        assert scores.trained_on is not None
        assert not set(scores.clip_ids) & set(scores.trained_on)
        assert not (run.path / "test.npz").exists()
        assert {line["split"] for line in run.metrics() if "top1" in line} == {"val"}
        assert np.abs(evaluate_run(run, split="val").probabilities - scores.probabilities).max() < 1e-6
        alone = train(store, tmp_path / f"alone-{fold}", config=config("score_test=false", f"data.fold={fold}"))
        assert (alone.path / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()
    right = {name: hit for (scores,) in found.folds for name, hit in zip(scores.clip_ids, scores.right, strict=True)}
    top1 = [scores.top1 for (scores,) in found.folds]
    assert (found.mean, found.spread) == (np.mean(top1), np.std(top1, ddof=1))
    assert found.pooled.mean == np.mean([*right.values()])
    assert found.pooled.interval == wilson_interval(sum(right.values()), 48)
    assert str(found.pooled.clusters) == "3 subjects"
    monkeypatch.setattr("star.train.start.Training", fails)
    monkeypatch.setattr("star.evaluate.scoring.evaluate_run", fails)
    assert train_folds(store, tmp_path / "out", config=config()).summary() == found.summary()


def test_folds_with_several_seeds(store: Path, tmp_path: Path) -> None:
    found = train_folds(store, tmp_path / "out", config=config("optim.epochs=1", "seed=3"), seeds=2)
    assert [len(seeds) for seeds in found.folds] == [2, 2, 2]
    for fold, seeds in enumerate(found.folds):
        for seed, scores in enumerate(seeds, start=3):
            assert load_scores(tmp_path / f"out/fold-{fold}/seed-{seed}/val.npz").summary() == scores.summary()
            assert np.array_equal(scores.clip_ids, seeds[0].clip_ids)
    of_seed = [np.concatenate([seeds[k].right for seeds in found.folds]).mean() for k in range(2)]
    assert found.pooled.top1 == pytest.approx(of_seed)
    assert found.mean == pytest.approx(np.mean([[scores.top1 for scores in seeds] for seeds in found.folds]))
    with pytest.raises(ArtifactError, match="holds no fold-N run"):
        train_folds(store, tmp_path / "out", config=config("optim.epochs=1", "seed=3"))
    with pytest.raises(ArtifactError, match="holds no seed-N run"):
        train_seeds(store, tmp_path / "out", config=config("optim.epochs=1"), seeds=2)


def test_the_pooled_clips_keep_what_belongs_to_them() -> None:
    rng = np.random.default_rng(0)
    names = rng.permutation([f"clip {i}" for i in range(9)])
    folds = []
    for part in np.split(names, 3):
        numbers = np.asarray([int(name.split()[1]) for name in part])
        folds.append(
            Scores(
                clip_ids=part,
                labels=numbers % 2,
                probabilities=np.stack([numbers, 10.0 - numbers], axis=1),
                class_names=("a", "b"),
                split="val",
                protocol="xsub",
                subjects=numbers + 100,
                performances=np.asarray([0, -1, 0]),
            )
        )
    found = pooled(folds)
    assert found.clip_ids.tolist() == [f"clip {i}" for i in range(9)]
    assert found.labels.tolist() == [i % 2 for i in range(9)]
    assert found.probabilities[:, 0].tolist() == list(range(9))
    assert found.subjects.tolist() == list(range(100, 109))
    assert found.trained_on is None
    together = dict(zip(found.clip_ids.tolist(), found.performances.tolist(), strict=True))
    for part in np.split(names, 3):  # numbers of one fold are not those of another
        assert together[part[0]] == together[part[2]] != together[part[1]] == -1
    assert len(set(together.values()) - {-1}) == 3


def test_what_cannot_be_rotated_is_one_sentence(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: all folds are trained in turn .got 1"):
        train_folds(store, tmp_path / "out", config=config("data.fold=1"))
    lonely = write_small_store(tmp_path / "lonely.zarr", subjects=(1, 9))
    command = ("train", "--out", tmp_path / "out", "--device", "cpu", "--quiet", "--folds", *plain_options())
    one_sentence(star(*command, "--from-cache", lonely), "data.validation", "all training clips are of one subject")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_each_fold_and_all_clips(store: Path, tmp_path: Path) -> None:
    settings = plain_options(*TINY, "data.validation=0")
    command = ("train", "--from-cache", store, "--device", "cpu", "--quiet", "--folds", *settings)
    shown = star(*command, "--out", tmp_path / "out", "--json")
    assert shown.exit_code == 0, shown.stderr
    assert "25 % of the training subjects were held out to choose by (data.validation=0.25)" in shown.stderr
    facts = json.loads(shown.stdout)
    found = train_folds(store, tmp_path / "out", config=config("data.validation=0"))
    assert facts == {"run": str(tmp_path / "out"), "seeds": [0], **found.summary()}
    assert (facts["split"], facts["clips"], len(facts["folds"])) == ("val", 48, 3)
    printed = done(*command, "--out", tmp_path / "out")
    for fold, (scores,) in enumerate(found.folds):
        assert f"fold {fold}: top-1 {scores.top1:.4f} on 16 clips held out of training" in printed
    assert f"mean top-1 {found.mean:.4f}, standard deviation over 3 folds {found.spread:.4f}" in printed
    assert f"pooled top-1 {found.pooled.mean:.4f}, 95 % interval" in printed
    plan = json.loads(done(*command, "--out", tmp_path / "other", "--dry-run", "--seeds", "2"))
    assert (plan["runs"], plan["train_clips"], plan["validation_clips"], plan["test_clips"]) == (6, 32, 16, 16)


def test_a_run_without_any_scores_prints_its_folder(store: Path, tmp_path: Path) -> None:
    settings = plain_options(*TINY, "data.validation=0", "score_test=false")
    command = ("train", "--from-cache", store, "--device", "cpu", "--quiet", *settings)
    assert done(*command, "--out", tmp_path / "run") == f"{tmp_path / 'run'}\n"
    one_sentence(star("report", tmp_path / "run"), "no validation side", "name a side with --split")
    refused = star(*command, "--out", tmp_path / "seeds", "--seeds", "2")
    one_sentence(refused, "score_test", "no validation side to compare on", "--set data.validation=0.25")
    assert json.loads(done("evaluate", tmp_path / "run", "--json"))["split"] == "test"  # on demand
    one_sentence(
        star("evaluate", tmp_path / "run", "--split", "val"), "no such split", "train with data.validation above 0"
    )


def test_a_run_to_choose_by_reports_its_validation_side(store: Path, tmp_path: Path) -> None:
    command = ("train", "--from-cache", store, "--out", tmp_path / "run", "--device", "cpu", "--quiet", "--json")
    facts = json.loads(done(*command, *plain_options(*TINY, "score_test=false")))
    assert facts["split"] == "val"
    assert facts["top1"] == json.loads(done("evaluate", tmp_path / "run", "--split", "val", "--json"))["top1"]
    assert json.loads(done("evaluate", tmp_path / "run", "--split", "val", "--json"))["trained_on"] == 0
    assert TokenStore.open(store).rows_of(evaluate_run(open_run(tmp_path / "run"), split="train").clip_ids.tolist())
    page = tmp_path / "page.html"
    assert "16 clips of xsub val" in done("report", tmp_path / "run", "--out", page)
    assert "16 clips of xsub val" in page.read_text()
    assert not (tmp_path / "run" / "test.npz").exists()

"""Scores do not depend on how they are computed, and are those of the model on each clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from star_stores import one_thread, plain, write_small_store

from pipeline.errors import ArtifactError, ConfigError, DataError
from pipeline.store.token_store import TokenStore
from star.data.dataset import TokenDataset
from star.evaluate.attention_maps import attention_by_frame, attention_in_run
from star.evaluate.scores import Scores, save_scores
from star.evaluate.scoring import evaluate_run, final_scores, score
from star.model import StarTransformer
from star.runs.run import Run, open_run, score_file
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("evaluate")
    store = write_small_store(folder / "small.zarr", views=2, signal=0.15, subjects=(1, 2, 4, 9))
    settings = ["model.width=16", "data.frame_step=1", "data.validation=0.34", "optim.epochs=4", "optim.lr=3e-3"]
    config = plain(*settings)
    return train(store, folder / "run", config=config)


def test_the_batch_size_changes_no_result(run: Run) -> None:
    found = [evaluate_run(run, batch_size=size) for size in (1, 7, 64)]
    assert 0 < found[0].top1 < 1  # hard enough that a moved number would show
    for other in found[1:]:
        assert other.summary() == found[0].summary()
        assert np.array_equal(other.confusion, found[0].confusion)
        assert np.abs(other.probabilities - found[0].probabilities).max() < 1e-6


def test_scores_saved_by_training_are_not_computed_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    anew = evaluate_run(run)
    calls: list[Run] = []

    def counted(run: Run, **how: object) -> Scores:
        calls.append(run)
        return anew

    monkeypatch.setattr("star.evaluate.scoring.evaluate_run", counted)
    left = final_scores(run)
    assert calls == []
    assert np.abs(left.probabilities - anew.probabilities).max() < 1e-6
    assert (left.summary(), left.class_names) == (anew.summary(), anew.class_names)
    path = run.path / score_file("test")
    assert anew.top1 > 0
    for spoil in (
        lambda: path.write_bytes(path.read_bytes()[:-40]),
        lambda: save_scores(dataclasses.replace(anew, labels=anew.labels[::-1]), path),
        lambda: save_scores(dataclasses.replace(anew, probabilities=np.eye(4)[(anew.labels + 1) % 4]), path),
        path.unlink,
    ):
        spoil()
        assert final_scores(run) is anew
    assert len(calls) == 4
    save_scores(left, path)


def test_a_device_without_the_memory_for_a_batch_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **how: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

    monkeypatch.setattr(StarTransformer, "forward", full)
    with pytest.raises(ConfigError, match="batch_size: 7 clips at once do not fit into the memory of cpu; see"):
        evaluate_run(run, batch_size=7, device="cpu")


def test_scores_are_the_mean_over_views_of_single_clips(run: Run) -> None:
    store, model = TokenStore.open(run.store["url"]), run.model()
    scores = evaluate_run(run)
    for i in (0, 5, 15):
        row = int(np.flatnonzero(store.clip_ids == scores.clip_ids[i])[0])
        single = []
        for view in range(2):
            batch = store.read([row], view=view)
            with torch.no_grad():
                logits = model(None, torch.from_numpy(batch.jm), torch.from_numpy(batch.joint_mask))
            single.append(logits.double().softmax(1)[0].numpy())
        assert np.abs(scores.probabilities[i] - np.mean(single, axis=0)).max() < 1e-6
        assert scores.labels[i] == store.labels[row]


def test_protocol_split_and_views_may_be_chosen(run: Run) -> None:
    assert len(evaluate_run(run, split="train").labels) == 32
    held_out = evaluate_run(run, split="val")
    assert np.unique(held_out.subjects).tolist() == [1]
    assert final_scores(run, split="val").summary() == held_out.summary() != evaluate_run(run).summary()
    assert not np.array_equal(evaluate_run(run, protocol="xview").clip_ids, evaluate_run(run).clip_ids)
    one = evaluate_run(run, views=1)
    assert not np.array_equal(one.probabilities, evaluate_run(run).probabilities)


def test_a_model_that_has_diverged_gets_no_accuracy(run: Run) -> None:
    model, dataset = run.model(), TokenDataset(run.store["url"], protocol="xsub", split="test", tokens=("jm",))
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    with pytest.raises(DataError, match="the model's scores: are not finite"):
        score(model, dataset)


def test_evaluation_has_no_side_effects(run: Run) -> None:
    model = run.model().train()
    dataset = TokenDataset(run.store["url"], split="test", tokens=("jm",), views="all")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (score(model, dataset, batch_size=3) for _ in range(2))
    assert np.array_equal(first.probabilities, second.probabilities)  # no dropout alive
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_bad_input_is_one_sentence(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_run(tmp_path / "none")
    with pytest.raises(ArtifactError, match="not a training run"):
        open_run(tmp_path)
    bad = write_small_store(tmp_path / "nan.zarr", nan_clip=-1)
    dataset = TokenDataset(bad, split="test", tokens=("jm",))
    with pytest.raises(DataError, match="not finite"):
        score(run.model(), dataset)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((run.path / "config.json").read_bytes())
    with pytest.raises(ArtifactError, match="no checkpoint yet"):
        evaluate_run(tmp_path / "run")


@pytest.mark.parametrize("step", [1, 2])
def test_attention_of_a_run_is_over_the_frames_that_it_uses(run: Run, tmp_path: Path, step: int) -> None:
    store = TokenStore.open(run.store["url"])
    settings = ["model.width=16", "optim.epochs=1", f"data.frame_step={step}"]
    other = train(store, tmp_path / "run", config=plain(*settings))
    frames, received = attention_in_run(other, [3, 40])
    assert frames.tolist() == list(range(0, 4, step))
    dataset = TokenDataset(store, tokens=("jm",), frame_step=step)
    model = other.model()
    assert isinstance(model, StarTransformer)
    expected = attention_by_frame(model, dataset.read([int(np.flatnonzero(dataset.rows == 3)[0])]))
    assert list(received) == model.module_names
    for name, shares in received.items():
        assert shares.shape == (2, len(frames))
        assert np.allclose(shares[0], expected[name][0], atol=1e-6)
    baseline = train(store, tmp_path / "linear", config=plain(*settings, "model.kind=attentive_probe"))
    with pytest.raises(ConfigError, match="no attention to show"):
        attention_in_run(baseline, [3])

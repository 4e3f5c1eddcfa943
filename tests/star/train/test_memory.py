"""A step that does not fit is refused before the first one, with a setting under which it fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from star_stores import one_thread, plain, write_small_store

from pipeline.errors import ConfigError
from star.build import seeded_model
from star.config.options import ModelConfig
from star.config.text import TrainConfig
from star.distributed.batch_size import clips_at_once, evaluated_at_once
from star.distributed.world import World
from star.train import memory
from star.train.memory import kept_for_backward, require_memory
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
CPU = World(device=torch.device("cpu"))


def small(*settings: str) -> TrainConfig:
    return plain("model.width=16", "data.frame_step=1", "model.dropout=0", "optim.epochs=1", *settings)


def test_what_is_kept_is_at_least_each_layers_input_and_doubles_with_depth() -> None:
    def kept(depth: int) -> int:
        shape = ModelConfig(tokens="jm", width=32, heads=2, encoder_depth=depth, decoder_depth=0, frames=4)
        return kept_for_backward(seeded_model(shape, seed=0), small(), CPU)[1]

    one, two, four = kept(1), kept(2), kept(4)
    assert two - one > 4 * 4 * 27 * 32  # a float for each of a layer's inputs: 4 frames, 25 joints and 2 class tokens
    assert four - two == 2 * (two - one)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_kept_grows_with_the_clips_alone(precision: str) -> None:
    shape = ModelConfig(tokens="jm", width=32, heads=2, encoder_depth=2, decoder_depth=1, frames=4)
    model, config = seeded_model(shape, seed=0), small(f"optim.precision={precision}")
    fixed, each = kept_for_backward(model, config, CPU)
    assert (fixed > sum(p.numel() for p in model.parameters())) == (precision == "bf16")  # the weights, cast
    assert memory._kept(model, config, CPU, 5) == fixed + 5 * each


@pytest.mark.parametrize(
    ("micro", "world", "clips", "held"), [(0, 1, 8, 8), (0, 3, 8, 3), (2, 1, 8, 2), (16, 2, 8, 4), (0, 1, 5, 5)]
)
def test_clips_that_go_through_the_model_together(micro: int, world: int, clips: int, held: int) -> None:
    many = World(rank=0, size=world, device=torch.device("cpu"))
    assert clips_at_once(small(f"optim.micro_batch={micro}"), many, clips) == held


@pytest.mark.parametrize(
    ("batch", "micro", "world", "at_once"), [(8, 0, 1, 32), (128, 0, 1, 64), (128, 1, 1, 4), (8, 0, 4, 8)]
)
def test_an_evaluation_takes_no_more_memory_than_a_step(batch: int, micro: int, world: int, at_once: int) -> None:
    many = World(rank=0, size=world, device=torch.device("cpu"))
    config = small(f"optim.batch_size={batch}", f"optim.micro_batch={micro}")
    assert evaluated_at_once(config, many) == at_once


def test_training_refuses_what_does_not_fit_and_names_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_small_store(tmp_path / "small.zarr")
    whole = train(store, tmp_path / "whole", config=small("optim.batch_size=8"))
    model, config = whole.model(), small("optim.batch_size=8")
    fixed, each = kept_for_backward(model, config, CPU)
    assert require_memory(model, config, CPU, clips=8) == fixed + 8 * each
    monkeypatch.setattr(memory, "free_bytes", lambda device: int((fixed + 5.5 * each) / memory.MAX_MEMORY_SHARE))
    with pytest.raises(ConfigError, match="do not fit into the memory of cpu") as refused:
        train(store, tmp_path / "run", config=config)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "free_bytes", lambda device: int(fixed + 0.5 * each))
        with pytest.raises(ConfigError, match=r"make (the model|model\.width.*) smaller"):
            train(store, tmp_path / "run", config=config)
    named = re.search(r"`(optim\.micro_batch=\d+)`", str(refused.value))
    assert named is not None
    assert named[1] == "optim.micro_batch=4"
    with monkeypatch.context() as patch:  # a device that has less than it said

        def full(*given: object, **how: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")

        patch.setattr("star.train.loop.train_step", full)
        with pytest.raises(ConfigError, match=r"8 clips at once .* `optim\.micro_batch=4` takes the same steps"):
            train(store, tmp_path / "full", config=config)
        with pytest.raises(ConfigError, match=r"1 clips at once .* make the model smaller"):
            train(store, tmp_path / "fuller", config=small("optim.batch_size=8", "optim.micro_batch=1"))
    run = train(store, tmp_path / "run", config=small("optim.batch_size=8", named[1]))  # the same folder
    losses = [[line["loss"] for line in each.metrics() if "loss" in line] for each in (whole, run)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)

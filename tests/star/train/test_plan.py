"""A plan's numbers against counts made by hand and against the training that follows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from star_stores import one_thread, plain, write_small_store

from star.config.options import ModelConfig
from star.runs.checkpoint import checkpoints
from star.train.plan import forward_flops, plan_training
from star.train.start import train
from star.train.timing import timed_pieces

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def by_hand(config: ModelConfig) -> int:
    """Multiply-adds of one clip, times two."""
    frames, width, hidden = config.frames, config.width, config.mlp_ratio * config.width
    spatial = (config.cells + 1) * config.uses_gg + (config.joints + 1) * config.uses_jm + 1
    tokens = frames * spatial
    total = frames * config.cells * config.gg_channels * width * config.uses_gg
    total += frames * config.joints * config.jm_channels * width * config.uses_jm
    layers = [config.encoder_modules] * config.encoder_depth + [config.decoder_modules] * config.decoder_depth
    for modules in layers:
        for kind in modules:
            pairs = tokens * tokens if kind == "full" else 2 * (tokens // 2) ** 2
            total += 4 * tokens * width * width + 2 * pairs * width
        total += 2 * tokens * width * hidden
    return 2 * (total + width * width + width * config.classes)


@pytest.mark.parametrize("tokens", ["jm", "both"])
def test_operations_are_those_counted_by_hand(tokens: str) -> None:
    config = ModelConfig(frames=4, cells=5, gg_channels=6, joints=3, jm_channels=7, classes=9, width=8, heads=2,
                         tokens=tokens, encoder_depth=2, decoder_depth=1)  # fmt: skip
    assert forward_flops(config) == by_hand(config)


def test_zigzag_and_binary_cost_half_of_full_attention() -> None:
    def attention_alone(kind: str) -> int:
        shape = {"width": 8, "heads": 1, "tokens": "jm", "frames": 8, "joints": 6, "decoder_depth": 0}
        one = forward_flops(ModelConfig(**shape, encoder_depth=1, encoder_modules=(kind,)))
        projections = by_hand(ModelConfig(**shape, encoder_depth=1, encoder_modules=(kind,)))
        tokens = 8 * 8
        return one - (projections - 2 * 2 * 8 * (tokens * tokens if kind == "full" else tokens * tokens // 2))

    assert attention_alone("zigzag") == attention_alone("binary") == attention_alone("full") // 2


def test_a_plan_has_the_runs_numbers(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", views=2, subjects=(1, 2, 4, 9))
    settings = ["model.width=16", "data.frame_step=1", "data.validation=0.34", "optim.epochs=2", "optim.ema=0.5"]
    config = plain(*settings)
    plan = plan_training(store, config=config, device="cpu")
    run = train(store, tmp_path / "run", config=config)
    model = run.model()
    assert plan.parameters == sum(p.numel() for p in model.parameters())
    assert (plan.train_clips, plan.validation_clips, plan.test_clips) == (32, 16, 16)
    assert plan.steps == run.checkpoint().step
    assert plan.token_bytes == 32 * 2 * 4 * 25 * 6 * 2
    size = checkpoints(run.path)[-1].stat().st_size
    assert plan.checkpoint_bytes <= size < 1.6 * plan.checkpoint_bytes + 2**17  # names and the archive's own frame
    assert plan.memory_bytes > plan.checkpoint_bytes
    assert 0 < plan.epoch_s[0] <= plan.epoch_s[1]
    assert plan.timed_clips == 8  # a whole step


def test_a_large_batch_is_not_run_whole_where_that_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(
        "star.train.plan.train_step", lambda model, optimizer, batch, **how: taken.append(len(batch.labels))
    )
    monkeypatch.setattr("star.train.plan.timed_pieces", partial(timed_pieces, clock=lambda: 2.0 * sum(taken)))
    store = write_small_store(tmp_path / "small.zarr", replications=16)
    config = plain("model.width=16", "data.frame_step=1", "data.validation=0", "optim.batch_size=128")
    plan = plan_training(store, config=config, device="cpu")
    assert plan.train_clips == 128
    assert taken == [1, 1, 1, 2]
    assert plan.timed_clips == 2
    assert plan.epoch_s == (256.0, 256.0)

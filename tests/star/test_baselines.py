"""Each baseline uses the frames that it documents, and trains by the same code as the STAR-Transformer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from star_stores import one_thread, write_small_store

from pipeline.errors import ConfigError
from star.batch import Batch
from star.build import MODELS, seeded_model
from star.config.options import MODEL_KINDS, ModelConfig
from star.config.presets import smoke
from star.config.text import with_overrides
from star.evaluate.scoring import evaluate_run
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

BASELINES = [kind for kind in MODEL_KINDS if kind != "star"]


def config(kind: str) -> ModelConfig:
    return ModelConfig(kind=kind, tokens="jm" if kind == "joint_gru" else "both", frames=5, cells=4, gg_channels=6,
                       joints=3, jm_channels=5, classes=7, width=8, heads=2)  # fmt: skip


def clips() -> Batch:
    generator = torch.Generator().manual_seed(0)
    gg = torch.randn(2, 5, 4, 6, generator=generator)
    jm = torch.randn(2, 5, 3, 5, generator=generator)
    mask = torch.rand(2, 5, 3, generator=generator) < 0.7
    return Batch(gg, jm, mask, labels=torch.zeros(2), clips=torch.zeros(2))


def test_every_kind_has_a_model() -> None:
    assert tuple(MODELS) == MODEL_KINDS
    with pytest.raises(ConfigError, match="JM tokens alone"):
        ModelConfig(kind="joint_gru", tokens="both")


@pytest.mark.parametrize("kind", BASELINES)
def test_order_of_time(kind: str) -> None:
    model = seeded_model(config(kind), seed=0).eval()
    batch = clips()
    flipped = replace(batch, gg=batch.gg.flip(1), jm=batch.jm.flip(1), joint_mask=batch.joint_mask.flip(1))
    with torch.no_grad():
        forward, back = model(batch), model(flipped)
        moved = [k for k in range(5) if not torch.allclose(forward, model(bumped(batch, k)))]
    assert forward.shape == (2, 7)
    blind = kind in ("linear_probe", "frame_probe")  # five frames: the middle one stays in the middle
    assert torch.allclose(forward, back, atol=1e-6) == blind
    assert moved == ([2] if kind == "frame_probe" else [0, 1, 2, 3, 4])


def bumped(batch: Batch, frame: int) -> Batch:
    gg, jm = batch.gg.clone(), batch.jm.clone()
    gg[:, frame] += 1
    jm[:, frame] += 1
    return replace(batch, gg=gg, jm=jm)


@pytest.mark.parametrize("kind", BASELINES)
def test_absent_joints_are_the_mean(kind: str) -> None:
    model = seeded_model(config(kind), seed=0).eval()
    mean = torch.arange(5.0)
    model.standardise(gg=(torch.zeros(6), torch.ones(6)), jm=(mean, torch.full((5,), 2.0)))
    batch = clips()
    filled = torch.where(batch.joint_mask[..., None], batch.jm, mean)
    with torch.no_grad():
        whole = replace(batch, jm=filled, joint_mask=torch.ones_like(batch.joint_mask))
        assert torch.allclose(model(batch), model(whole), atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])  # the latter is the preset's of a study that names none
@pytest.mark.parametrize("kind", BASELINES)
def test_they_train_and_are_evaluated_like_the_model(kind: str, precision: str, tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "small.zarr", subjects=(1, 2, 4, 9))
    settings = [
        f"model.kind={kind}",
        f"optim.precision={precision}",
        "data.frame_step=1",
        "model.width=16",
        "optim.epochs=8",
        "optim.lr=1e-2",
        "eval_every=0",
    ]
    run = train(store, tmp_path / "run", config=with_overrides(smoke(), settings))
    top1 = evaluate_run(run).top1
    assert top1 == run.metrics()[-1]["top1"]
    assert top1 < 0.55 if kind == "frame_probe" else top1 > 0.6  # the middle frame carries no class in this store

"""Each baseline uses the frames that it documents, and trains by the same code as the STAR-Transformer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from star_stores import one_thread, plain, write_small_store

from pipeline.errors import ConfigError
from star.batch import Batch
from star.build import MODELS, seeded_model
from star.config.options import MODEL_KINDS, ModelConfig
from star.evaluate.scoring import evaluate_run
from star.train.start import train

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

BASELINES = [kind for kind in MODEL_KINDS if kind != "star"]


def config(kind: str) -> ModelConfig:
    return ModelConfig(kind=kind, tokens="jm" if kind == "token_gru" else "both", frames=5, cells=4, gg_channels=6,
                       joints=3, jm_channels=5, classes=7, width=8, heads=2)  # fmt: skip


def clips() -> Batch:
    generator = torch.Generator().manual_seed(0)
    gg = torch.randn(2, 5, 4, 6, generator=generator)
    jm = torch.randn(2, 5, 3, 5, generator=generator)
    mask = torch.rand(2, 5, 3, generator=generator) < 0.7
    joints = torch.randn(2, 2, 5, 3, 2, generator=generator)
    joints[0, 0, 1, 2] = joints[1, 1] = torch.nan  # a joint in one frame, and a person
    xyz = torch.randn(2, 2, 5, 3, 3, generator=generator)
    xyz[1, 1] = torch.nan
    return Batch(gg, jm, mask, labels=torch.zeros(2), clips=torch.zeros(2), joints=joints, xyz=xyz)


def test_every_kind_has_a_model() -> None:
    assert tuple(MODELS) == MODEL_KINDS
    with pytest.raises(ConfigError, match="JM tokens alone"):
        ModelConfig(kind="token_gru", tokens="both")


@pytest.mark.parametrize("kind", BASELINES)
def test_order_of_time(kind: str) -> None:
    model = seeded_model(config(kind), seed=0).eval()
    batch = clips()
    flipped = replace(
        batch, gg=batch.gg.flip(1), jm=batch.jm.flip(1), joint_mask=batch.joint_mask.flip(1),
        joints=batch.joints.flip(2), xyz=batch.xyz.flip(2),
    )  # fmt: skip
    with torch.no_grad():
        forward, back = model(batch), model(flipped)
        moved = [k for k in range(5) if not torch.allclose(forward, model(bumped(batch, k)))]
    assert forward.shape == (2, 7)
    assert not torch.allclose(forward, back, atol=1e-6)
    assert moved == [0, 1, 2, 3, 4]


def bumped(batch: Batch, frame: int) -> Batch:
    """With other tokens, and another place of joint 0, in one frame."""
    gg, jm, joints = batch.gg.clone(), batch.jm.clone(), batch.joints.clone()
    gg[:, frame] += 1
    jm[:, frame] += 1
    joints[:, :, frame, 0] += 1
    return replace(batch, gg=gg, jm=jm, joints=joints)


def test_coordinates_are_read_for_every_person_and_nothing_else_is() -> None:
    model = seeded_model(config("coordinate_gru"), seed=0).eval()
    assert model.reads == ("joints", "xyz")
    batch = clips()
    exchanged = replace(batch, joints=batch.joints.flip(1), xyz=batch.xyz.flip(1))
    alone = replace(batch, joints=batch.joints[:, :1], xyz=batch.xyz[:, :1])
    nobody = batch.map(lambda tensor: torch.full_like(tensor, torch.nan) if tensor.ndim == 5 else tensor)
    with torch.no_grad():
        logits = model(batch)
        other_tokens = replace(batch, gg=batch.gg + 1, jm=batch.jm + 1, joint_mask=~batch.joint_mask)
        assert torch.equal(model(other_tokens), logits)
        assert torch.allclose(model(exchanged), logits, atol=1e-5)  # which slot a person has tells nothing
        assert not torch.allclose(model(alone)[0], logits[0], atol=1e-3)
        assert torch.allclose(model(alone)[1], logits[1], atol=1e-5)  # its second person is absent
        assert torch.allclose(model(nobody), model.head.bias.expand(2, 7))


@pytest.mark.parametrize("kind", ["attentive_probe", "token_gru"])
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
        "optim.epochs=20",
        "optim.lr=1e-2",
        "data.validation=0",
        "eval_every=0",
    ]
    run = train(store, tmp_path / "run", config=plain(*settings))
    top1 = evaluate_run(run).top1
    assert top1 == run.metrics()[-1]["top1"]
    assert top1 > 0.6

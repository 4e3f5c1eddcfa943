"""The STAR-Transformer against a float64 loop oracle, and which clips it can distinguish."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from oracles import attention as oracle
from torch import Tensor

from star.batch import Batch
from star.build import seeded_model
from star.config.options import MODEL_KINDS, ModelConfig
from star.model import Layer, StarTransformer

SMALL = ModelConfig(
    frames=4, cells=4, gg_channels=6, joints=3, jm_channels=5, classes=7, width=8, heads=2, encoder_depth=1,
    decoder_depth=1, mlp_ratio=2, dropout=0.0,
)  # fmt: skip


def clips(config: ModelConfig, count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gg = torch.randn(count, config.frames, config.cells, config.gg_channels, generator=generator, dtype=torch.float64)
    jm = torch.randn(count, config.frames, config.joints, config.jm_channels, generator=generator, dtype=torch.float64)
    mask = torch.rand(count, config.frames, config.joints, generator=generator) < 0.7
    return gg, jm * mask[..., None], mask


def numbers(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tokens": "jm"},
        {"tokens": "gg", "gg_positions": True},
        {"uniform_attention": True},
        {"frames": 5, "encoder_depth": 2, "encoder_modules": ("binary", "zigzag"), "decoder_modules": ("full",)},
        {"jm_positions": False, "decoder_depth": 0},
    ],
)
def test_forward_equals_the_loop_oracle(changes: dict[str, object]) -> None:
    config = dataclasses.replace(SMALL, **changes)
    model = seeded_model(config, seed=3).double().eval()
    gg, jm, mask = clips(config)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # every parameter away from its neutral start, so that a forgotten one shows
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    model.standardise(
        gg=(torch.full((6,), 0.3, dtype=torch.float64), torch.full((6,), 1.7, dtype=torch.float64)),
        jm=(torch.full((5,), -0.2, dtype=torch.float64), torch.full((5,), 0.6, dtype=torch.float64)),
    )
    with torch.no_grad():
        ours = model(gg, jm, mask).numpy()
    slow = oracle.forward(gg.numpy(), jm.numpy(), mask.numpy(), numbers(model), config)
    assert np.abs(ours - slow).max() < 1e-10
    assert ours.std() > 1e-3


def test_without_layers_the_sum_of_all_tokens_gives_the_action() -> None:
    config = dataclasses.replace(SMALL, encoder_depth=0, decoder_depth=0, jm_projection="place", gg_projection="cell")
    model = seeded_model(config, seed=3).double().eval()
    gg, jm, mask = clips(config)
    with torch.no_grad():
        z = model.tokens(gg, jm, mask)
        expected = model.head(z.flatten(1, 2).mean(dim=1) * (4 * 10) ** 0.5)
        assert torch.allclose(model(gg, jm, mask), expected)
        other = gg.clone()
        other[:, 2, 1] += 1
        assert not torch.allclose(model(other, jm, mask), expected)


@pytest.mark.parametrize("modules", [("full", "zigzag"), ("full", "binary")])
def test_one_layer_equals_the_equations(modules: tuple[str, str]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Layer(SMALL, modules).double().eval()
        z = torch.randn(1, 4, 5, 8, dtype=torch.float64)
    state = {f"layer.{name}": value for name, value in numbers(layer).items()}
    slow = oracle.layer(z[0].numpy(), state, "layer", modules, SMALL.heads)
    assert np.abs(layer(z)[0].detach().numpy() - slow).max() < 1e-10


def test_z_has_the_documented_layout() -> None:
    model = seeded_model(SMALL, seed=0)
    gg, jm, mask = clips(SMALL)
    z = model.tokens(gg.float(), jm.float(), mask)  # already standardised: mean 0, spread 1
    assert z.shape == (2, 4, (4 + 1) + (3 + 1) + 1, 8)
    assert model.tokens.class_slots == [0, 5, 9]
    for slot, name in zip(model.tokens.class_slots, ("cls_global", "cls_joint", "cls_total"), strict=True):
        assert torch.equal(z[1, 2, slot], getattr(model.tokens, name))


@pytest.mark.parametrize("kinds", ["both", "jm"])
def test_a_reversed_clip_is_another_clip(kinds: str) -> None:
    config = dataclasses.replace(SMALL, tokens=kinds)
    gg, jm, mask = clips(config)

    def change(model: StarTransformer) -> float:
        with torch.no_grad():
            return float((model(gg, jm, mask) - model(gg.flip(1), jm.flip(1), mask.flip(1))).abs().max())

    blind = change(seeded_model(dataclasses.replace(config, jm_positions=False), seed=1).double().eval())
    assert change(seeded_model(config, seed=1).double().eval()) > 1e6 * blind
    assert blind < 1e-12  # attention alone does not see the order: hence positions (T, V, width)


def test_the_values_of_an_absent_joint_have_no_effect() -> None:
    model = seeded_model(SMALL, seed=0).double().eval()
    model.standardise(gg=None, jm=(torch.ones(5), torch.full((5,), 2.0)))
    gg, jm, mask = clips(SMALL)
    with torch.no_grad():
        garbage = torch.where(mask[..., None], jm, torch.full_like(jm, 1e4))
        assert torch.equal(model(gg, jm, mask), model(gg, garbage, mask))
        assert not torch.equal(model(gg, jm, mask), model(gg, jm, torch.ones_like(mask)))


def test_a_clip_without_any_joint_has_finite_logits_and_gradients() -> None:
    for kinds in ("jm", "both"):
        model = seeded_model(dataclasses.replace(SMALL, tokens=kinds), seed=0)
        gg, jm, mask = clips(SMALL)
        logits = model(gg.float(), torch.zeros_like(jm).float(), torch.zeros_like(mask))
        assert logits.isfinite().all()
        logits.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_unused_tokens_are_not_read() -> None:
    gg, jm, mask = clips(SMALL)
    joints = seeded_model(dataclasses.replace(SMALL, tokens="jm"), seed=0).double().eval()
    assert torch.equal(joints(None, jm, mask), joints(gg, jm, mask))
    grid = seeded_model(dataclasses.replace(SMALL, tokens="gg"), seed=0).double().eval()
    assert torch.equal(grid(gg, None), grid(gg, jm, mask))


@pytest.mark.parametrize("kind", MODEL_KINDS)
@pytest.mark.parametrize("tokens", ["gg", "jm", "both"])
def test_a_model_reads_the_fields_it_names_and_no_others(kind: str, tokens: str) -> None:
    if kind == "token_gru" and tokens != "jm":
        return
    model = seeded_model(dataclasses.replace(SMALL, kind=kind, tokens=tokens), seed=0).double().eval()
    gg, jm, mask = clips(SMALL)
    joints, more = torch.randn(2, 2, 2, *mask.shape[1:], 2, dtype=torch.float64)
    xyz, moved = torch.randn(2, 2, 2, *mask.shape[1:], 3, dtype=torch.float64)
    batch = Batch(gg, jm, mask, labels=torch.zeros(2), clips=torch.zeros(2), joints=joints, xyz=xyz)
    other = {
        "gg": gg + 1, "jm": jm + 1, "joint_mask": ~mask, "labels": batch.labels + 1, "clips": batch.clips + 1,
        "joints": more, "xyz": moved,
    }  # fmt: skip
    logits = model(batch)
    changed = {
        name for name in other if not torch.equal(model(dataclasses.replace(batch, **{name: other[name]})), logits)
    }
    assert changed == set(model.reads)
    if kind == "star":  # the call with three tensors is the same
        assert torch.equal(model(gg, jm, mask), logits)


def test_weights_are_given_on_request_and_change_nothing() -> None:
    model = seeded_model(SMALL, seed=0).double().eval()
    gg, jm, mask = clips(SMALL)
    weights: list[Tensor] = []
    assert torch.equal(model(gg, jm, mask, weights=weights), model(gg, jm, mask))
    assert model.module_names == ["encoder 1 full", "encoder 1 zigzag", "decoder 1 full", "decoder 1 binary"]
    assert [tuple(w.shape) for w in weights] == [(2, 2, 4, 10, 4, 10)] * 4
    assert (weights[1][:, :, 0, :, 2] == 0).all()
    assert (weights[1][:, :, 0, :, 1] > 0).all()


def test_initial_weights_are_a_function_of_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (seeded_model(SMALL, seed=seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


def test_a_channel_that_never_changes_is_only_centred() -> None:
    model = seeded_model(SMALL, seed=0)
    model.standardise(gg=None, jm=(torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([0.0, 1, 2, 4, 0])))
    standard = model.jm_standard(torch.tensor([2.0, 4, 5, 8, 5]))
    assert standard.tolist() == [1.0, 2.0, 1.0, 1.0, 0.0]


def test_a_channel_that_hardly_changes_is_not_amplified() -> None:
    """One stray value in a million training tokens gives a spread of a thousandth: a test clip may move more."""
    model = seeded_model(SMALL, seed=0)
    model.standardise(gg=None, jm=(torch.zeros(5), torch.tensor([1e-6, 1, 2, 4, 0])))
    assert model.jm_standard.spread.tolist() == pytest.approx([0.01, 1, 2, 4, 1])

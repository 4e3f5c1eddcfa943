"""Schedules as functions, decay groups, the moving average: against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from star.build import seeded_model
from star.config.options import MODEL_KINDS, ModelConfig, OptimConfig
from star.train.optim import MovingAverage, learning_rate, make_optimizer

SMALL = ModelConfig(frames=2, cells=2, joints=2, gg_channels=3, jm_channels=3, classes=2, width=4, heads=1,
                    encoder_depth=1, decoder_depth=1, gg_positions=True)  # fmt: skip


def test_warmup_then_cosine() -> None:
    config = OptimConfig(lr=2.0, schedule="cosine", warmup=0.2)
    rates = [learning_rate(step, 10, config) for step in range(10)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert rates[6] == pytest.approx(1.0)
    assert rates[9] == pytest.approx(1 + math.cos(math.pi * 7 / 8))
    assert rates[9] > 0 == learning_rate(10, 10, config)  # 0 would be reached at the step after the last
    assert [learning_rate(step, 10, OptimConfig(lr=0.5)) for step in (0, 9)] == [0.5, 0.5]


NOT_DECAYED = {  # beside biases and norms
    "star": {
        *("tokens.cls_global", "tokens.cls_joint", "tokens.cls_total", "tokens.absent"),
        *("tokens.jm_position", "tokens.gg_position"),
    },
    "attentive_probe": {"query", "positions.0", "positions.1"},
    "token_gru": set(),
    "coordinate_gru": set(),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_only_matrices_of_projections_are_decayed(kind: str, optimizer: str) -> None:
    model = seeded_model(replace(SMALL, kind=kind, tokens="jm" if kind == "token_gru" else "both"), seed=0)
    groups = make_optimizer(model, OptimConfig(kind=optimizer, weight_decay=0.3)).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, others = ({names[id(p)] for p in group["params"]} for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    plain = {name for name in names.values() if "bias" in name or "norm" in name}
    assert others == plain | NOT_DECAYED[kind]
    assert decayed == set(names.values()) - others
    assert "head.weight" in decayed or "head.3.weight" in decayed


def test_sgd_is_the_papers_momentum() -> None:
    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(weight.weight)
    optimizer = make_optimizer(weight, OptimConfig(kind="sgd", lr=0.1, momentum=0.9))
    for _ in range(2):  # gradient 1 twice: 0.1 * 1, then 0.1 * (0.9 + 1)
        weight.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert weight.weight.item() == pytest.approx(-(0.1 + 0.19))


def test_moving_average() -> None:
    model = seeded_model(SMALL, seed=0)
    start = model.tokens.cls_total.detach().clone()
    average = MovingAverage(model, 0.75)
    with torch.no_grad():
        model.tokens.cls_total += 4
    average.update(model)
    assert torch.allclose(average.weights["tokens.cls_total"], start + 1)

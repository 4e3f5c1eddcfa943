"""Optimisers, schedules and the moving average of weights.

In: a model, an `OptimConfig`, a step. Out: torch optimisers; learning rates as pure functions of the step, so that
resuming needs no schedule state. Takes no step: `star.train.step` does.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import CorruptError
from star.config.options import OptimConfig
from star.runs.checkpoint import Checkpoint

# what is kept of each weight
STATES = {torch.optim.SGD: {"momentum_buffer"}, torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"}}


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """The rate of a step, counted from 0, out of `steps`: linear warm-up, then the schedule."""
    warm = round(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return config.lr


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD or AdamW. Only weight matrices decay: no bias, norm, position, class token or other learned token."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        # nn.Linear has "weight", nn.MultiheadAttention "in_proj_weight", nn.GRU "weight_ih_l0"
        matrix = parameter.ndim > 1 and "weight" in name.rpartition(".")[2]
        (decayed if matrix else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    # one fused kernel instead of some thousand small ones, in which a step of the smoke model would spend most time
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def restore_states(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Give an optimiser what a checkpoint's kept of each weight; rates and other options stay those of the config.

    Raises:
        CorruptError: it is not the state of these weights, or not finite.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    own = optimizer.state_dict()["param_groups"]
    found = [group["params"] for group in checkpoint.optimizer["param_groups"]]
    state = checkpoint.optimizer["state"]
    names = STATES[type(optimizer)]
    fits = found == [group["params"] for group in own] and all(
        isinstance(number, int) and 0 <= number < len(weights) and _is_state(values, weights[number], names)
        for number, values in state.items()
    )
    if not fits:
        raise _of_another_model(checkpoint, "the optimiser's state")
    optimizer.load_state_dict({"state": state, "param_groups": own})


def _is_state(values: Any, weight: Tensor, names: set[str]) -> bool:
    """Whether these are finite moments of a weight, under these names."""
    return (
        isinstance(values, dict)
        and values.keys() == names
        and all(
            isinstance(value, Tensor)
            and value.shape == (() if name == "step" else weight.shape)
            and value.dtype == weight.dtype
            and bool(value.isfinite().all())
            for name, value in values.items()
        )
    )


def _of_another_model(checkpoint: Checkpoint, what: str) -> CorruptError:
    remedy = "restore it from a copy, or delete it"
    return CorruptError(
        f"the checkpoint of step {checkpoint.step}", f"holds {what} of another model, or no numbers", remedy=remedy
    )


class MovingAverage:
    """An exponential moving average of a model's parameters, starting from their initial values.

    Attributes:
        weights: by name; buffers are constant and not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average = decay * average + (1 - decay) * weights."""
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, 1 - self.decay)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint's averages. Raises CorruptError where they are not finite, or of another model."""
        if checkpoint.average.keys() != self.weights.keys() or not all(
            value.dtype == self.weights[name].dtype and bool(value.isfinite().all())
            for name, value in checkpoint.average.items()
        ):
            raise _of_another_model(checkpoint, "averages")
        self.weights = {name: value.to(self.weights[name].device) for name, value in checkpoint.average.items()}

"""Optimisers, schedules and the moving average of weights.

In: a model, an `OptimConfig`, a step. Out: torch optimisers; learning rates as pure functions of the step, so that
resuming needs no schedule state. Takes no step: `star.train.step` does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.errors import CorruptError
from star.config.options import OptimConfig
from star.runs.checkpoint import Checkpoint


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


def require_states_of(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Raise CorruptError where a checkpoint's optimiser state is not that of these weights."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    state, groups = checkpoint.optimizer["state"], checkpoint.optimizer["param_groups"]
    counts = [len(group["params"]) for group in groups]
    fits = counts == [len(group["params"]) for group in optimizer.param_groups]
    fits = fits and sorted(number for group in groups for number in group["params"]) == list(range(len(weights)))
    for number, values in state.items():
        known = isinstance(number, int) and 0 <= number < len(weights) and isinstance(values, dict)
        tensors = [value for value in values.values() if isinstance(value, Tensor)] if known else []
        fits = fits and known and all(value.shape in ((), weights[number].shape) for value in tensors)
    if not fits:
        problem, remedy = "holds the optimiser's state of another model", "restore it from a copy, or delete it"
        raise CorruptError(f"the checkpoint of step {checkpoint.step}", problem, remedy=remedy)


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

"""One training step: forward, backward, update of the weights.

In: a model, an optimiser, a batch (this process's share) and the step's number of clips over all processes. Out: the
step's mean loss. Its randomness (dropout, mixup) is a function of (seed, step, rank). No loop, no files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from pipeline.errors import DataError
from pipeline.records import keyed_rng
from star.batch import Batch
from star.config.options import OptimConfig
from star.distributed.machine import autocast_precision
from star.distributed.world import World


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    config: OptimConfig,
    clips: int,
    step: int,
    seed: int,
    world: World,
) -> float:
    """Update the weights once; returns the mean loss of the step's clips over all processes.

    Args:
        model: takes a batch; may be compiled.
        clips: of the step, over all processes: each clip's loss has weight 1 / clips, so neither micro-batches nor a
            short share of one process change the gradient.

    Raises:
        DataError: loss or gradient is not finite; the weights have not changed.
    """
    rng = keyed_rng(seed, "step", step, world.rank)
    torch.manual_seed(int(rng.integers(2**62)))
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=world.device)
    size = config.micro_batch or max(1, len(batch))
    half = autocast_precision(config.precision, world.device) == "bf16"
    for first in range(0, len(batch), size):
        part = batch.rows(slice(first, first + size)).to(world.device, non_blocking=True)
        targets = part.labels
        if config.mixup > 0 and len(part) > 1 and not model.config.fields:  # type: ignore[union-attr]
            share = float(rng.beta(config.mixup, config.mixup))
            part, targets = mix(part, share=share, classes=model.config.classes)  # type: ignore[union-attr, arg-type]
        with torch.autocast(world.device.type, torch.bfloat16, enabled=half):
            logits = model(part)
        loss = cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=config.label_smoothing) / clips
        loss.backward()
        total += loss.detach()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = _summed(total, parameters, world)
    norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
    mean, gradient = torch.stack([loss, norm]).tolist()  # in one copy: each waits until the GPU is idle
    if not math.isfinite(mean) or not math.isfinite(gradient):
        raise DataError(
            f"training step {step + 1}",
            "the loss or its gradient is not a finite number",
            got=f"loss {mean}, gradient norm {gradient}",
            remedy="lower optim.lr or set optim.clip_norm; the last checkpoint is intact",
        )
    optimizer.step()
    return mean


def mix(batch: Batch, *, share: float, classes: int) -> tuple[Batch, Tensor]:
    """Mixup: each clip becomes share * itself + (1 - share) * its predecessor in the batch, and so do the labels.

    A joint that is present in one clip of a pair only keeps that clip's token.

    Returns:
        The batch with gg and jm (float32) mixed and the joint_mask of either clip; label distributions (B, A). Joints,
        which cannot be mixed, are left out.
    """
    other = batch.map(lambda tensor: tensor.roll(1, 0))
    gg = share * batch.gg.float() + (1 - share) * other.gg.float()
    own, others = (share * batch.joint_mask)[..., None], ((1 - share) * other.joint_mask)[..., None]
    weight = (own + others).clamp(min=torch.finfo(torch.float32).tiny)
    jm = (own * batch.jm.float() + others * other.jm.float()) / weight
    targets = one_hot(batch.labels, classes).float()
    mixed = Batch(gg, jm, batch.joint_mask | other.joint_mask, batch.labels, batch.clips)
    return mixed, share * targets + (1 - share) * targets.roll(1, 0)


def _summed(loss: Tensor, parameters: list[nn.Parameter], world: World) -> Tensor:
    """Sum loss and gradients over processes, in one message; a process without clips adds zeros."""
    if world.size == 1:
        return loss
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([loss.reshape(1), *(p.grad.reshape(-1) for p in parameters if p.grad is not None)])
    world.sum(flat)
    at = 1
    for parameter in parameters:
        parameter.grad = flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    return flat[0]

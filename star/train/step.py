"""One step of training: forward, backward, and the weights' move.

In: a model, an optimiser, a batch (this process's share) and how many clips the step has over all processes. Out: the
step's mean loss. All its randomness (dropout, mixup) is a function of (seed, step, rank). No loop, no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from pipeline.errors import DataError
from pipeline.records import keyed_rng
from star.config.options import OptimConfig
from star.data.dataset import Batch
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
    """Move the weights once; returns the mean loss of the step's clips over all processes.

    Args:
        model: takes (gg, jm, joint_mask); may be compiled.
        clips: of the step, over all processes: each clip's loss weighs 1 / clips wherever it is computed, so neither
            micro-batches nor a short share of one process change the gradient.

    Raises:
        DataError: loss or gradient is not finite; the weights have not been moved.
    """
    rng = keyed_rng(seed, "step", step, world.rank)
    torch.manual_seed(int(rng.integers(2**62)))
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=world.device)
    for part in _micro_batches(batch, config.micro_batch):
        gg, jm, mask, labels = (tensor.to(world.device, non_blocking=True) for tensor in part[:4])
        targets: Tensor = labels
        if config.mixup > 0 and len(labels) > 1:
            share = float(rng.beta(config.mixup, config.mixup))
            gg, jm, mask, targets = mix(gg, jm, mask, labels, share=share, classes=model.config.classes)  # type: ignore
        with torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = model(gg, jm, mask)
        loss = cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=config.label_smoothing) / clips
        loss.backward()
        total += loss.detach()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = _summed(total, parameters, world)
    norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
    mean, size = torch.stack([loss, norm]).tolist()  # together: each look waits for all that a GPU is at
    if not math.isfinite(mean) or not math.isfinite(size):
        raise DataError(
            f"training step {step + 1}",
            "the loss or its gradient is not a finite number",
            got=f"loss {mean}, gradient norm {size}",
            remedy="lower optim.lr or set optim.clip_norm; the last checkpoint is intact",
        )
    optimizer.step()
    return mean


def mix(
    gg: Tensor, jm: Tensor, mask: Tensor, labels: Tensor, *, share: float, classes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mixup: each clip becomes share * itself + (1 - share) * the next one of the batch, and so do the labels.

    A joint that only one of the two clips has keeps that clip's token undiluted.

    Returns:
        gg, jm (float32), joint_mask (either clip's), label distributions (B, A).
    """
    mixed_gg = share * gg.float() + (1 - share) * gg.roll(1, 0).float()
    ours, theirs = (share * mask)[..., None], ((1 - share) * mask.roll(1, 0))[..., None]
    weight = (ours + theirs).clamp(min=torch.finfo(torch.float32).tiny)
    mixed_jm = (ours * jm.float() + theirs * jm.roll(1, 0).float()) / weight
    targets = one_hot(labels, classes).float()
    return mixed_gg, mixed_jm, mask | mask.roll(1, 0), share * targets + (1 - share) * targets.roll(1, 0)


def _micro_batches(batch: Batch, size: int) -> Iterator[Batch]:
    clips = len(batch.labels)
    for first in range(0, clips, size or max(1, clips)):
        yield Batch._make(tensor[first : first + (size or clips)] for tensor in batch)


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

"""The costs of a training, estimated before it starts: parameters, operations, memory, time.

In: a store and a `TrainConfig`. Out: a `TrainingPlan`. Takes a few real steps on made-up tokens of the right shape, on
the device that would train, smaller ones where whole ones would take long (`star.train.timing`). Reads no tokens and
writes nothing. Its time leaves out reading, evaluation and `torch.compile`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.store.token_store import TokenStore
from star.build import seeded_model
from star.config.options import ModelConfig
from star.config.text import TrainConfig
from star.data.splits import Splits, fitted, open_splits
from star.distributed.batch_size import clips_at_once
from star.distributed.machine import choose_device
from star.distributed.world import World
from star.model import TokenModel
from star.train.memory import made_up_batch, require_memory, require_room
from star.train.optim import make_optimizer
from star.train.step import train_step
from star.train.timing import Pieces, epoch_seconds, timed_pieces


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Estimated costs of a training.

    Attributes:
        parameters: of the model. flops: of one clip's forward pass (a multiply-add is two).
        train_clips, validation_clips, test_clips, steps: of the run; none of train_clips is held out to validate.
        token_bytes: of the training split. in_memory: whether it would be held in memory.
        memory_bytes: weights, gradients, optimiser state and what a step keeps for its backward pass, on one device.
        checkpoint_bytes: of one checkpoint; two are kept.
        epoch_s: shortest and longest, computing only, in one process and not compiled, by
            `star.train.timing.epoch_seconds` from steps of 1, 2, 4, ... clips, timed for about ten seconds.
        timed_clips: of the largest timed step; if a whole step has more, `epoch_s` is extrapolated.
        device: on which steps were timed.
    """

    parameters: int
    flops: int
    train_clips: int
    validation_clips: int
    test_clips: int
    steps: int
    token_bytes: int
    in_memory: bool
    memory_bytes: int
    checkpoint_bytes: int
    epoch_s: tuple[float, float]
    timed_clips: int
    device: str


def plan_training(store: TokenStore | Path | str, *, config: TrainConfig, device: str = "auto") -> TrainingPlan:
    """Look at the store, build the model, take a few steps.

    Raises:
        ArtifactError, ConfigError, DataError: as `star.train.train` before its first step.
    """
    splits = open_splits(store, config, in_memory=False)
    world = World(device=choose_device(device))
    model, kept = fitting_model(splits, config, world)
    parameters = sum(p.numel() for p in model.parameters())
    states = 1 if config.optim.kind == "sgd" else 2
    items, batch_size = len(splits.train), config.optim.batch_size
    pieces = _pieces(model, config, world, most=clips_at_once(config, world, min(batch_size, items)))
    return TrainingPlan(
        parameters=parameters,
        flops=forward_flops(model.config),
        train_clips=len(splits.train.rows),
        validation_clips=0 if splits.val is None else len(splits.val.rows),
        test_clips=len(splits.test.rows),
        steps=max(-(-items // batch_size) * config.optim.epochs, config.optim.min_steps),
        token_bytes=splits.train.nbytes,
        in_memory=splits.train.fits_in_memory,
        memory_bytes=4 * parameters * (2 + states + (config.optim.ema > 0)) + kept,
        checkpoint_bytes=4 * parameters * (1 + states + (config.optim.ema > 0)),
        epoch_s=epoch_seconds(pieces, items=items, batch_size=batch_size),
        timed_clips=max(pieces),
        device=str(world.device),
    )


def fitting_model(splits: Splits, config: TrainConfig, world: World) -> tuple[TokenModel, int]:
    """The initial model of a run, tried on made-up clips, and the bytes that a step keeps in each process.

    Raises:
        ConfigError: a setting that does not fit the store, or a model or step that does not fit into memory.
    """
    shape = fitted(config.model, splits.train)
    require_room(shape, config.optim, world)
    model = seeded_model(shape, seed=config.seed).to(world.device)
    return model, require_memory(model, config, world, clips=min(config.optim.batch_size, len(splits.train)))


def forward_flops(config: ModelConfig) -> int:
    """Operations of one clip's forward pass in matrix products, as torch counts them; a multiply-add is two."""
    batch = made_up_batch(config, 1)
    model = seeded_model(replace(config, dropout=0.0), seed=0).eval()
    # torch counts the operations of attention in its plain form only; they are the same in every form
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, plain, torch.no_grad():
        model(batch)
    return int(counter.get_total_flops())


def _pieces(model: TokenModel, config: TrainConfig, world: World, *, most: int) -> Pieces:
    """Seconds of steps that change no weight, of at most `most` clips at once."""
    optimizer = make_optimizer(model, replace(config.optim, lr=0.0))
    whole = made_up_batch(model.config, most)

    def step(clips: int) -> None:
        batch = whole.rows(slice(clips))
        train_step(model, optimizer, batch, config=config.optim, clips=clips, step=0, seed=config.seed, world=world)
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)

    with torch.random.fork_rng(devices=[world.device] if world.device.type == "cuda" else []):
        return timed_pieces(step, most)

"""Memory that a training step needs, checked before the first one.

In: a model, a config, the processes. Out: bytes, or a ConfigError that names the setting with which it fits. A system
out of memory kills a process without a message, so it must be computed in advance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import ConfigError, SettingError
from pipeline.torch_device import out_of_memory
from star.batch import Batch
from star.build import state_bytes
from star.config.options import ModelConfig, OptimConfig
from star.config.text import TrainConfig
from star.distributed.batch_size import clips_at_once
from star.distributed.machine import autocast_precision, free_bytes
from star.distributed.world import World
from star.model import TokenModel

MAX_MEMORY_SHARE = 0.8  # of the free memory, for what the backward pass needs; its gradients take the rest


def made_up_batch(config: ModelConfig, clips: int) -> Batch:
    """Zero tokens of the right shape, every joint present: no cost depends on a value."""
    fields = {name: {"joints": 2, "xyz": 3}[name] for name in config.fields}
    return Batch(
        gg=torch.zeros(clips, config.frames, config.cells, config.gg_channels * config.uses_gg, dtype=torch.float16),
        jm=torch.zeros(clips, config.frames, config.joints, config.jm_channels * config.uses_jm, dtype=torch.float16),
        joint_mask=torch.ones(clips, config.frames, config.joints, dtype=torch.bool),
        labels=torch.arange(clips) % config.classes,
        clips=torch.arange(clips),
        **{name: torch.zeros(clips, config.persons, config.frames, config.joints, n) for name, n in fields.items()},
    )


def kept_for_backward(model: TokenModel, config: TrainConfig, world: World) -> tuple[int, int]:
    """Bytes that a forward pass keeps for its backward pass: fixed (weights cast to bf16), and for each clip."""
    one, two = (_kept(model, config, world, clips) for clips in (1, 2))
    return 2 * one - two, two - one


def _kept(model: TokenModel, config: TrainConfig, world: World, clips: int) -> int:
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = made_up_batch(model.config, clips).to(world.device)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    bf16 = autocast_precision(config.optim.precision, world.device) == "bf16"
    half = torch.autocast(world.device.type, torch.bfloat16, enabled=bf16)
    devices = [world.device] if world.device.type == "cuda" else []
    with hooks, half, torch.random.fork_rng(devices=devices):
        model.train()(batch)
    return sum(storages.values())


def require_room(config: ModelConfig, optim: OptimConfig, world: World) -> None:
    """Raise SettingError where a model's weights, gradients and optimiser's state exceed the free memory.

    Nothing is built for it.
    """
    copies = 2 + (1 if optim.kind == "sgd" else 2) + (optim.ema > 0)
    needed, most = copies * state_bytes(config), MAX_MEMORY_SHARE * free_bytes(world.device)
    if needed > most:
        raise SettingError(
            "model",
            f"its weights, gradients and the optimiser's state do not fit into the memory of {world.device}",
            got=f"{needed / 1e9:,.0f} GB with {_large(config)}",
            expected=f"at most {most / 1e9:.1f} GB",
            remedy="make model.width, model.mlp_ratio or the depths smaller",
        )


def _large(config: ModelConfig) -> str:
    names = ("width", "encoder_depth", "decoder_depth", "mlp_ratio")
    return ", ".join(f"model.{name}={getattr(config, name)}" for name in names)


def require_memory(model: TokenModel, config: TrainConfig, world: World, *, clips: int) -> int:
    """Bytes that a step of `clips` keeps for its backward pass in each process.

    Raises:
        ConfigError: more than the device has free; the message names an `optim.micro_batch` that fits.
    """
    (fixed, each), held = kept_for_backward(model, config, world), clips_at_once(config, world, clips)
    needed, most = fixed + each * held, MAX_MEMORY_SHARE * free_bytes(world.device)
    if needed > most:
        facts = {"got": f"{needed / 1e9:.1f} GB", "expected": f"at most {most / 1e9:.1f} GB"}
        raise too_large(held, world, fits=int((most - fixed) / each), **facts)
    return needed


def too_large(held: int, world: World, *, fits: int, **facts: str) -> ConfigError:
    """The error for a step of `held` clips at once in a process, where about `fits` clips have enough memory."""
    remedy = "make the model smaller, or use a device with more memory"
    if fits > 0:
        part = 1 << (fits.bit_length() - 1)  # a power of two, as batches mostly are
        remedy = f"`optim.micro_batch={part}` takes the same steps in smaller pieces"
    return out_of_memory("optim.micro_batch", held, world.device, remedy=remedy, **facts)

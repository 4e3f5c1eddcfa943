"""From a config to a model: the STAR-Transformer or one of the baselines.

In: a `ModelConfig`. Out: a module from a `star.batch.Batch` to logits (B, A). Trains nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from star.baselines import AttentiveProbe, CoordinateGRU, TokenGRU
from star.config.options import ModelConfig
from star.model import StarTransformer, TokenModel

# A new model is one more line here, and its name in `star.config.options.MODEL_KINDS`, which needs no torch.
MODELS: dict[str, type[TokenModel]] = {
    "star": StarTransformer,
    "attentive_probe": AttentiveProbe,
    "token_gru": TokenGRU,
    "coordinate_gru": CoordinateGRU,
}


def state_bytes(config: ModelConfig) -> float:
    """Bytes of a model's state dict, computed without building it: from shallow ones, since each layer adds the same.

    A model that no address space holds has infinitely many.
    """
    depths = (config.encoder_depth, config.decoder_depth)
    few = [min(depth, 1) for depth in depths]
    found = least = _shallow_bytes(config, *few)
    for i, depth in enumerate(depths):
        if depth > 1:
            found += (depth - 1) * (_shallow_bytes(config, *(n + (i == j) for j, n in enumerate(few))) - least)
    return found


def _shallow_bytes(config: ModelConfig, encoder: int, decoder: int) -> float:
    try:
        with torch.device("meta"):
            model = MODELS[config.kind](replace(config, encoder_depth=encoder, decoder_depth=decoder))
    except (RuntimeError, TypeError, OverflowError):  # sizes beyond 64 bits
        return math.inf
    return float(sum(value.nbytes for value in model.state_dict().values()))


def seeded_model(config: ModelConfig, *, seed: int) -> TokenModel:
    """A model whose initial weights are a function of config and seed; the caller's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices as well
        return MODELS[config.kind](config)

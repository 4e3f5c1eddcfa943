"""From a config to a model: the STAR-Transformer or one of the baselines.

In: a `ModelConfig`. Out: a module from a `star.batch.Batch` to logits (B, A). Trains nothing.
"""

from __future__ import annotations

import torch

from star.baselines import AttentiveProbe, FrameProbe, JointGRU, LinearProbe
from star.config.options import ModelConfig
from star.model import StarTransformer, TokenModel

# A new model is one more line here, and its name in `star.config.options.MODEL_KINDS`, which needs no torch.
MODELS: dict[str, type[TokenModel]] = {
    "star": StarTransformer,
    "linear_probe": LinearProbe,
    "frame_probe": FrameProbe,
    "attentive_probe": AttentiveProbe,
    "joint_gru": JointGRU,
}


def seeded_model(config: ModelConfig, *, seed: int) -> TokenModel:
    """A model whose initial weights are a function of config and seed; the caller's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices as well
        return MODELS[config.kind](config)

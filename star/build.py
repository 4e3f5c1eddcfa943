"""From a config to a model: the STAR-Transformer or one of the baselines.

In: a `ModelConfig`. Out: a module that takes (gg, jm, joint_mask) and gives logits. Trains nothing.
"""

from __future__ import annotations

import torch

from star.baselines import AttentiveProbe, Baseline, FrameProbe, JointGRU, LinearProbe
from star.config.options import ModelConfig
from star.model import StarTransformer

TokenModel = StarTransformer | Baseline

MODELS: dict[str, type[StarTransformer] | type[Baseline]] = {
    "star": StarTransformer,
    "linear_probe": LinearProbe,
    "frame_probe": FrameProbe,
    "attentive_probe": AttentiveProbe,
    "joint_gru": JointGRU,
}


def seeded_model(config: ModelConfig, *, seed: int) -> TokenModel:
    """A model whose initial weights are a function of config and seed; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices as well
        return MODELS[config.kind](config)

"""Settings of a training run: options, presets, configuration files."""

from star.config.options import DataConfig, ModelConfig, OptimConfig
from star.config.presets import PRESETS, preset
from star.config.text import TrainConfig, load_config, with_overrides

__all__ = [
    "PRESETS",
    "DataConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "load_config",
    "preset",
    "with_overrides",
]

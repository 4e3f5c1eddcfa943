"""The frozen network: frames -> feature maps."""

from pipeline.backbone.frozen import FrozenMC18, normalize

__all__ = ["FrozenMC18", "normalize"]

"""The frozen network: frames -> feature maps."""

from pipeline.backbone.frozen import FrozenMC18, normalize, resolve_precision

__all__ = ["FrozenMC18", "normalize", "resolve_precision"]

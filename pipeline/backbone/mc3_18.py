"""torchvision's `mc3_18` without its classifier, made ready for inference: the same features from fewer operations.

In: checked weights (`pipeline.backbone.weights`) and clips (B, 3, T, H, W). Out: the feature maps asked for, (B, D, T,
h, w). BatchNorm is folded into the convolution before it, and nothing after the deepest layer asked for is kept.
Devices and precision are chosen in `pipeline.backbone.frozen`.

Layers 2 to 4 have 1x3x3 kernels, but stay 3-D convolutions: as 2-D ones on (B * T, C, h, w) they
gave no more clips a second on a CPU (`python benchmarks/backbone.py`, row "2-D layers 2 to 4").
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.video import mc3_18

from pipeline.config import CHANNELS

LAYERS = tuple(CHANNELS)


class MC18Trunk(nn.Module):
    """Stem and layers of `mc3_18` in eval mode, up to the deepest of `layers`: {name: (B, D, T, h, w)}."""

    def __init__(self, weights: Mapping[str, Tensor], layers: tuple[str, ...]) -> None:
        super().__init__()
        self.layers = layers
        with torch.device("meta"):  # no random initialisation, which would draw from torch's global generator
            network = mc3_18().eval()
        network.load_state_dict(weights, strict=False, assign=True)
        depth = 1 + max(LAYERS.index(name) for name in layers)
        self.stages = nn.ModuleDict({name: getattr(network, name).double() for name in ("stem", *LAYERS[:depth])})
        _fold_batch_norm(self.stages)
        self.float().requires_grad_(False)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            clips = stage(clips)
            if name in self.layers:
                features[name] = clips
        return features


def _fold_batch_norm(network: nn.Module) -> None:
    """Fold each BatchNorm into the convolution before it, in the precision of the weights."""
    for parts in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for i, (convolution, norm) in enumerate(pairwise(parts)):
            if isinstance(norm, nn.BatchNorm3d):
                assert isinstance(convolution, nn.Conv3d)
                parts[i], parts[i + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()

"""`mc3_18` without its classifier, rewritten for inference: the same features from fewer operations.

In: checked weights (`pipeline.backbone.weights`) and clips (B, 3, T, H, W). Out: the feature maps asked for, (B, D, T,
h, w). BatchNorm is folded into the convolution before it, ReLU and the sum of a block work in place, and nothing after
the deepest layer asked for is built. The module knows neither devices nor precision: `pipeline.backbone` does.

Layers 2 to 4 never look across frames (kernel 1x3x3), but stay 3-D convolutions: as 2-D ones on (B * T, C, h, w) they
gave the same bits on a CPU and no more clips a second (`python benchmarks/backbone.py`, row "2-D layers 2 to 4").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

LAYERS = ("layer1", "layer2", "layer3", "layer4")
CHANNELS = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}
# Pixels of the clip for each cell of the map, in both directions; time is never reduced.
STRIDES = {"layer1": 2, "layer2": 4, "layer3": 8, "layer4": 16}
_EPSILON = 1e-5  # of torchvision's BatchNorm3d


class MC18Trunk(nn.Module):
    """Stem and layers of `mc3_18` in eval mode, up to the deepest of `layers`: {name: (B, D, T, h, w)}."""

    def __init__(self, weights: Mapping[str, Tensor], layers: tuple[str, ...]) -> None:
        super().__init__()
        self.layers = layers
        self.stem = _convolution(weights, "stem.0", "stem.1", stride=2)
        depth = 1 + max(LAYERS.index(name) for name in layers)
        self.blocks = nn.ModuleDict(
            {name: nn.Sequential(Block(weights, f"{name}.0"), Block(weights, f"{name}.1")) for name in LAYERS[:depth]}
        )

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        x = self.stem(clips).relu_()
        features: dict[str, Tensor] = {}
        for name, blocks in self.blocks.items():
            x = blocks(x)
            if name in self.layers:
                features[name] = x
        return features


class Block(nn.Module):
    """Two convolutions and a way around them; the first block of layers 2 to 4 halves the grid."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        halves = f"{name}.downsample.0.weight" in weights
        stride = 2 if halves else 1
        self.conv1 = _convolution(weights, f"{name}.conv1.0", f"{name}.conv1.1", stride=stride)
        self.conv2 = _convolution(weights, f"{name}.conv2.0", f"{name}.conv2.1", stride=1)
        self.around = None
        if halves:
            self.around = _convolution(weights, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x).relu_())
        return y.add_(x if self.around is None else self.around(x)).relu_()


def _convolution(weights: Mapping[str, Tensor], conv: str, norm: str, *, stride: int) -> nn.Conv3d:
    """One convolution with the BatchNorm after it folded in: w' = w * gamma / sqrt(var + eps), in float64."""
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (variance + _EPSILON).sqrt()
    kernel = weights[f"{conv}.weight"].double() * scale[:, None, None, None, None]
    width_out, width_in, span, height, width = kernel.shape
    module = nn.utils.skip_init(
        nn.Conv3d,
        width_in,
        width_out,
        (span, height, width),
        stride=(1, stride, stride),
        padding=(span // 2, height // 2, width // 2),
    )
    assert isinstance(module, nn.Conv3d)
    assert module.bias is not None
    with torch.no_grad():
        module.weight.copy_(kernel)
        module.bias.copy_(beta - mean * scale)
    return module.requires_grad_(False)

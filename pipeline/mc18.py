"""`mc3_18` without its classifier, rewritten for inference: the same features from fewer and faster operations.

In: checked weights (`pipeline.weights`) and clips (B, 3, T, H, W). Out: the feature maps asked for, (B, D, T, h, w).
BatchNorm is folded into the convolutions before it; the convolutions of layers 2 to 4, which never look across
frames (kernel 1x3x3), run as 2-D ones on (B * T, C, h, w). Nothing after the deepest layer asked for is built. The
module knows neither devices nor precision: `pipeline.backbone` does.
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
    """Stem and layers of `mc3_18` in eval mode, up to the deepest of `layers`."""

    def __init__(self, weights: Mapping[str, Tensor], layers: tuple[str, ...]) -> None:
        super().__init__()
        self.wanted = layers
        self.stem = _convolution(weights, "stem.0", "stem.1", stride=2)
        depth = max(LAYERS.index(name) for name in layers) + 1
        self.blocks = nn.ModuleDict(
            {name: nn.Sequential(*(Block(weights, f"{name}.{i}") for i in (0, 1))) for name in LAYERS[:depth]}
        )

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        batch, frames = clips.shape[0], clips.shape[2]
        x = self.stem(clips).relu_()
        features: dict[str, Tensor] = {}
        for name, blocks in self.blocks.items():
            if name == "layer2":
                x = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, h, w): a view, since memory is channels-last
            x = blocks(x)
            if name in self.wanted:
                features[name] = x if name == "layer1" else x.unflatten(0, (batch, frames)).transpose(1, 2)
        return features


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        stride = 1 if name.startswith("layer1") or name.endswith("1") else 2
        self.conv1 = _convolution(weights, f"{name}.conv1.0", f"{name}.conv1.1", stride=stride)
        self.conv2 = _convolution(weights, f"{name}.conv2.0", f"{name}.conv2.1", stride=1)
        self.around = None
        if stride != 1:
            self.around = _convolution(weights, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x).relu_())
        return y.add_(x if self.around is None else self.around(x)).relu_()


def _convolution(weights: Mapping[str, Tensor], conv: str, norm: str, *, stride: int) -> nn.Conv2d | nn.Conv3d:
    """One convolution with the BatchNorm after it folded in (in float64); 2-D if its kernel spans one frame."""
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (variance + _EPSILON).sqrt()
    kernel = weights[f"{conv}.weight"].double() * scale[:, None, None, None, None]
    bias = beta - mean * scale
    width_out, width_in, span, height, width = kernel.shape
    module: nn.Conv2d | nn.Conv3d
    if span == 1:
        module = nn.utils.skip_init(
            nn.Conv2d, width_in, width_out, (height, width), stride=stride, padding=(height // 2, width // 2)
        )
        kernel = kernel[:, :, 0]
    else:
        module = nn.utils.skip_init(
            nn.Conv3d,
            width_in,
            width_out,
            (span, height, width),
            stride=(1, stride, stride),
            padding=(span // 2, height // 2, width // 2),
        )
    with torch.no_grad():
        module.weight.copy_(kernel)
        assert module.bias is not None
        module.bias.copy_(bias)
    return module.requires_grad_(False)

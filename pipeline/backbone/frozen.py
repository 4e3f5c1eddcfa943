"""The frozen backbone: clips to feature maps of torchvision's `mc3_18`.

In: clips (B, 3, T, H, W), normalised float, or frames (B, T, H, W, 3) uint8 through `normalize`.
Out: {"layer2": (B, 128, T, H/4, W/4), "layer4": (B, 512, T, H/16, W/16), ...}, float32, no gradients.
It handles weights, device and precision, but no tokens, joints or files of clips.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.backbone.mc3_18 import LAYERS, MC18Trunk
from pipeline.backbone.weights import load_weights
from pipeline.errors import ConfigError, DataError
from pipeline.torch_device import cuda_errors_explained, resolve_precision

# The Kinetics statistics of torchvision's preset for video models, RGB in [0, 1].
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)


def normalize(frames: Tensor) -> Tensor:
    """RGB frames (B, T, H, W, 3) uint8 to normalised clips (B, 3, T, H, W) float32, on the same device.

    The memory layout stays (B, T, H, W, 3), the channels-last order of the backbone.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] != 3:
        got = f"{frames.dtype} {tuple(frames.shape)}"
        raise DataError("frames", "must be RGB clips", got=got, expected="uint8 (B, T, H, W, 3)")
    mean, std = _preset(frames.device)
    return frames.float().div_(255).sub_(mean).div_(std).permute(0, 4, 1, 2, 3)


@functools.cache
def _preset(device: torch.device) -> tuple[Tensor, Tensor]:
    """MEAN and STD on a device, cached: making a tensor from numbers waits for all queued work of the device."""
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


class FrozenMC18:
    """torchvision's `mc3_18` in eval mode, without its classifier; callable on clips.

    Attributes:
        device, precision: as resolved. trunk: the network. digest: the SHA-256 of the weights' tensors.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        layers: tuple[str, ...] = ("layer2", "layer4"),
        precision: str = "fp32",
        device: str | torch.device = "cpu",
        deterministic: bool = False,
        seed: int = 0,
    ) -> None:
        """
        Args:
            weights, seed: as for `load_weights`.
            layers: of "layer1" to "layer4"; layers after the deepest of these are not computed.
            precision: "fp32", "bf16" or "auto" (`resolve_precision`).
            deterministic: eager kernels, each clip alone, so that its features do not depend on the batch: bit-equal
                on one machine.

        Raises:
            ConfigError: an unknown layer or precision, or a device that fails.
            DataError: weights that do not fit.
        """
        unknown = [name for name in layers if name not in LAYERS]
        if unknown or not layers:
            raise ConfigError("layers", "no such layer", got=unknown or "none", expected=f"some of {', '.join(LAYERS)}")
        self.layers, self.deterministic, self.device = tuple(layers), deterministic, torch.device(device)
        self.precision = resolve_precision(precision, self.device)
        loaded = load_weights(weights, seed=seed)
        self.digest = loaded.digest
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.trunk: nn.Module = MC18Trunk(loaded.tensors, self.layers).eval()
        with cuda_errors_explained(self.device):
            self.trunk.to(self.device, self._dtype).to(memory_format=torch.channels_last_3d)

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        """Feature maps (B, D, T, h, w) float32 on the backbone's device, for normalised clips (B, 3, T, H, W).

        h = ceil(H / stride), likewise w (`pipeline.config.STRIDES`); T is kept. Their memory is channels-last.
        """
        if clips.ndim != 5 or clips.shape[1] != 3 or not clips.is_floating_point():
            got = f"{clips.dtype} {tuple(clips.shape)}"
            raise DataError("clips", "have the wrong shape", got=got, expected="floating (B, 3, T, H, W)")
        clips = clips.to(self.device, self._dtype, memory_format=torch.channels_last_3d)
        # No benchmarking of kernels, whose choice depends on time: a resumed store must have the bits of an
        # undisturbed one. No TF32, CUDA's default for float32 convolutions: it keeps 10 bits of 23.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            parts = [self.trunk(part) for part in (clips.split(1) if self.deterministic else (clips,))]
        return {name: torch.cat([part[name] for part in parts]).float() for name in self.layers}

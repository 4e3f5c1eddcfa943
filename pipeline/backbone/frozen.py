"""The frozen backbone: clips to feature maps of torchvision's `mc3_18`.

In: clips (B, 3, T, H, W), normalised float, or frames (B, T, H, W, 3) uint8 through `normalize`.
Out: {"layer2": (B, 128, T, H/4, W/4), "layer4": (B, 512, T, H/16, W/16), ...}, float32, no gradients.
Knows weights, device and precision; knows no tokens, joints or files of clips.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.backbone.mc3_18 import CHANNELS, LAYERS, STRIDES, MC18Trunk
from pipeline.backbone.weights import load_weights
from pipeline.errors import ConfigError, DataError

__all__ = ["CHANNELS", "LAYERS", "STRIDES", "FrozenMC18", "cuda_errors_explained", "normalize", "resolve_precision"]

# The Kinetics statistics of torchvision's preset for video models, RGB in [0, 1].
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)

# in the messages of CUDA and its libraries, which have no error class in common
OF_CUDA = re.compile(r"cuda|cudnn|cublas|nvidia|unable to find an engine", re.IGNORECASE)


def normalize(frames: Tensor) -> Tensor:
    """RGB frames (B, T, H, W, 3) uint8 to normalised clips (B, 3, T, H, W) float32, on the same device.

    Memory stays in the order (B, T, H, W, 3), which is the channels-last order that the backbone works in.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] != 3:
        got = f"{frames.dtype} {tuple(frames.shape)}"
        raise DataError("frames", "are no RGB clips", got=got, expected="uint8 (B, T, H, W, 3)")
    mean, std = _preset(frames.device)
    return frames.float().div_(255).sub_(mean).div_(std).permute(0, 4, 1, 2, 3)


@functools.cache
def _preset(device: torch.device) -> tuple[Tensor, Tensor]:
    """MEAN and STD on a device, once: making a tensor from numbers there waits for all that the device is at."""
    return torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)


def resolve_precision(precision: str, device: str | torch.device = "cpu") -> str:
    """ "fp32" or "bf16" for "fp32", "bf16" or "auto" on this machine.

    "auto" takes bf16 where the device multiplies it natively (CPU: AVX512-BF16, AMX or Arm's bf16; CUDA: from compute
    capability 8.0 on). "bf16" is also granted where oneDNN emulates it (any AVX-512): same rounding, no gain.

    Raises:
        ConfigError: an unknown name, bf16 on a device that can neither multiply nor emulate it, or a GPU that fails.
    """
    if precision == "fp32":
        return "fp32"
    if precision not in ("auto", "bf16"):
        raise ConfigError("precision", "unknown", got=precision, expected="fp32, bf16 or auto")
    native, possible = _bfloat16(torch.device(device))
    if precision == "auto":
        return "bf16" if native else "fp32"
    if not possible:
        raise ConfigError(
            "precision", f"this machine's {device} has no bfloat16", got="bf16", remedy="use fp32 or another machine"
        )
    return "bf16"


def _bfloat16(device: torch.device) -> tuple[bool, bool]:
    """Whether the device multiplies bfloat16 natively, and whether it can at least emulate it."""
    if device.type == "cuda":
        with cuda_errors_explained(device), torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, native
    able = torch.cpu.get_capabilities()
    native = any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return native, native or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def cuda_errors_explained(device: torch.device, *, clips: int = 0) -> Iterator[None]:
    """What CUDA refuses or breaks off in the block, which computes so many clips, as one sentence.

    Raises:
        ConfigError: the memory of the device is full, another program has it to itself, or it failed.
    """
    try:
        yield
    except RuntimeError as error:  # torch has a class of its own for some of CUDA's errors only
        if clips and isinstance(error, torch.OutOfMemoryError):
            remedy = "ask for fewer at a time" if clips > 1 else "use a device with more that is free"
            problem = f"so many clips do not fit into the memory of {device}"
            raise ConfigError("batch_clips", problem, got=clips, remedy=remedy) from error
        if not OF_CUDA.search(str(error)):
            raise
        cause = str(error).strip().splitlines()[0][:200]
        remedy = (
            "see with `nvidia-smi` who uses it, then name another device, or fewer clips at a time with `batch_clips`"
        )
        raise ConfigError("device", f"{device} does not do what is asked of it ({cause})", remedy=remedy) from error


class FrozenMC18:
    """torchvision's `mc3_18` in eval mode, without its classifier; callable on clips.

    Attributes:
        layers: the layers it returns. device, precision: as resolved. deterministic: as asked for.
        trunk: the network.
        digest: the SHA-256 of the weights' tensors (for the fingerprint).
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
            weights: "kinetics400", "random" (with `seed`), or the path of a state dict of `mc3_18`.
            layers: of "layer1" to "layer4"; what lies behind the deepest is never computed.
            precision: "fp32", "bf16" or "auto" (`resolve_precision`).
            deterministic: eager kernels, each clip alone, so that its companions cannot touch its features: bit-equal
                on one machine.

        Raises:
            ConfigError: an unknown layer or precision, or a device that fails.
            DataError: weights that do not fit.
        """
        unknown = [name for name in layers if name not in LAYERS]
        if unknown or not layers:
            raise ConfigError("layers", "unknown layer", got=unknown or "none", expected=f"some of {', '.join(LAYERS)}")
        self.layers = tuple(layers)
        self.deterministic = deterministic
        self.device = torch.device(device)
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

        h = ceil(H / stride), likewise w (`STRIDES`); T is kept. Their memory is channels-last.
        """
        if clips.ndim != 5 or clips.shape[1] != 3 or not clips.is_floating_point():
            got = f"{clips.dtype} {tuple(clips.shape)}"
            raise DataError("clips", "have the wrong shape", got=got, expected="floating (B, 3, T, H, W)")
        clips = clips.to(self.device, self._dtype, memory_format=torch.channels_last_3d)
        # No trials of kernels, which time would decide: a resumed store is to have an undisturbed one's bits. And no
        # TF32, which CUDA uses for float32 convolutions unless told otherwise: it keeps 10 bits of 23.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            parts = [self.trunk(part) for part in (clips.split(1) if self.deterministic else (clips,))]
        return {name: torch.cat([part[name] for part in parts]).float() for name in self.layers}

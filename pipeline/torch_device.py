"""Devices of torch by name, and CUDA failures as one-sentence errors.

In: "cpu", "cuda", "cuda:1". Out: torch devices, or a ConfigError. Torch is imported inside the functions, so that a
process that refuses a command earlier need not load it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import torch

# in the messages of CUDA and its libraries, which have no error class in common
OF_CUDA = re.compile(r"cuda|cudnn|cublas|nvidia|unable to find an engine", re.IGNORECASE)


def default_device() -> str:
    """ "cuda" where there is a GPU, else "cpu": what "auto" stands for."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def parse_device(name: str) -> torch.device:
    """Raises ConfigError where there is no such device, or one that is not supported; whether the machine has it:
    `require_gpu`."""
    import torch

    expected = "auto, cpu, cuda or cuda:0"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("device", "no such device", got=name, expected=expected) from None
    if device.type not in ("cpu", "cuda"):
        problem = f"{device.type} is not supported"
        raise ConfigError("device", problem, got=name, expected=expected, remedy="set `device` to cpu")
    return device


def require_gpu(device: torch.device) -> None:
    """Raises ConfigError where `device` is a GPU that this machine does not have."""
    import torch

    if device.type != "cuda":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise ConfigError(
            "device",
            "this machine has no such GPU",
            got=device,
            expected=f"cuda:0 to cuda:{count - 1}" if count else None,
            remedy="set `device` to cpu",
        )


def out_of_memory(
    item: str, clips: int, device: torch.device, *, remedy: str, got: str | None = None, expected: str | None = None
) -> ConfigError:
    """The error for a batch of `clips` that is larger than the memory of the device; `item` is what sets its size."""
    problem = f"{clips} clips at once do not fit into the memory of {device}"
    return ConfigError(item, problem, got=got, expected=expected, remedy=remedy)


@contextmanager
def cuda_errors_explained(device: torch.device, *, clips: int = 0) -> Iterator[None]:
    """Turn an error of CUDA inside the block, which computes `clips` clips at once, into one sentence.

    Raises:
        ConfigError: the memory of the device is full, another program has it to itself, or it failed.
    """
    import torch

    try:
        yield
    except RuntimeError as error:  # torch has a class of its own for some of CUDA's errors only
        if clips and isinstance(error, torch.OutOfMemoryError):
            remedy = "use a smaller `batch_clips`" if clips > 1 else "use a GPU with more free memory"
            raise out_of_memory("batch_clips", clips, device, remedy=remedy) from error
        if not OF_CUDA.search(str(error)):
            raise
        cause = str(error).strip().splitlines()[0][:200]
        remedy = "see with `nvidia-smi` which process uses it, then use another `device` or a smaller `batch_clips`"
        raise ConfigError("device", f"{device} failed ({cause})", remedy=remedy) from error


def resolve_precision(precision: str, device: str | torch.device = "cpu") -> str:
    """ "fp32" or "bf16" for "fp32", "bf16" or "auto" on this machine.

    "auto" is bf16 where the device multiplies it natively (CPU: AVX512-BF16, AMX or Arm's bf16; CUDA: from compute
    capability 8.0 on). "bf16" is also allowed where oneDNN emulates it (any AVX-512): same rounding, no gain.

    Raises:
        ConfigError: an unknown precision, bf16 on a device that can neither multiply nor emulate it, or a failing GPU.
    """
    import torch

    if precision == "fp32":
        return "fp32"
    if precision not in ("auto", "bf16"):
        raise ConfigError("precision", "no such precision", got=precision, expected="fp32, bf16 or auto")
    native, possible = _bfloat16(torch.device(device))
    if precision == "auto":
        return "bf16" if native else "fp32"
    if not possible:
        problem = f"this machine's {device} has no bfloat16"
        raise ConfigError("precision", problem, got="bf16", remedy="set `precision` to fp32, or use another machine")
    return "bf16"


def _bfloat16(device: torch.device) -> tuple[bool, bool]:
    """Whether the device multiplies bfloat16 natively, and whether it can at least emulate it."""
    import torch

    if device.type == "cuda":
        with cuda_errors_explained(device), torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, native
    capabilities = torch.cpu.get_capabilities()
    native = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return native, native or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

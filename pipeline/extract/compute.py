"""How a process computes tokens: options without "auto", the weights' identity, and its one TokenComputer.

In: ExtractOptions. Out: resolved options, the same for every worker; in each worker the function that computes tokens,
loaded once and never sent between processes. Torch is imported inside the functions: a coordinator that refuses a
command does not need it.
"""

from __future__ import annotations

import ctypes
import functools
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import GG_LAYER, ExtractOptions
from pipeline.errors import ConfigError, DataError
from pipeline.extract import devices

if TYPE_CHECKING:
    from pipeline.extract.token_computer import TokenComputer
    from pipeline.extract.values import Compute

BATCH_CLIPS = {"cpu": 4, "cuda": 32}  # the defaults; a GPU needs large batches
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
MAX_THRESHOLD = 2**31 - 1  # bytes; mallopt takes an int
MAX_MMAP_THRESHOLD_BEFORE = 2**25  # bytes, in an older glibc


def resolve(options: ExtractOptions) -> tuple[ExtractOptions, dict[str, str]]:
    """The options without "auto"; "kind" and "sha256" of the weights, and "cudnn" and "gpu" of this machine.

    Raises:
        ConfigError: no such device or precision here. DataError: weights of another network than mc3_18.
    """
    from pipeline.backbone.weights import load_weights
    from pipeline.torch_device import resolve_precision

    device = devices.resolve_device(options.device)
    (precision, *others) = {resolve_precision(options.precision, name) for name in device.split(",")}
    if others:
        raise ConfigError("precision", "differs between the devices", got=options.precision, expected="fp32 or bf16")
    weights = weights_location(options.weights)
    batch = options.batch_clips or BATCH_CLIPS["cuda" if device.startswith("cuda") else "cpu"]
    options = replace(options, device=device, precision=precision, weights=weights, batch_clips=batch)
    return options, load_weights(weights, seed=options.seed).identity() | machine(device)


def machine(device: str) -> dict[str, str]:
    """The version of cuDNN and the name of the GPU, if tokens are computed on one: both decide their last bits."""
    import torch

    if not device.startswith("cuda"):
        return {}
    names = {torch.cuda.get_device_name(name) for name in device.split(",")}
    return {"cudnn": str(torch.backends.cudnn.version()), "gpu": ", ".join(sorted(names))}


def weights_location(weights: str) -> str:
    """A name of weights, or the absolute path of their file."""
    return weights if weights in ("random", "kinetics400") else str(Path(weights).resolve())


def resolve_here(_: int, options_json: str) -> dict[str, Any]:
    """`resolve` on a worker of a cluster, for a coordinator that may not have its devices."""
    options, weights = resolve(ExtractOptions(**json.loads(options_json)))
    return {"options": json.dumps(asdict(options)), "weights": weights}


def worker_computer(options: ExtractOptions, weights_sha256: str, threads: int) -> Compute:
    """The function by which this process computes tokens, on its own device; `threads` 0: its share of the cores.

    Raises:
        DataError: the weights differ from the coordinator's.
    """
    import torch

    torch.set_num_threads(threads or max(1, devices.cores() // devices.workers_on_this_host()))
    if options.device == "cpu":
        keep_freed_memory()
    return _loaded(options, weights_sha256)


# After a command a cluster's worker keeps the backbone and the memory that torch has reserved, until it computes with
# other options or ends: only the coordinator knows when a command ends, and it may have been killed.
@functools.lru_cache(maxsize=1)
def _loaded(options: ExtractOptions, weights_sha256: str) -> Compute:
    computer = computer_for(replace(options, device=devices.device_of_this_worker(options.device.split(","))))
    if computer.backbone.digest != weights_sha256:
        raise DataError(options.weights, "holds other weights on this worker than where the command was started")
    return computer.begin


def computer_for(options: ExtractOptions) -> TokenComputer:
    """Backbone and pooling on one device; raises what `resolve` does."""
    from pipeline.backbone.frozen import FrozenMC18
    from pipeline.extract.token_computer import TokenComputer

    backbone = FrozenMC18(
        options.weights,
        layers=(options.jm_layer, GG_LAYER),
        precision=options.precision,
        device=devices.resolve_device(options.device).split(",")[0],
        deterministic=options.deterministic,
        seed=options.seed,
    )
    return TokenComputer(backbone, jm_layer=options.jm_layer, sigma=options.sigma, normalize=options.normalize)


def keep_freed_memory() -> bool:
    """Let malloc take large buffers from the heap and never give the heap back; False where malloc is not glibc's.

    The process then keeps its peak memory. All threads share one heap: further heaps hold 64 MB at most, and are
    unmapped as soon as they are empty.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, musl for one
        return False
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_TRIM_THRESHOLD, MAX_THRESHOLD)
    return bool(mallopt(M_MMAP_THRESHOLD, MAX_THRESHOLD)) or bool(mallopt(M_MMAP_THRESHOLD, MAX_MMAP_THRESHOLD_BEFORE))

"""How a process computes tokens: options without "auto", the weights' identity, and its one TokenComputer.

In: ExtractOptions. Out: options as every worker follows them; in each worker the function that computes, loaded once
and never shipped. Imports torch inside its functions: a coordinator that refuses a command needs none.
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


NAMED_WEIGHTS = ("random", "kinetics400")
BATCH_CLIPS = {"cpu": 4, "cuda": 32}  # where none is asked for: a GPU wants thousands of frames' cells at a time
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
LARGEST_BEFORE = 2**25  # of the mmap threshold, in an older glibc


def resolve(options: ExtractOptions) -> tuple[ExtractOptions, dict[str, str]]:
    """The options as every worker is to follow them, and the "kind" and "sha256" of the weights.

    Raises:
        ConfigError: a device or precision that is not to be had here. DataError: weights that are not mc3_18's.
    """
    from pipeline.backbone.frozen import resolve_precision
    from pipeline.backbone.weights import load_weights

    device = devices.resolve_device(options.device)
    (precision, *others) = {resolve_precision(options.precision, name) for name in device.split(",")}
    if others:
        raise ConfigError("--precision", "differs between the devices", got=options.precision, expected="fp32 or bf16")
    weights = weights_location(options.weights)
    batch = options.batch_clips or BATCH_CLIPS["cuda" if device.startswith("cuda") else "cpu"]
    options = replace(options, device=device, precision=precision, weights=weights, batch_clips=batch)
    return options, load_weights(weights, seed=options.seed).identity()


def weights_location(weights: str) -> str:
    """A name of weights, or where their file lies, whatever the working directory of who reads it."""
    return weights if weights in NAMED_WEIGHTS else str(Path(weights).resolve())


def resolve_here(_: int, options_json: str) -> dict[str, Any]:
    """`resolve`, as a cluster's worker does it for a coordinator that may not have its devices."""
    options, weights = resolve(ExtractOptions(**json.loads(options_json)))
    return {"options": json.dumps(asdict(options)), "weights": weights}


def worker_computer(options: ExtractOptions, weights_sha256: str, threads: int) -> Compute:
    """How this process begins to compute tokens, on its own one of the devices; 0 `threads`: its share of the cores.

    Raises:
        DataError: the weights here are not those the coordinator saw.
    """
    import torch

    torch.set_num_threads(threads or max(1, devices.cores() // devices.workers_on_this_host()))
    if options.device == "cpu":
        keep_freed_memory()
    return _loaded(options, weights_sha256)


# A worker of a cluster keeps the backbone, and what torch has reserved of its device's memory, when a command is over,
# until it computes with other options or ends: only the coordinator knows of the end, and may be gone by then.
@functools.lru_cache(maxsize=1)
def _loaded(options: ExtractOptions, weights_sha256: str) -> Compute:
    computer = computer_for(replace(options, device=devices.device_of_this_worker(options.device.split(","))))
    if computer.backbone.digest != weights_sha256:
        raise DataError(options.weights, "holds other weights here than where the command was started")
    return computer.begin


def computer_for(options: ExtractOptions) -> TokenComputer:
    """Backbone and pooling as the options say, on one device.

    Raises:
        ConfigError: a device or precision that is not to be had here. DataError: weights that are not mc3_18's.
    """
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
    """Large buffers from the heap, which is not given back; False where malloc is not glibc's.

    The process then keeps as much memory as it once needed at a time. One heap for all threads: those of further
    heaps hold 64 MB at most, and are unmapped as soon as they are empty.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, musl for one
        return False
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) or bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BEFORE))


if TYPE_CHECKING:
    from pipeline.extract.values import Compute

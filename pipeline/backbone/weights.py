"""Weights of torchvision's `mc3_18`: by name, from a file, or random; checked before use and identified by a digest.

In: "kinetics400", "random" (with a seed) or the path of a state dict. Out: `Weights`: the float32 tensors of stem and
layers 1 to 4 on the CPU, under torchvision's names, their source and SHA-256. The classifier (`fc`) is left out: no
token depends on it. Weights that are not available are an error; others are never used instead.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor
from torchvision.models.video import MC3_18_Weights, mc3_18

from pipeline.artifacts.archives import UNREADABLE, load_tensors
from pipeline.errors import ArtifactError, DataError
from pipeline.records import keyed_rng

KINETICS400 = MC3_18_Weights.KINETICS400_V1
KINETICS400_SHA256 = "a90a0ba35ca1242d15b77511ff28bfb29cc596988b5ea36081042f8e2f54212b"

WRAPPERS = ("state_dict", "model_state_dict", "model")  # names under which training programs save a state dict
PREFIX = "module."  # of every name in a state dict of torch's DataParallel


@dataclass(frozen=True)
class Weights:
    """Tensors by torchvision's names, their SHA-256, and their source: "random", "kinetics400" (the published file, at
    any path) or "file" (any other)."""

    tensors: Mapping[str, Tensor] = field(repr=False)
    source: str
    digest: str

    def identity(self) -> dict[str, str]:
        """What a store records of them: no file name or path."""
        return {"kind": self.source, "sha256": self.digest}


def load_weights(weights: str | Path, *, seed: int = 0) -> Weights:
    """The weights, checked against the architecture.

    Args:
        weights: "kinetics400" (fetched once by torchvision, then read from torch's hub folder), "random", or a path
            to a state dict of `mc3_18`, with or without `fc`, in any floating type; also as training programs wrap it:
            under "state_dict" or "model", every name after "module.".
        seed: of "random" alone.

    Raises:
        DataError: the file is missing, unreadable, of another network, not finite, or cannot be fetched.
    """
    if weights == "random":
        tensors, source = random_state(seed), "random"
    elif weights == "kinetics400":
        tensors, source = _check_state(_fetch_kinetics400(), item="kinetics400"), "kinetics400"
    else:
        path = Path(weights)
        tensors = _check_state(_read_state(path), item=str(path))
        source = "kinetics400" if _sha256_of(path) == KINETICS400_SHA256 else "file"
    return Weights(tensors, source, weights_digest(tensors))


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, shape and little-endian float32 bytes of each tensor, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().float().contiguous().numpy().astype("<f4", copy=False)
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def expected_shapes() -> dict[str, torch.Size]:
    """Names and shapes of stem and layers 1 to 4, in the order of torchvision's own state dict."""
    with torch.device("meta"):
        state = mc3_18().state_dict()
    return {name: value.shape for name, value in state.items() if not _ignored(name)}


def random_state(seed: int) -> dict[str, Tensor]:
    """Weights from torchvision's initial distribution: N(0, 2 / fan_out) for kernels, the identity for BatchNorm.

    Each tensor has its own generator, keyed by seed and name, in float64: the same values on every machine and version
    of torch, and torch's global generator is left alone.
    """
    state = {}
    for name, shape in expected_shapes().items():
        if len(shape) == 5:
            fan_out = shape[0] * math.prod(shape[2:])
            values = keyed_rng(seed, "mc3_18", name).standard_normal(shape) * math.sqrt(2 / fan_out)
        else:
            values = np.full(shape, 1.0 if name.endswith((".weight", ".running_var")) else 0.0)
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def _ignored(name: str) -> bool:
    return name.startswith("fc.") or name.endswith(".num_batches_tracked")


def _check_state(state: Mapping[str, Tensor], *, item: str) -> dict[str, Tensor]:
    """The tensors of the trunk as float32; DataError about the first that is missing, unexpected or unfit."""
    remedy = "give the state dict of torchvision's mc3_18"
    shapes = expected_shapes()
    for name, shape in shapes.items():
        if name not in state:
            raise DataError(item, f"weights of another network: {name} is missing", remedy=remedy)
        if state[name].shape != shape:
            got, expected = tuple(state[name].shape), tuple(shape)
            raise DataError(
                item, f"weights of another network: {name} differs", got=got, expected=expected, remedy=remedy
            )
    for name in state:
        if name not in shapes and not _ignored(name):
            raise DataError(item, f"weights of another network: {name[:100]} is unexpected", remedy=remedy)
        if name in shapes and not state[name].is_floating_point():
            raise DataError(item, f"{name} holds no fractions", got=state[name].dtype, remedy=remedy)
    checked = {name: state[name].detach().float().clone() for name in shapes}
    for name, value in checked.items():
        if not value.isfinite().all() or (name.endswith(".running_var") and bool((value < 0).any())):
            raise DataError(item, f"{name} has invalid values", got="NaN, infinite or negative")
    return checked


def _read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in the file; only tensors are unpickled."""
    remedy = "give 'kinetics400', 'random', or a file written by torch.save(model.state_dict(), FILE)"
    if not path.is_file():
        raise DataError(path, "no such weights", remedy=remedy)
    try:
        state = unwrapped(load_tensors(path, before_2020=True))
    except (OSError, ArtifactError, *UNREADABLE) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(path, "cannot be read as weights", got=cause[:200], remedy=remedy) from error
    if not isinstance(state, dict) or not all(isinstance(n, str) and isinstance(v, Tensor) for n, v in state.items()):
        raise DataError(
            path, "is not a state dict", got=type(state).__name__, expected="names and tensors", remedy=remedy
        )
    return state


def unwrapped(state: object) -> object:
    """The state dict in what training programs save around it."""
    while isinstance(state, dict):
        inside = [state[name] for name in WRAPPERS if isinstance(state.get(name), dict)]
        if not inside:
            break
        state = inside[0]
    if isinstance(state, dict) and state and all(str(name).startswith(PREFIX) for name in state):
        state = {str(name).removeprefix(PREFIX): value for name, value in state.items()}
    return state


def _fetch_kinetics400() -> dict[str, Tensor]:
    """torchvision's file, fetched by torchvision's loader; its full SHA-256 is checked at each use."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(KINETICS400.url).name)
    if not path.is_file():
        try:
            KINETICS400.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
        except (URLError, OSError, RuntimeError) as error:
            raise DataError(
                KINETICS400.url,
                "the Kinetics-400 weights cannot be fetched",
                got=str(error),
                remedy=f"fetch the file on another machine and put it at {path}, or set `weights` to a file or random",
            ) from error
    got, expected = _sha256_of(path), KINETICS400_SHA256
    if got != expected:
        raise DataError(path, "is not the published file", got=got, expected=expected, remedy="delete it and try again")
    return _read_state(path)


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Checkpoints of a training run: RUN/checkpoint-*.pt, each whole or absent.

In: a `Checkpoint`. Out: files that `torch.load(..., weights_only=True)` reads: plain values and tensors. All randomness
of training is keyed by (seed, step), so no other random state is saved, and the step is the position in the data.
Independent of models and stores.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts.files import write_atomic
from pipeline.errors import ArtifactError, CorruptError

FORMAT = "star-run/3"
_UNREADABLE = (
    RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
KEPT_CHECKPOINTS = 2  # the newest, and the one before it in case of a bad disk


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything needed to resume a run.

    Attributes:
        step: steps done, which is also the index of the next step. seed: of all randomness.
        config: of the run (`star.config.text.to_dict`). model_config: its model's, with the store's sizes.
        store: see `star.runs.store_identity.run_inputs`.
        class_names: by label.
        model, optimizer: state dicts. average: moving average of the weights by name, empty without one.
    """

    step: int
    seed: int
    config: dict[str, Any]
    model_config: dict[str, Any]
    store: dict[str, Any]
    class_names: list[str]
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    average: dict[str, Tensor]


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, then remove all but the newest two.

    Raises:
        ArtifactError: the disk is full or cannot be written; earlier checkpoints are intact.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **vars(checkpoint)}, buffer)
    path = run / f"checkpoint-{checkpoint.step:08d}.pt"
    write_atomic(path, buffer.getbuffer())
    for old in checkpoints(run)[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(run.glob("checkpoint-*.pt"))


def load_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, on the CPU; None where there is none.

    Raises:
        ArtifactError: the file cannot be read. CorruptError: it is damaged, or of another format.
    """
    found = checkpoints(run)
    if not found:
        return None
    try:
        data = io.BytesIO(found[-1].read_bytes())
        with zipfile.ZipFile(data) as archive:  # torch does not check its checksums
            if archive.testzip() is not None:
                raise ValueError("it does not match its checksums")
        data.seek(0)
        state = torch.load(data, map_location="cpu", weights_only=True)
        if state.pop("format") != FORMAT:
            raise ValueError("another format")
        return Checkpoint(**state)
    except OSError as error:
        raise ArtifactError(
            found[-1], f"cannot be read ({error.strerror})", remedy="make it readable and run the same command again"
        ) from error
    except _UNREADABLE as error:
        before = "the run resumes from the checkpoint before it" if len(found) > 1 else "the run starts again"
        raise CorruptError(
            found[-1],
            f"cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''})",
            expected=f"a checkpoint of format {FORMAT}",
            remedy=f"restore it from a copy, or delete this file: {before}",
        ) from error

"""Checkpoints of a training run: RUN/checkpoint-*.pt, each whole or absent.

In: a `Checkpoint`. Out: files that `torch.load(..., weights_only=True)` reads: plain values and tensors. All randomness
of training is keyed by (seed, step), so no other random state is saved, and the step is the position in the data.
Independent of models and stores.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts.archives import UNREADABLE, load_tensors
from pipeline.artifacts.files import write_atomic
from pipeline.artifacts.schema import check, each, names, sha256_hex, whole
from pipeline.errors import ArtifactError, CorruptError

FORMAT = "star-run/5"
_SPLIT = {"count": whole(), "sha256": sha256_hex, "content": sha256_hex}
_IDENTITY = {"url": str, "fingerprint": sha256_hex, "made_from": dict, "dataset": str, "protocol": str}


def _sides(schema: Any, *needed: str) -> Callable[[Any], bool]:
    """A schema for objects of one schema for each side of a run: `needed` ones, and "val" where a run has it."""
    of_each = each(schema)

    def check_sides(value: Any) -> bool:
        return of_each(value) and value.keys() - {"val"} == set(needed)

    check_sides.__doc__ = f"an object of {', '.join(needed)} and perhaps val"
    return check_sides


def _store(*needed: str) -> dict[str, Any]:
    return {**_IDENTITY, "views": _sides([whole()], *needed), "clips": _sides(_SPLIT, *needed)}


STORE = {**_store("train", "test"), "content_digest": sha256_hex}  # of config.json: `run_inputs`
CHECKPOINT = {
    "step": whole(), "seed": whole(), "config": dict, "model_config": dict, "store": _store("train"),
    "class_names": names, "model": dict, "optimizer": {"state": dict, "param_groups": [{"params": [whole()]}]},
    "average": dict,
}  # fmt: skip
KEPT_CHECKPOINTS = 2  # the newest, and the one before it in case of a bad disk


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything needed to resume a run.

    Attributes:
        step: steps done, which is also the index of the next step. seed: of all randomness.
        config: of the run (`star.config.text.to_dict`). model_config: its model's, with the store's sizes.
        store: see `star.runs.store_identity.trained_on`: nothing in a checkpoint depends on test clips.
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
        try:
            old.unlink(missing_ok=True)
        except OSError as error:  # a folder of that name, say
            raise ArtifactError(old, f"cannot be deleted ({error.strerror})", remedy="delete it") from error
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
        return _checked(load_tensors(found[-1], root=run), found[-1])
    except OSError as error:
        raise ArtifactError(
            found[-1], f"cannot be read ({error.strerror})", remedy="make it readable and run the same command again"
        ) from error
    except UNREADABLE as error:
        before = "the run resumes from the checkpoint before it" if len(found) > 1 else "the run starts again"
        raise CorruptError(
            found[-1],
            f"cannot be read ({type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''})",
            expected=f"a checkpoint of format {FORMAT}",
            remedy=f"restore it from a copy, or delete this file: {before}",
        ) from error


def _checked(state: Any, path: Path) -> Checkpoint:
    """Raises ValueError or CorruptError where `state` is not what `save_checkpoint` writes."""
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise ValueError("another format")
    check(state, CHECKPOINT, path)
    if state.keys() != {field.name for field in fields(Checkpoint)}:
        raise ValueError("other names than a checkpoint's")
    for name in ("model", "average"):
        if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state[name].items()):
            raise ValueError(f"{name} holds something else than tensors")
    if any(value.shape != getattr(state["model"].get(name), "shape", None) for name, value in state["average"].items()):
        raise ValueError("the averaged weights are of another model")
    return Checkpoint(**state)

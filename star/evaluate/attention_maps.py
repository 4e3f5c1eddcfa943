"""Attention maps: attention received by each frame, and attention of the class tokens to joints and grid cells.

In: a model and a batch. Out: shares as numpy arrays, for `star.report.figures`. Only this module requests attention
weights, which take T²S² memory: pass few clips at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.store.token_store import TokenStore
from star.batch import Batch
from star.config.options import ModelConfig
from star.data.frames import thinned, thinned_joints
from star.model import StarTransformer
from star.runs.run import Run


def has_attention(config: ModelConfig) -> bool:
    """Whether a model has attention modules: it is not a baseline and has at least one layer."""
    return config.kind == "star" and config.encoder_depth + config.decoder_depth > 0


def attention_in_run(
    run: Run, rows: Sequence[int], *, store: TokenStore | None = None, view: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Attention by frame of a run's newest model, for some rows of its store.

    Returns:
        The numbers (t,) of the store's frames that the run uses (every `data.frame_step`-th, or the first of
        those that are averaged), and `attention_by_frame`
        over them: {"encoder 1 full": (B, t), ...}.

    Raises:
        ConfigError: the run's model has no attention modules. Else as `Run.model` and `TokenStore.read`.
    """
    model, frames, clips = _clips_of_run(run, rows, store, view)
    found = [attention_by_frame(model, clip) for clip in clips]
    return frames, {name: np.concatenate([each[name] for each in found]) for name in model.module_names}


def class_attention_in_run(
    run: Run, rows: Sequence[int], *, store: TokenStore | None = None, view: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Attention of the class tokens of a run's newest model, the mean over its modules; errors as `attention_in_run`.

    Returns:
        The numbers (t,) of the store's frames, and {"joints": (B, t, V), "cells": (B, t, P)}, as far as the model uses
        these tokens.
    """
    model, frames, clips = _clips_of_run(run, rows, store, view)
    found = [list(class_attention(model, clip).values()) for clip in clips]
    kinds = found[0][0] if found else {}
    return frames, {
        kind: np.concatenate([np.mean([module[kind] for module in modules], axis=0) for modules in found])
        for kind in kinds
    }


def _clips_of_run(
    run: Run, rows: Sequence[int], store: TokenStore | None, view: int
) -> tuple[StarTransformer, np.ndarray, list[Batch]]:
    """The run's model, the frames that it uses, and each clip as a batch of one."""
    model = run.model()
    if not isinstance(model, StarTransformer) or not has_attention(run.config.model):
        raise ConfigError(run.path, "has no attention to show", got=f"model.kind={run.config.model.kind}")
    opened = store if store is not None else TokenStore.open(run.store["url"])
    step, mean = run.config.data.frame_step, run.config.data.frame_mean
    clips = []
    for row in rows:
        read = opened.read([row], view=view)
        kept = thinned(read.gg, step, mean=mean), *thinned_joints(read.jm, read.joint_mask, step, mean=mean)
        gg, jm, joint_mask = map(torch.from_numpy, kept)
        clips.append(Batch(gg, jm, joint_mask, torch.from_numpy(read.labels), torch.as_tensor([row])))
    return model, np.arange(0, opened.sizes.frames, step), clips


def attention_by_frame(model: StarTransformer, batch: Batch) -> dict[str, np.ndarray]:
    """{"encoder 1 full": (B, T), ...}: the share of a clip's attention that each frame receives; it sums to one.

    The mean over heads and over all queries. In zigzag and binary attention only the other group attends to a frame, so
    shares are comparable within a group only.
    """
    return {name: weights.mean(dim=(1, 2, 3)).sum(dim=-1).numpy() for name, weights in _weights(model, batch)}


def class_attention(model: StarTransformer, batch: Batch) -> dict[str, dict[str, np.ndarray]]:
    """{"encoder 1 full": {"joints": (B, T, V), "cells": (B, T, P)}, ...}: attention of the class tokens.

    The mean over heads and over all class tokens of all frames; the remainder to one goes to class tokens. A model
    without GG tokens has no "cells", one without JM tokens no "joints".
    """
    config, slots = model.config, model.tokens.class_slots
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, weights in _weights(model, batch):
        received = weights[:, :, :, slots].mean(dim=(1, 2, 3))  # (B, T, S)
        parts, at = {}, 0
        if config.uses_gg:
            parts["cells"], at = received[:, :, 1 : 1 + config.cells].numpy(), 1 + config.cells
        if config.uses_jm:
            parts["joints"] = received[:, :, at + 1 : at + 1 + config.joints].numpy()
        found[name] = parts
    return found


def _weights(model: StarTransformer, batch: Batch) -> list[tuple[str, Tensor]]:
    """Each module's (B, heads, T, S, T, S), on the CPU; the model's mode does not change."""
    device, was_training = next(model.parameters()).device, model.training
    weights: list[Tensor] = []
    model.eval()
    with torch.no_grad():
        model(batch.to(device), weights=weights)
    model.train(was_training)
    return list(zip(model.module_names, (tensor.cpu() for tensor in weights), strict=True))

"""Pictures of a run's attention for its page: over time, and that of the class tokens on frames.

In: a run, its store, its scores, and the prepared folder of the store. Out: `star.report.html.Illustration`s. Only this
and `cli.pictures.demo` join a model with frames. Drawing is in `star.report.figures`.
"""

from __future__ import annotations

import numpy as np

from cli.pictures.frames import frames_of
from pipeline import manifest
from pipeline.prepare.folder import PreparedFolder
from pipeline.records import evenly_spread
from pipeline.store.token_store import TokenStore
from star.evaluate.attention_maps import attention_in_run, class_attention_in_run
from star.evaluate.metrics import predictions
from star.evaluate.scores import Scores
from star.report.figures import attention_figure, class_attention_figure
from star.report.html import Illustration
from star.runs.run import Run

ATTENDED = 32  # evenly spread clips whose attention is averaged: a stable mean in seconds
CLIPS_PER_VERDICT = 2  # right clips, and wrong ones
FRAMES_SHOWN = 8


def over_time(run: Run, store: TokenStore, scores: Scores) -> Illustration:
    """The share of the attention that each frame receives, a line for each module."""
    indices = evenly_spread(len(scores.labels), ATTENDED)
    frames, received = attention_in_run(run, store.rows_of(scores.clip_ids[indices]), store=store)
    return Illustration(
        heading="Attention over time",
        caption=f"The share of the attention that each frame receives, in the mean over {len(indices)} clips of the "
        "split, over heads and over all query tokens. Frames are those of the store, the first is 1. "
        "Dotted: every frame alike.",
        figure=attention_figure({name: shares.mean(axis=0) for name, shares in received.items()}, frames=frames),
    )


def on_frames(run: Run, store: TokenStore, folder: PreparedFolder, scores: Scores) -> Illustration:
    """Strips of frames of a few clips, right and wrong ones, with the attention of the class tokens."""
    indices = _chosen(scores)
    rows = store.rows_of(scores.clip_ids[indices])
    frames, shares = class_attention_in_run(run, rows, store=store)
    _, received = attention_in_run(run, rows, store=store)
    by_frame = np.mean(list(received.values()), axis=0)  # (B, t)
    shown = evenly_spread(len(frames), FRAMES_SHOWN)
    predicted = predictions(scores.probabilities)
    cells, joint_shares = shares.get("cells"), shares.get("joints")
    side = 0 if cells is None else round(cells.shape[-1] ** 0.5)
    clips = [
        {
            "name": scores.class_names[scores.labels[index]],
            "predicted": scores.class_names[predicted[index]],
            "attention": by_frame[i, shown],
            "frames": frames_of(store, folder, rows[i])[frames[shown]],
            "joints": store.joints_of(rows[i], 0)[:, frames[shown]],
            "cells": None if cells is None else cells[i, shown].reshape(-1, side, side),
            "joint_shares": None if joint_shares is None else joint_shares[i, shown],
        }
        for i, index in enumerate(indices)
    ]
    descriptions = {"cells": "grid cells (shaded where above the strip's mean)", "joints": "joints (area of the dots)"}
    targets = " and ".join(descriptions[name] for name in sorted(shares))
    return Illustration(
        heading="Attention on frames",
        caption=f"The attention of the class tokens to {targets}, in the mean over all modules; the bar under a frame "
        "is the attention that the whole frame receives. Shown are the clips of which "
        "the model is surest among those that it gets right, and among those that it gets wrong.",
        figure=class_attention_figure(clips, bones=manifest.topology(store.attrs["topology"]).bones),
    )


def _chosen(scores: Scores) -> np.ndarray:
    """Indices of the most confident right clips, each of another class, then of the most confident wrong ones."""
    order = np.argsort(-scores.probabilities.max(axis=1), kind="stable")
    found: list[int] = []
    for right in (True, False):
        indices = order[scores.right[order] == right]
        _, first = np.unique(scores.labels[indices], return_index=True)
        found += indices[np.sort(first)][:CLIPS_PER_VERDICT].tolist()
    return np.asarray(found)

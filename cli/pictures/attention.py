"""Where a run looks, as pictures for its page: attention over time, and of the class tokens laid on frames.

In: a run, its store, its scores, and the prepared folder behind the store. Out: `star.report.Picture`s. Beside
`cli.pictures.demo` the one place where a model meets frames. All drawing is `star.report.figures`.
"""

from __future__ import annotations

from typing import Any

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

ATTENDED = 32  # clips, evenly spread, whose attention is averaged: a steady mean, and seconds
SHOWN = 2  # clips of each, right and wrong
FRAMES_SHOWN = 8


def over_time(run: Run, store: TokenStore, scores: Scores) -> Illustration:
    """The share of the attention that each frame receives, a line for each module."""
    places = evenly_spread(len(scores.labels), ATTENDED)
    frames, received = attention_in_run(run, store.rows_of(scores.clip_ids[places]), store=store)
    return Illustration(
        heading="Attention over time",
        caption=f"The share of the attention that each frame receives, in the mean over {len(places)} clips of the "
        "split, over heads and over all tokens that ask. Frames are those of the store, the first is 1. "
        "Dotted: every frame alike.",
        figure=attention_figure({name: shares.mean(axis=0) for name, shares in received.items()}, frames=frames),
    )


def on_frames(run: Run, store: TokenStore, folder: PreparedFolder, scores: Scores) -> Illustration:
    """Strips of frames of a few clips, right and wrong ones, with what the class tokens look at."""
    places = _chosen(scores)
    rows = store.rows_of(scores.clip_ids[places])
    frames, looks = class_attention_in_run(run, rows, store=store)
    _, received = attention_in_run(run, rows, store=store)
    by_frame = np.mean(list(received.values()), axis=0)  # (B, t)
    shown = evenly_spread(len(frames), FRAMES_SHOWN)
    said = predictions(scores.probabilities)
    clips = [
        {
            "name": scores.class_names[scores.labels[place]],
            "predicted": scores.class_names[said[place]],
            "attention": by_frame[i, shown],
            **_strip(store, folder, rows[i], frames[shown], {kind: share[i, shown] for kind, share in looks.items()}),
        }
        for i, place in enumerate(places)
    ]
    words = {"cells": "grid cells (shaded where above the strip's mean)", "joints": "joints (the area of the dots)"}
    kinds = " and ".join(words[kind] for kind in sorted(looks))
    return Illustration(
        heading="Where it looks",
        caption=f"The attention of the class tokens to {kinds}, in the mean over all modules; the bar under a frame "
        "is the attention that the whole frame receives. Shown are the clips of which "
        "the model is surest among those that it gets right, and among those that it gets wrong.",
        figure=class_attention_figure(clips, bones=manifest.topology(store.attrs["topology"]).bones),
    )


def _chosen(scores: Scores) -> np.ndarray:
    """Places of the surest right clips, each of another class, then of the surest wrong ones."""
    surest = np.argsort(-scores.probabilities.max(axis=1), kind="stable")
    found: list[int] = []
    for right in (True, False):
        places = surest[scores.right[surest] == right]
        _, first = np.unique(scores.labels[places], return_index=True)
        found += places[np.sort(first)][:SHOWN].tolist()
    return np.asarray(found)


def _strip(
    store: TokenStore, folder: PreparedFolder, row: int, frames: np.ndarray, looks: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Pictures, joints and attention of a clip at some of the store's frames; cells as a grid."""
    cells = looks.get("cells")
    side = 0 if cells is None else round(cells.shape[-1] ** 0.5)
    return {
        "frames": frames_of(store, folder, row)[frames],
        "joints": store.joints_of(row, 0)[:, frames],
        "cells": None if cells is None else cells.reshape(-1, side, side),
        "joint_shares": looks.get("joints"),
    }

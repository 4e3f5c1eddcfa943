"""The demo's picture: frames, heatmaps, attention and scores on one page.

In: a run on a synthetic store and its prepared folder. Out: a PNG. Drawing is in `star.report.figures`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cli.pictures.frames import frames_of, prepared_of
from pipeline import manifest
from pipeline.artifacts.files import write_atomic
from pipeline.heatmaps import joint_heatmaps, to_cells
from pipeline.store.token_store import TokenStore
from star.evaluate.attention_maps import attention_in_run
from star.evaluate.metrics import predictions
from star.report.figures import demo_figure, png

if TYPE_CHECKING:
    from pipeline.prepare.folder import PreparedFolder
    from star.evaluate.scores import Scores
    from star.runs.run import Run

# Actions to draw, where the test split has them: a pair that differs in a thing, and one in the order of time.
DEMO_ACTIONS = ("point at a ball", "point at a box", "sit down", "stand up")
FRAMES_SHOWN = 8
HEATMAP_STRIDE = 2  # of layer1, from which the demo's tokens are


def demo_picture(path: Path, *, run: Run, scores: Scores, prepared: Path) -> None:
    """Write the picture: two pairs of test clips with joints and heatmaps, the training curve, confusion, attention."""
    store = TokenStore.open(run.store["url"])
    folder = prepared_of(store, prepared)
    chosen = _chosen(scores)
    rows = store.rows_of(scores.clip_ids[chosen])
    frames, received = attention_in_run(run, rows, store=store)
    total = store.sizes.frames
    shown = np.arange(0, total, max(1, total // FRAMES_SHOWN))
    group = np.searchsorted(frames, shown, side="right") - 1  # the model's frame that each of them is part of
    predicted = predictions(scores.probabilities)
    clips = []
    for clip, (i, row) in enumerate(zip(chosen, rows, strict=True)):
        by_frame = np.mean([share[clip] for share in received.values()], axis=0)
        strip = _strip(store, folder, row, shown)
        strip["attention"] = by_frame[group]
        strip["name"] = scores.class_names[scores.labels[i]]
        strip["predicted"] = scores.class_names[predicted[i]]
        clips.append(strip)
    model = run.config.model
    figure = demo_figure(
        clips=clips,
        metrics=run.metrics(),
        counts=scores.confusion,
        class_names=scores.class_names,
        received={name: share.mean(axis=0) for name, share in received.items()},
        frames=frames,
        bones=manifest.topology(store.attrs["topology"]).bones,
        title=f"STAR-Transformer on the synthetic set: {100 * scores.top1:.1f} % of {len(scores.labels)} clips",
        subtitle=f"unseen subjects; {model.tokens.upper()} tokens of a random-weight MC3-18, width {model.width}; "
        "frames with joints and one joint's heatmap, the bars show the attention that each frame receives",
    )
    write_atomic(path, png(figure))


def _chosen(scores: Scores) -> list[int]:
    """One test clip of each action to draw, a correctly classified one if possible."""
    names = [name for name in DEMO_ACTIONS if name in scores.class_names] or list(scores.class_names[:3])
    found = []
    for name in names:
        here = np.flatnonzero(scores.labels == scores.class_names.index(name))
        if len(here):
            found.append(int(here[np.argmax(scores.right[here])]))
    return found or [0]


def _strip(store: TokenStore, folder: PreparedFolder, row: int, shown: np.ndarray) -> dict[str, Any]:
    """Frames, joints and heatmaps of view 0 of a clip, at the frames to draw."""
    joints = store.joints_of(row, 0)
    crop = store.attrs["made_from"]["crop"]
    size = (crop // HEATMAP_STRIDE, crop // HEATMAP_STRIDE)
    visible = np.isfinite(joints).all(axis=-1)
    heatmaps = joint_heatmaps(to_cells(joints, HEATMAP_STRIDE), visible, size=size, sigma=2.0)
    hand = store.attrs["joint_names"].index("right hand") if "right hand" in store.attrs["joint_names"] else 0
    return {
        "frames": frames_of(store, folder, row)[shown],
        "joints": joints[:, shown],
        "heatmap": np.asarray(heatmaps)[shown, hand],
    }

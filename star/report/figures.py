"""Figures of a run, from arrays: training curve, confusion, attention by frame and on frames, the demo's page.

In: numpy arrays and plain values. Out: matplotlib Figures, or PNG bytes (`png`). Object-oriented matplotlib on the Agg
canvas: no pyplot, no state, no display. Decodes nothing and runs no model.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from star.report.panels import (
    INK,
    PAPER,
    draw_attention,
    draw_comparison,
    draw_confusion,
    draw_curve,
    draw_strip,
    label_size,
    short_names,
)

PANEL = 3.3  # inches: height of the demo's lower panels, and side of its confusion matrix


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG file's bytes. Names are shown as they are: a "$" in one begins no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def curve_figure(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Training loss, validation accuracy over the epochs and test accuracy at the end, from a run's metrics.jsonl."""
    figure = Figure(figsize=(6.4, 3.6), facecolor=PAPER)
    axes = figure.add_subplot()
    draw_curve(axes, metrics)
    axes.set_title("", loc="left")  # the page has a heading over it
    figure.subplots_adjust(0.1, 0.14, 0.88, 0.96)
    return figure


def confusion_figure(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Counts (A, A), rows the true class; the figure grows with the number of classes."""
    side = max(2.4, (0.26 if len(class_names) <= 30 else 0.15) * len(class_names))
    # inches of the longest label, at 0.6 of its font size a letter; labels below the matrix are rotated
    label = 0.6 / 72 * label_size(class_names, side=side) * max(map(len, short_names(class_names)))
    left, below = label + 0.5, 0.8 * label + 0.5
    width, height = left + side + 0.3, below + side + 0.5
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    axes = figure.add_axes((left / width, below / height, side / width, side / height))
    draw_confusion(axes, counts, class_names, side=side)
    return figure


def attention_figure(received: Mapping[str, np.ndarray], *, frames: np.ndarray) -> Figure:
    """Share of attention that each frame receives, a line for each module: {"encoder 1 full": (t,), ...}.

    `frames` (t,): their numbers in the store, from 0; a model may use every second one only.
    """
    figure = Figure(figsize=(6.4, 3.6), facecolor=PAPER)
    axes = figure.add_subplot()
    draw_attention(axes, received, frames)
    axes.set_title("", loc="left")
    figure.subplots_adjust(0.1, 0.14, 0.7, 0.96)
    return figure


def comparison_figure(labels: Sequence[str], values: Sequence[Sequence[float]], *, title: str) -> Figure:
    """Validation accuracy of several seeds for each label: a bar to their mean, a dot for each; the first on top."""
    width, height = 7.2, 1.3 + 0.42 * len(labels)
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    axes = figure.add_axes((2.5 / width, 0.6 / height, 4.3 / width, 1 - 1.1 / height))
    draw_comparison(axes, labels, values, title)
    return figure


def class_attention_figure(clips: Sequence[Mapping[str, Any]], *, bones: Sequence[tuple[int, int]]) -> Figure:
    """Strips of frames, one below the other, with the attention of the class tokens drawn on the frames.

    Args:
        clips: one or more of {"name": str, "predicted": str, "frames": (n, H, W, 3) uint8, "joints": (M, n, V, 2)
            pixels with NaN where absent, "cells": (n, h, w) shares or None, "joint_shares": (n, V) or None,
            "attention": (n,) or None}; equal n. The area of a joint's dot is its share of the strip's
            largest; cells above the strip's mean are shaded, up to its largest.
        bones: pairs of joint numbers.
    """
    figure = Figure(figsize=(15, 0.25 + 1.95 * len(clips)), facecolor=PAPER)
    height = figure.get_figheight()
    bands = figure.add_gridspec(
        len(clips), 1, left=0.01, right=0.995, top=1 - 0.08 / height, bottom=0.17 / height, hspace=0.14
    )
    for i, clip in enumerate(clips):
        cells, joints = clip["cells"], clip["joint_shares"]
        scaled = {
            "heatmap": None if cells is None else _above_mean(cells),
            "joint_shares": None if joints is None else joints / joints.max(),
        }
        draw_strip(figure, bands[i], {**clip, **scaled}, bones)
    return figure


def _above_mean(shares: np.ndarray) -> np.ndarray:
    """0 up to the mean, 1 at the largest; else uniform attention would shade whole pictures."""
    mean = shares.mean()
    return np.clip((shares - mean) / max(shares.max() - mean, 1e-12), 0, 1)


def demo_figure(
    *,
    clips: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    counts: np.ndarray,
    class_names: Sequence[str],
    received: Mapping[str, np.ndarray],
    frames: np.ndarray,
    bones: Sequence[tuple[int, int]],
    title: str,
    subtitle: str = "",
) -> Figure:
    """The whole demo on one page: strips of frames, then training curve, confusion matrix and attention over time.

    Args:
        clips: one to four of {"name": str, "frames": (n, H, W, 3) uint8, "joints": (M, n, V, 2) pixels with NaN where
            absent, "heatmap": (n, h, w) of 0 to 1 or None, "attention": (n,) or None, "predicted": str}; equal n, 4 to
            8 are best.
        metrics: the lines of metrics.jsonl. counts: (A, A), rows the true class. class_names: by label.
        received, frames: see `attention_figure`. bones: pairs of joint numbers. title, subtitle: text at the top.
    """
    strips = len(clips)
    figure = Figure(figsize=(15, 5.3 + 2.0 * strips), facecolor=PAPER)
    height = figure.get_figheight()
    figure.text(0.03, 1 - 0.36 / height, title, size=19, weight="bold", color=INK, va="center")
    figure.text(0.03, 1 - 0.72 / height, subtitle, size=11, color="#52606d", va="center")
    rows = figure.add_gridspec(
        2, 1, height_ratios=[2.0 * strips, PANEL], left=0.03, right=0.985, top=1 - 1.05 / height, bottom=1.55 / height,
        hspace=0.75 / (strips + 1.65),
    )  # fmt: skip
    bands = rows[0].subgridspec(strips, 1, hspace=0.14)
    for i, clip in enumerate(clips):
        draw_strip(figure, bands[i], clip, bones)
    below = rows[1].subgridspec(1, 3, width_ratios=[1.15, 1.0, 1.3], wspace=0.5)
    draw_curve(figure.add_subplot(below[0]), metrics)
    draw_confusion(figure.add_subplot(below[1]), counts, class_names, side=PANEL)
    draw_attention(figure.add_subplot(below[2]), received, frames)
    # left edge and width of curve (two axes), confusion matrix and attention, as shares of the figure: the panels'
    # labels need more margin than the strips of frames
    positions = [(0.055, 0.2), (0.055, 0.2), (0.435, PANEL / figure.get_figwidth()), (0.725, 0.15)]
    for axes, (x, width) in zip(figure.axes[-4:], positions, strict=False):
        box = axes.get_position()
        axes.set_position((x, box.y0, width, box.height))
    return figure

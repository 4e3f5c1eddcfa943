"""Panels of figures, each drawn into given axes.

In: matplotlib Axes and numpy arrays. Out: nothing; the axes hold the drawing. The palette is safe for colour-blind
readers, and a colour has the same meaning in every panel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.errors import printable

INK, FAINT, PAPER = "#1f2933", "#9aa5b1", "#ffffff"
BLUE, ORANGE, GREEN, RED, PURPLE, YELLOW = "#0072b2", "#d55e00", "#009e73", "#cc3311", "#7b5ea7", "#e69f00"
PERSONS = ("#22d3ee", "#f472b6", "#a3e635")  # light, to be visible on dark frames
SIDES = {"val": "validation", "test": "test"}
LARGEST_DOT = 60  # points²
KIND_COLOURS = {"full": BLUE, "zigzag": ORANGE, "binary": GREEN}
BLUES = LinearSegmentedColormap.from_list("paper to blue", [PAPER, "#bcdcef", BLUE, "#003f63"])
HEAT = LinearSegmentedColormap.from_list("clear to orange", [(1, 0.6, 0, 0.0), (1, 0.55, 0, 0.65), (1, 0.9, 0.2, 0.85)])


def draw_strip(figure: Figure, band: SubplotSpec, clip: Mapping[str, Any], bones: Sequence[tuple[int, int]]) -> None:
    """A clip's frames side by side with heatmap and joints; a bar under each shows the attention it receives."""
    frames = clip["frames"]
    cells = band.subgridspec(1, len(frames) + 1, width_ratios=[0.95, *[1] * len(frames)], wspace=0.05)
    text = figure.add_subplot(cells[0])
    text.axis("off")
    right = clip["predicted"] == clip["name"]
    text.text(0.0, 0.62, _wrapped(clip["name"], 15), size=13, weight="bold", color=INK, va="center")
    verdict = "recognised" if right else f"taken for\n{_wrapped(clip['predicted'], 16)}"
    text.text(0.0, 0.3, verdict, size=10.5, color=GREEN if right else RED, va="center")
    attention = clip.get("attention")
    for t, frame in enumerate(frames):
        axes = figure.add_subplot(cells[t + 1])
        heatmap, shares = (None if clip.get(name) is None else clip[name][t] for name in ("heatmap", "joint_shares"))
        draw_frame(axes, frame, clip["joints"][:, t], bones, heatmap, shares)
        if attention is not None:
            _attention_bar(axes, float(attention[t]) / float(np.max(attention)))


def draw_frame(
    axes: Axes,
    frame: np.ndarray,
    joints: np.ndarray,
    bones: Sequence[tuple[int, int]],
    heatmap: np.ndarray | None,
    joint_shares: np.ndarray | None = None,
) -> None:
    """One frame (H, W, 3), a map (h, w) of 0 to 1 laid over it, and skeletons (M, V, 2) drawn in.

    `joint_shares` (V,) of 0 to 1: the area of each joint's dot.
    """
    height, width = frame.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(frame, extent=extent, interpolation="bilinear")
    if heatmap is not None:
        axes.imshow(heatmap, extent=extent, cmap=HEAT, vmin=0.15, vmax=1)
    for person, colour in zip(joints, PERSONS, strict=False):
        lines = [person[[a, b]] for a, b in bones if np.isfinite(person[[a, b]]).all()]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.3, capstyle="round"))
        if joint_shares is None:
            axes.plot(*person.T, ".", ms=3.2, color="white", mec=colour, mew=0.7)
        else:
            x, y = person.T
            axes.scatter(x, y, s=LARGEST_DOT * joint_shares, color=YELLOW, ec="white", lw=0.6, zorder=3)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_curve(axes: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Loss (each line faint, the mean of each epoch strong) on the left axis; on the right one validation accuracy, and
    test accuracy as the one point that it is."""
    losses = [(line["step"], line["epoch"], line["loss"]) for line in metrics if "loss" in line]
    scored = {
        split: [(line["step"], line["top1"]) for line in metrics if "top1" in line and line["split"] == split]
        for split in ("val", "test")
    }
    if not losses:  # stopped before its first line, which may come late with `log_every`
        axes.text(0.5, 0.5, "nothing written yet", ha="center", color=INK, transform=axes.transAxes)
        _plain(axes, "Training")
        return
    step, epoch, loss = (np.asarray(column, float) for column in zip(*losses, strict=True))
    # an unfinished last epoch does not show the steps of an epoch: use the epochs before it
    whole = [step[epoch == e].max() / e for e in np.unique(epoch)[:-1] if e > 0] or [step[-1] / max(1.0, epoch[-1])]
    per_epoch = max(1.0, *whole)
    axes.plot(step / per_epoch, loss, color=BLUE, alpha=0.22, lw=0.8)
    ends = np.unique(epoch)
    axes.plot(ends, [loss[epoch == e].mean() for e in ends], color=BLUE, lw=2)
    axes.set_ylim(0, None)
    axes.set_xlim(0, epoch[-1])
    axes.set_ylabel("training loss", color=BLUE)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    _plain(axes, "Training")
    other = axes.twinx()
    ends_of = {split: points[-1] for split, points in scored.items() if points}
    if scored["val"]:
        at, top1 = (np.asarray(column, float) for column in zip(*scored["val"], strict=True))
        other.plot(at / per_epoch, top1, color=ORANGE, lw=2, marker="o", ms=3.5)
    if scored["test"]:
        at, top1 = ends_of["test"]
        other.plot(at / per_epoch, top1, color=PURPLE, lw=0, marker="D", ms=6, clip_on=False)
    if ends_of:
        lines = [f"{name} {100 * ends_of[split][1]:.1f} %" for split, name in SIDES.items() if split in ends_of]
        lowest = min(ends_of.values(), key=lambda point: point[1])
        other.annotate(
            "\n".join(lines), (lowest[0] / per_epoch, lowest[1]), (-4, -6), textcoords="offset points",
            ha="right", va="top", color=ORANGE if scored["val"] else PURPLE, weight="bold", size=10,
        )  # fmt: skip
    other.set_ylim(0, 1.02)
    other.yaxis.set_major_formatter(PercentFormatter(1))
    if scored["val"]:
        other.set_ylabel("validation accuracy", color=ORANGE)
    else:
        other.set_ylabel("accuracy")
    other.tick_params(colors=INK, labelsize=9, length=0)
    other.spines[["top", "left", "right", "bottom"]].set_visible(False)


def draw_confusion(axes: Axes, counts: np.ndarray, class_names: Sequence[str], *, side: float) -> None:
    """Rows are true classes, each row's shares by colour, in a square of `side` inches; counts up to 20 classes."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    axes.imshow(shares, cmap=BLUES, vmin=0, vmax=1, aspect="equal")
    classes, size = len(class_names), label_size(class_names, side=side)
    names = short_names(class_names)
    axes.set_xticks(range(classes), names, rotation=50, ha="right", rotation_mode="anchor", size=size)
    axes.set_yticks(range(classes), names, size=size)
    axes.set_xlabel("predicted", labelpad=2)
    axes.set_ylabel("true")
    if classes <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", size=size - 1, color=colour)
    right = np.trace(counts) / max(1, counts.sum())
    _plain(axes, f"Confusion ({100 * right:.1f} % of {int(counts.sum())} clips)")
    axes.tick_params(length=0, labelsize=size)


def short_names(class_names: Sequence[str]) -> list[str]:
    """Labels of a confusion matrix: at most 24 characters."""
    shown = [printable(name) for name in class_names]
    return [name if len(name) <= 24 else name[:22] + "…" for name in shown]


def label_size(class_names: Sequence[str], *, side: float) -> float:
    """Font size in points at which the labels of a matrix of `side` inches do not overlap."""
    return float(np.clip(0.62 * 72 * side / len(class_names), 3, 9))


def draw_attention(axes: Axes, received: Mapping[str, np.ndarray], frames: np.ndarray) -> None:
    """A line for each attention module over the store's frames (t,), counted from 1; encoder solid, decoder dashed.

    Grey: uniform attention.
    """
    numbers = np.asarray(frames) + 1
    top = max((float(np.max(values)) for values in received.values()), default=1.0)
    axes.axhline(1 / len(numbers), color=FAINT, lw=1, ls=":")
    seen: dict[str, int] = {}
    for name, values in received.items():
        kind = name.split()[-1]
        depth = seen[kind] = seen.get(kind, -1) + 1
        style = "-" if name.startswith("encoder") else (0, (4, 1.6))
        axes.plot(
            numbers, values, color=KIND_COLOURS.get(kind, PURPLE), ls=style, lw=2,
            alpha=max(0.35, 1 - 0.22 * depth), marker="o", ms=3, label=name,
        )  # fmt: skip
    axes.set_xlabel("token frame")
    axes.set_ylabel("share of the attention received")
    axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axes.set_ylim(0, 1.1 * top)
    axes.set_xticks(numbers[:: -(-len(numbers) // 8)])  # at most eight
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _plain(axes, "Attention over time")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9, labelcolor=INK)


def draw_comparison(axes: Axes, labels: Sequence[str], values: Sequence[Sequence[float]], title: str) -> None:
    """A bar to the mean of each label's values, a dot for each value; the first label is at the top."""
    rows = range(len(labels))
    means = [float(np.mean(each)) for each in values]
    axes.barh(rows, means, height=0.55, color="#bcdcef")
    for row, each, mean in zip(rows, values, means, strict=True):
        axes.plot(each, [row] * len(each), "o", ms=5, color=BLUE, mec=PAPER, mew=0.6, zorder=3)
        axes.text(max(each) + 0.02, row, f"{100 * mean:.1f} %", va="center", size=9.5, color=INK)
    axes.set_yticks(rows, labels, size=9.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.16)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("validation accuracy")
    _plain(axes, title)


def _attention_bar(axes: Axes, share: float) -> None:
    """A bar under the frame: its attention relative to the strip's largest."""
    for length, colour in ((1.0, "#e4e7eb"), (share, ORANGE)):
        axes.plot(
            [0.01, 0.01 + 0.98 * length], [-0.045, -0.045], color=colour, lw=4, solid_capstyle="butt",
            transform=axes.transAxes, clip_on=False,
        )  # fmt: skip


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", size=12.5, weight="bold", color=INK, pad=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)


def _wrapped(text: str, width: int) -> str:
    """Text broken at spaces into lines of about equal length, at most `width` if words allow."""
    words, lines = text.split(), [""]
    target = len(text) / max(1, math.ceil(len(text) / width))
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > max(width, target):
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)

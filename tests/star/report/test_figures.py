"""Figures hold what they were given; attention maps are the shares they say they are."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from star.batch import Batch
from star.build import seeded_model
from star.config.options import ModelConfig
from star.evaluate.attention_maps import attention_by_frame, class_attention
from star.report.figures import (
    attention_figure,
    class_attention_figure,
    confusion_figure,
    curve_figure,
    demo_figure,
    png,
)

METRICS = [{"step": s, "epoch": (s + 3) // 4, "loss": 2 / s, "lr": 1e-3} for s in range(1, 9)] + [
    {"step": 4, "epoch": 1, "split": "val", "top1": 0.4},
    {"step": 8, "epoch": 2, "split": "val", "top1": 0.7},
    {"step": 8, "epoch": 2, "split": "test", "top1": 0.6},
]
NAMES = ["sit down", "stand up"]
COUNTS = np.asarray([[3, 1], [0, 4]])
RECEIVED = {"encoder 1 full": np.asarray([0.1, 0.2, 0.7]), "decoder 1 binary": np.asarray([0.5, 0.25, 0.25])}


def test_the_curve_shows_losses_and_accuracies() -> None:
    loss_axes, accuracy_axes = curve_figure(METRICS).axes
    single, means = loss_axes.lines
    assert np.allclose(single.get_xdata(), np.arange(1, 9) / 4)
    assert np.allclose(single.get_ydata(), [2 / s for s in range(1, 9)])
    assert np.allclose(means.get_ydata(), [np.mean([2, 1, 2 / 3, 0.5]), np.mean([2 / 5, 2 / 6, 2 / 7, 2 / 8])])
    validation, test = accuracy_axes.lines
    assert np.allclose(validation.get_ydata(), [0.4, 0.7])
    assert np.allclose(validation.get_xdata(), [1, 2])
    assert (*test.get_xdata(), *test.get_ydata()) == (2, 0.6)  # a point: the test split is scored once
    assert accuracy_axes.get_ylabel() == "validation accuracy"
    assert [text.get_text() for text in accuracy_axes.texts] == ["validation 70.0 %\ntest 60.0 %"]
    alone = curve_figure([line for line in METRICS if line.get("split") != "val"]).axes[1]
    assert ([len(line.get_xdata()) for line in alone.lines], alone.get_ylabel()) == ([1], "accuracy")
    assert [text.get_text() for text in alone.texts] == ["test 60.0 %"]


def test_the_curve_of_an_unfinished_epoch_keeps_its_scale() -> None:
    steps = [{"step": s, "epoch": 1 + (s - 1) // 4, "loss": 1.0} for s in range(1, 6)]  # one of the second epoch
    single, _ = curve_figure([*steps, METRICS[-3]]).axes[0].lines
    assert np.allclose(single.get_xdata(), np.arange(1, 6) / 4)


def test_confusion_rows_are_true_classes_and_attention_lines_are_modules() -> None:
    (axes,) = confusion_figure(COUNTS, NAMES).axes
    assert np.allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert written == {((0, 0), "3"), ((1, 0), "1"), ((1, 1), "4")}
    assert "87.5 % of 8 clips" in axes.get_title(loc="left")
    (axes,) = attention_figure(RECEIVED, frames=np.arange(3)).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert all(np.allclose(lines[name], values) for name, values in RECEIVED.items())


@pytest.mark.parametrize(("step", "ticks"), [(1, [1, 3, 5, 7, 9, 11, 13, 15]), (2, [1, 3, 5, 7, 9, 11, 13, 15]),
                                             (4, [1, 5, 9, 13])])  # fmt: skip
def test_attention_is_drawn_over_the_stores_frames(step: int, ticks: list[int]) -> None:
    frames = np.arange(0, 16, step)
    (axes,) = attention_figure({"encoder 1 full": np.full(len(frames), 1 / len(frames))}, frames=frames).axes
    (line,) = (line for line in axes.lines if line.get_label() == "encoder 1 full")
    assert line.get_xdata().tolist() == (frames + 1).tolist()
    assert axes.get_xticks().tolist() == ticks
    assert axes.get_xlim() == (0.5, frames[-1] + 1.5)


def test_the_demo_page_draws_every_frame_and_changes_nothing() -> None:
    joints = np.full((2, 4, 3, 2), 5.0)
    joints[1] = np.nan
    clip = {
        "name": "sit down", "predicted": "stand up", "frames": np.full((4, 20, 20, 3), 90, np.uint8),
        "joints": joints, "heatmap": np.ones((4, 5, 5)), "attention": np.asarray([1.0, 2, 3, 4]),
    }  # fmt: skip
    given = {"clips": [clip, {**clip, "heatmap": None, "attention": None}], "counts": COUNTS, "received": RECEIVED}
    kept = copy.deepcopy(given)
    shared = {"metrics": METRICS, "class_names": NAMES, "frames": np.asarray([0, 4, 8]), "bones": [(0, 1)]}
    figure = demo_figure(**given, **shared, title="Test accuracy 70 %")
    picture = Image.open(io.BytesIO(png(figure, dpi=40)))
    assert picture.size == (600, round(40 * (5.3 + 2 * 2)))
    words = {text.get_text() for axes in figure.axes for text in axes.texts} | {t.get_text() for t in figure.texts}
    assert {"Test accuracy 70 %", "sit down", "taken for\nstand up"} <= words
    assert figure.axes[-1].get_xticks().tolist() == [1, 5, 9]
    shown = [axes for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (20, 20, 3)]
    assert [len(axes.images) for axes in shown] == [2] * 4 + [1] * 4
    for first, second in zip(given["clips"], kept["clips"], strict=True):
        assert np.array_equal(first["frames"], second["frames"])
        assert np.array_equal(first["joints"], second["joints"], equal_nan=True)


def test_a_run_without_a_line_has_an_empty_curve() -> None:
    (axes,) = curve_figure([]).axes
    assert [text.get_text() for text in axes.texts] == ["nothing written yet"]


@pytest.mark.parametrize("classes", [2, 14, 60, 120])
def test_the_longest_name_stays_on_the_picture(classes: int) -> None:
    names = ["put on a very long word indeed"] * classes
    figure = confusion_figure(np.eye(classes, dtype=np.int64), names)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for label in (*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels()):
        box = label.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= width
        assert 0 <= box.y0 <= box.y1 <= height


def test_attention_on_frames_is_scaled_to_the_clips_largest() -> None:
    cells = np.asarray([[[1.0, 2], [3, 6]], [[3, 3], [3, 3]]]) / 24
    joints = np.full((1, 2, 3, 2), 5.0)
    joints[0, 1, 2] = np.nan
    clip = {
        "name": "sit down", "predicted": "stand up", "frames": np.full((2, 20, 20, 3), 90, np.uint8), "joints": joints,
        "cells": cells, "joint_shares": np.asarray([[0.1, 0.2, 0.0], [0.4, 0.1, 0.1]]), "attention": None,
    }  # fmt: skip
    figure = class_attention_figure([clip, {**clip, "cells": None, "joint_shares": None}], bones=[(0, 1)])
    shown = [axes for axes in figure.axes if axes.images]
    assert [len(axes.images) for axes in shown] == [2, 2, 1, 1]
    first, second = shown[:2]
    assert np.allclose(first.images[1].get_array(), [[0, 0], [0, 1]])  # the mean is 3
    assert np.allclose(second.images[1].get_array(), 0)
    dots = [axes.collections[-1].get_sizes() for axes in (first, second)]
    assert np.allclose(dots[0] / dots[1][0], [0.25, 0.5, 0])
    assert np.allclose(dots[1] / dots[1][0], [1, 0.25, 0.25])


@pytest.mark.parametrize("tokens", ["gg", "jm", "both"])
def test_attention_maps_are_shares_of_the_models_own_weights(tokens: str) -> None:
    config = ModelConfig(frames=4, cells=4, gg_channels=3, joints=5, jm_channels=3, classes=2, width=8, heads=2,
                         tokens=tokens, encoder_depth=1, decoder_depth=1)  # fmt: skip
    model = seeded_model(config, seed=0)
    generator = torch.Generator().manual_seed(0)
    gg, jm = (torch.randn(2, 4, n, 3, generator=generator) for n in (4, 5))
    batch = Batch(gg, jm, torch.ones(2, 4, 5, dtype=torch.bool), torch.zeros(2), torch.zeros(2))
    by_frame, by_part = attention_by_frame(model, batch), class_attention(model, batch)
    assert model.training
    weights: list[torch.Tensor] = []
    with torch.no_grad():
        model.eval()(gg, jm, weights=weights)
    assert list(by_frame) == list(by_part) == model.module_names
    for name, whole in zip(model.module_names, weights, strict=True):
        assert np.allclose(by_frame[name].sum(1), 1, atol=1e-5)
        slow = np.zeros((2, 4))
        queries = whole[0, 0, :, :, 0, 0].numel()
        for b in range(2):
            for u in range(4):
                slow[b, u] = whole[b, :, :, :, u, :].sum() / (2 * queries)
        assert np.allclose(by_frame[name], slow, atol=1e-5)
        slots, first = model.tokens.class_slots, 0
        if tokens != "jm":
            cells = by_part[name]["cells"]
            assert np.allclose(cells, whole[:, :, :, slots, :, 1:5].mean((1, 2, 3)), atol=1e-6)
            first = 5
        if tokens != "gg":
            joints = by_part[name]["joints"]
            expected = whole[:, :, :, slots, :, first + 1 : first + 6].mean((1, 2, 3))
            assert np.allclose(joints, expected, atol=1e-6)


def test_names_are_shown_as_they_are() -> None:
    """No formula, and nothing that would end the drawing in an error."""
    names = ["cost $\\frac{1$ x", "a\x1b[31m_b^2", "$\\sum$", "x" * 40]
    counts = np.ones((4, 4), int)
    shown = png(confusion_figure(counts, names))
    plain = png(confusion_figure(counts, ["cost \\$\\frac{1\\$ x", *names[1:]]))
    assert shown != plain  # an escape for formulas is shown too
    assert Image.open(io.BytesIO(shown)).size == Image.open(io.BytesIO(png(confusion_figure(counts, names)))).size
    for figure in (
        confusion_figure(counts, names),
        attention_figure({names[0]: RECEIVED["encoder 1 full"]}, frames=np.arange(3)),
    ):
        png(figure)
        assert not any(text.get_parse_math() for text in figure.findobj(Text))

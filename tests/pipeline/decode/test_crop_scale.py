"""`pipeline.decode.crop_scale`: the pixels against an exact box filter, and colours against the defining equations."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode.crop_scale import Fitter, Turn


def area_oracle(picture: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """Exact means over source areas, black outside the picture, one output pixel at a time; (h, w, 3) float."""
    x0, y0, x1, y1 = box
    height, width = size
    out = np.zeros((height, width, 3))
    step_y, step_x = (y1 - y0) / height, (x1 - x0) / width
    for i in range(height):
        for j in range(width):
            rows = _overlaps(y0 + i * step_y, y0 + (i + 1) * step_y, picture.shape[0])
            columns = _overlaps(x0 + j * step_x, x0 + (j + 1) * step_x, picture.shape[1])
            out[i, j] = np.einsum("y,x,yxc->c", rows, columns, picture) / (step_y * step_x)
    return out


def _overlaps(low: float, high: float, length: int) -> np.ndarray:
    """How much of each of `length` unit intervals lies in [low, high)."""
    edges = np.arange(length)
    return np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, None)


def _frame(picture: np.ndarray, format: str = "yuv420p", color_range: int = 2) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = frame.reformat(format=format, dst_color_range=color_range, interpolation="AREA")
    frame.color_range = color_range
    return frame


def _grey(picture: np.ndarray, format: str) -> av.VideoFrame:
    """A full-range frame whose RGB is `picture`, all of whose channels are equal: no conversion touches it."""
    height, width = picture.shape[:2]
    frame = av.VideoFrame(width, height, format)
    frame.color_range = 2
    for i, plane in enumerate(frame.planes):
        rows = np.full((plane.buffer_size // plane.line_size, plane.line_size), 128, np.uint8)
        if i == 0:
            rows[:height, :width] = picture[..., 0]
        plane.update(rows.tobytes())
    return frame


GREY_NOISE = np.random.default_rng(0).integers(0, 256, (41, 57)).astype(np.uint8)[..., None].repeat(3, axis=2)
BOXES = st.tuples(st.integers(-30, 45), st.integers(-30, 30), st.integers(12, 60), st.integers(12, 60)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=30, deadline=None)
@given(
    box=BOXES,
    shrink=st.tuples(st.floats(1, 6), st.floats(1, 6)),
    format=st.sampled_from(["yuv420p", "yuv444p", "gray"]),
)
def test_shrinking_is_an_exact_box_filter_with_black_outside(
    box: tuple[int, int, int, int], shrink: tuple[float, float], format: str
) -> None:
    size = (int((box[3] - box[1]) / shrink[0]), int((box[2] - box[0]) / shrink[1]))
    got = Fitter("noise", box, size)(_grey(GREY_NOISE, format))
    expected = area_oracle(GREY_NOISE, box, size)
    # noise of all grey values is the hardest picture: the scaler's weights have 14 bits, and it rounds twice
    assert np.abs(got - expected).max() <= 3
    assert np.abs(got - expected).mean() <= 0.7


@settings(max_examples=30, deadline=None)
@given(box=BOXES)
def test_a_box_alone_gives_its_own_pixels(box: tuple[int, int, int, int]) -> None:
    got = Fitter("noise", box)(_grey(GREY_NOISE, "yuv444p")).astype(int)
    x0, y0, x1, y1 = box
    outer = np.zeros((200, 200, 3), int)
    outer[50:91, 50:107] = GREY_NOISE
    assert np.abs(got - outer[y0 + 50 : y1 + 50, x0 + 50 : x1 + 50]).max() <= 1


def test_a_box_beside_the_picture_is_black() -> None:
    assert not Fitter("noise", (60, 0, 90, 30), (8, 8))(_grey(GREY_NOISE, "yuv420p")).any()


def test_colours_stay_in_place_for_boxes_off_the_chroma_grid() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (230, 30, 30), (30, 30, 230)
    for x0 in (7, 8, 9):
        for frame in (_frame(picture), _frame(picture, "nv12")):
            got = Fitter("edge", (x0, 3, x0 + 48, 51), (48, 48))(frame).astype(int)
            edge = 32 - x0
            assert np.abs(got[:, : edge - 2] - (230, 30, 30)).max() <= 4
            assert np.abs(got[:, edge + 2 :] - (30, 30, 230)).max() <= 4


KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("format", ["yuv420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le", "yuv444p12le", "p010le"])
def test_colours_follow_matrix_range_and_depth(matrix: str, color_range: int, format: str) -> None:
    """ITU-R BT.601, BT.709 and BT.2020: RGB of constant pictures, computed from Y, Cb and Cr."""
    kr, kb = KR_KB[matrix]
    for y, cb, cr in ((120, 90, 160), (60, 150, 120), (200, 128, 128), (16, 128, 128)):
        frame = _constant(format, (y, cb, cr))
        frame.color_range, frame.colorspace = color_range, {"bt601": 2, "bt709": 1, "bt2020": 9}[matrix]
        luma, blue, red = (y, cb - 128, cr - 128) if color_range == 2 else _expanded(y, cb, cr)
        r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
        g = (luma - kr * r - kb * b) / (1 - kr - kb)
        got = Fitter("constant", size=(8, 8))(frame).astype(float)
        assert np.abs(got - np.clip([r, g, b], 0, 255)).max() <= 2


def _expanded(y: int, cb: int, cr: int) -> tuple[float, float, float]:
    return (y - 16) * 255 / 219, (cb - 128) * 255 / 224, (cr - 128) * 255 / 224


def _constant(format: str, values: tuple[int, int, int], height: int = 32, width: int = 48) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, format)
    depth = frame.format.components[0].bits
    kind = np.dtype(np.uint8 if depth == 8 else "<u2")
    shift = 16 - 8 if format == "p010le" else depth - 8
    for i, plane in enumerate(frame.planes):
        # nv12 and p010 keep Cb and Cr side by side in their second plane
        pattern = values[1:] if len(frame.planes) == 2 and i == 1 else values[i : i + 1]
        words = np.array(pattern, kind) << shift
        plane.update(np.tile(words, plane.buffer_size // words.nbytes).astype(kind).tobytes())
    return frame


@pytest.mark.parametrize("format", ["rgb24", "bgr24", "rgba", "gbrp"])
def test_pictures_that_are_rgb_already_keep_their_colours(format: str) -> None:
    colours = np.array([[[250, 10, 20], [5, 240, 15]], [[12, 8, 251], [255, 255, 255]]], np.uint8)
    frame = av.VideoFrame.from_ndarray(colours.repeat(24, axis=0).repeat(24, axis=1), format="rgb24")
    frame = frame if format == "rgb24" else frame.reformat(format=format)
    assert np.abs(Fitter("rgb", size=(2, 2))(frame).astype(int) - colours).max() <= 3


TURNS = [Turn(t, x, y) for t in (False, True) for x in (False, True) for y in (False, True)]


@pytest.mark.parametrize("turn", TURNS, ids=str)
@settings(max_examples=15, deadline=None)
@given(box=BOXES)
def test_a_box_of_the_display_is_found_in_the_coded_picture(turn: Turn, box: tuple[int, int, int, int]) -> None:
    coded = np.arange(41 * 57).reshape(41, 57)[..., None].repeat(3, axis=2)
    display = turn.apply(coded)
    height, width = turn.size(41, 57)
    assert display.shape == (height, width, 3)
    assert _cut(display, box).tolist() == turn.apply(_cut(coded, turn.coded_box(box, height, width))).tolist()


def _cut(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    outer = np.full((picture.shape[0] + 200, picture.shape[1] + 200, 3), -1)
    outer[100:-100, 100:-100] = picture
    x0, y0, x1, y1 = box
    return outer[y0 + 100 : y1 + 100, x0 + 100 : x1 + 100]


def test_mirrors_are_told_from_rotations() -> None:
    assert [turn.mirrors for turn in TURNS] == [False, True, True, False, True, False, False, True]


def test_a_frame_of_another_size_is_brought_to_that_of_the_first() -> None:
    fit = Fitter("growing", box=(0, 0, 57, 41), size=(4, 6))
    first = fit(_grey(GREY_NOISE, "yuv420p"))
    double = GREY_NOISE.repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(first.astype(int) - fit(_grey(double, "yuv420p"))).max() <= 2
    np.testing.assert_array_equal(first, fit(_grey(GREY_NOISE, "yuv420p")))

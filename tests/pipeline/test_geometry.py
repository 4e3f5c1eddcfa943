"""Geometry: joints move with the pixels, and the box contains the persons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config import GEOMETRIES
from pipeline.errors import ConfigError
from pipeline.geometry import KEPT_PIXELS, MIN_SIDE, PADDING, PRESET, Geometry, geometry_of

sides = st.integers(20, 400)
places = st.floats(-600, 900, width=32)


def _joints(points: list[tuple[float, float]]) -> np.ndarray:
    return np.array(points, np.float32).reshape(1, 1, -1, 2)


def _area_scaled(picture: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(H, W) to `geometry.size` by exact areas, black outside the picture: one cell of the result at a time."""
    x0, y0, x1, y1 = geometry.box
    height, width = geometry.size
    out = np.zeros(geometry.size)
    for i in range(height):
        for j in range(width):
            top, bottom = (y0 + (y1 - y0) * k / height for k in (i, i + 1))
            left, right = (x0 + (x1 - x0) * k / width for k in (j, j + 1))
            for y in range(int(np.floor(top)), int(np.ceil(bottom))):
                for x in range(int(np.floor(left)), int(np.ceil(right))):
                    if 0 <= y < picture.shape[0] and 0 <= x < picture.shape[1]:
                        share = (min(bottom, y + 1) - max(top, y)) * (min(right, x + 1) - max(left, x))
                        out[i, j] += share * picture[y, x]
    return out


@pytest.mark.parametrize("kind", GEOMETRIES)
@pytest.mark.parametrize(("height", "width"), [(48, 64), (65, 37), (150, 150)])
def test_a_painted_joint_is_found_where_the_map_says(kind: str, height: int, width: int) -> None:
    x, y = 0.7 * width, 0.3 * height
    joints = _joints([(x, y), (0.4 * width, 0.6 * height)])
    geometry = geometry_of(kind, joints, height, width)
    rows, columns = np.mgrid[:height, :width]
    blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    small = _area_scaled(blob, Geometry(box=geometry.box, size=geometry.size))
    rows, columns = np.mgrid[: geometry.size[0], : geometry.size[1]]
    found = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()  # its centre of gravity
    np.testing.assert_allclose(geometry.joints(joints)[0, 0, 0], found, atol=0.05)


@given(st.lists(st.tuples(places, places), min_size=1, max_size=8), sides, sides)
@example([(32.0, 32.0)], 33, 33)
@settings(max_examples=200, deadline=None)
def test_the_person_box_holds_the_padded_persons(points: list[tuple[float, float]], height: int, width: int) -> None:
    geometry = geometry_of("person", _joints(points), height, width)
    x0, y0, x1, y1 = geometry.box
    assert geometry.size == (KEPT_PIXELS, KEPT_PIXELS)
    assert x1 - x0 == y1 - y0
    assert all(edge % 2 == 0 for edge in geometry.box)  # the chroma grid
    inside = [(x, y) for x, y in points if -0.5 < x < width - 0.5 and -0.5 < y < height - 0.5]
    longest = max(height, width)
    if not inside:
        assert x1 - x0 in (longest, longest + 1)
        return
    low, high = np.min(inside, axis=0), np.max(inside, axis=0)
    padded = max(PADDING * ((high - low).max() + 1), MIN_SIDE)
    assert min(padded, longest) - 1e-3 <= x1 - x0 <= min(padded, longest) + 2 + 1e-3
    # every joint that is to be seen lies in the kept picture
    kept = geometry.joints(np.array(inside, np.float32))
    assert (kept >= -0.5 - 1e-3).all()
    assert (kept <= KEPT_PIXELS - 0.5 + 1e-3).all()
    for start, end, extent in ((x0, x1, width), (y0, y1, height)):
        if end - start <= extent:  # no black where the picture has room
            assert start >= 0
            assert end <= extent + extent % 2


def test_a_person_in_the_middle_is_in_the_middle() -> None:
    geometry = geometry_of("person", _joints([(900, 400), (1020, 680)]), 1080, 1920)
    assert geometry.box == (784, 364, 1136, 716)  # 281 px high, 351.25 padded, 352 on the grid, around (960.5, 540.5)
    np.testing.assert_allclose(geometry.joints(_joints([(959.5, 539.5)]))[0, 0, 0], 63.5, atol=0.3)


def test_a_person_at_the_edge_moves_the_box_into_the_picture() -> None:
    geometry = geometry_of("person", _joints([(1800, 900), (1919, 1079)]), 1080, 1920)
    assert geometry.box[2:] == (1920, 1080)


def test_absent_and_far_joints_do_not_widen_the_box() -> None:
    near = [(300.0, 200.0), (420.0, 380.0)]
    box = geometry_of("person", _joints(near), 1080, 1920).box
    far = [*near, (np.nan, np.nan), (np.inf, 3.0), (-4000.0, 250.0), (300.0, 1e9)]
    assert geometry_of("person", _joints(far), 1080, 1920).box == box


def test_nobody_to_be_seen_gives_the_whole_picture() -> None:
    for joints in (np.zeros((0, 5, 25, 2), np.float32), _joints([(np.nan, np.nan)]), _joints([(-50, -50)])):
        assert geometry_of("person", joints, 48, 64).box == (0, -8, 64, 56)


def test_center_is_the_preset_of_the_backbone() -> None:
    geometry = geometry_of("center", _joints([(0, 0)]), 1080, 1920)
    assert (geometry.box, geometry.size) == ((0, 0, 1920, 1080), PRESET)
    # the corners of the picture are the corners of what is kept: pixel 0 and pixel -1 by half a scaled pixel
    corners = geometry.joints(np.array([[-0.5, -0.5], [1919.5, 1079.5]], np.float32))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [170.5, 127.5]], atol=1e-5)


@given(sides, sides)
@example(21, 20)
@settings(max_examples=100, deadline=None)
def test_full_shows_all_of_the_picture_in_its_shape(height: int, width: int) -> None:
    geometry = geometry_of("full", _joints([(0, 0)]), height, width)
    x0, y0, x1, y1 = geometry.box
    assert x1 - x0 == y1 - y0
    assert x0 <= 0
    assert y0 <= 0
    assert x1 >= width
    assert y1 >= height
    assert x1 - x0 <= max(height, width) + 4


def test_nan_stays_nan_and_the_argument_as_it_was() -> None:
    joints = _joints([(3, 4), (np.nan, 5)])
    before = joints.copy()
    kept = Geometry(box=(0, 0, 64, 64), size=(128, 128)).joints(joints)
    np.testing.assert_array_equal(joints, before)
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept[0, 0, 0], [6.5, 8.5])
    assert np.isnan(kept[0, 0, 1, 0])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"person \| center \| full"):
        geometry_of("square", _joints([(0, 0)]), 10, 10)

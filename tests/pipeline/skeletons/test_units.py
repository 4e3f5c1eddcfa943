"""Places in any unit and of any picture against the pixels they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from pose_files import PIXELS, SHARES, SIGNED, wanderers

from pipeline.errors import SkeletonError
from pipeline.skeletons.units import in_pixels

FRAMES, SIZE = 24, (180, 320)


def places(joints: np.ndarray) -> np.ndarray:
    """Joints (B, V, 2) as values."""
    return np.concatenate([joints, np.ones((*joints.shape[:2], 1))], axis=-1).astype(np.float32)


@pytest.mark.parametrize("unit", [SHARES, SIGNED, PIXELS])
def test_a_few_joints_anywhere_change_no_unit(unit: str) -> None:
    people = wanderers(FRAMES, 17, SIZE)
    extent = np.array(SIZE[::-1])
    joints = people.joints[0]
    values = places({PIXELS: joints, SHARES: joints / extent, SIGNED: joints / extent * 2 - 1}[unit])
    values[3, 2:5, :2] = -30.0, 5000.0
    values[5, 7, :2] = np.nan
    values[:, 9, :2], values[:, 9, 2] = 12345.0, 0  # not found, wherever it is said to be
    got, told = in_pixels("x", values, stated=None, size=SIZE)
    assert told == unit
    kept = np.ones((FRAMES, 17), dtype=bool)
    kept[3, 2:5] = kept[5, 7] = kept[:, 9] = False
    np.testing.assert_allclose(got[kept][:, :2], joints[kept], atol=1e-3)


def test_units_that_both_fit_are_refused() -> None:
    people = wanderers(FRAMES, 17, SIZE).joints[0] / np.array(SIZE[::-1])
    for shift in (-0.3, -0.4):  # shares that leave the picture at the left, or [-1, 1] a little right of the middle
        with pytest.raises(SkeletonError, match=r"holds shares of the picture or numbers from -1 to 1"):
            in_pixels("x", places(people + np.array([shift, 0])), stated=None, size=SIZE)
    with pytest.raises(SkeletonError, match="shares of the picture or numbers"):
        in_pixels("x", places(people - 0.5), stated=None, size=SIZE)  # shares, counted from the middle
    mixed = places(people)
    mixed[:2, :, :2] *= 300
    with pytest.raises(SkeletonError, match="mixes pixels with shares"):
        in_pixels("x", mixed, stated=None, size=SIZE)


def test_shares_may_leave_the_picture_at_its_right_and_a_little_at_its_left() -> None:
    people = wanderers(FRAMES, 17, SIZE).joints[0] / np.array(SIZE[::-1])
    for shift in (0.3, -people[..., 0].min() - 0.019):
        got, unit = in_pixels("x", places(people + np.array([shift, 0])), stated=None, size=SIZE)
        assert unit == SHARES
        np.testing.assert_allclose(got[..., 0], (people[..., 0] + shift) * 320, atol=1e-3)


@pytest.mark.parametrize("size", [(540, 960), (480, 854), (480, 852), (256, 456), (360, 640), (1080, 1920)])
def test_sides_rounded_to_even_numbers_are_the_same_shape(size: tuple[int, int]) -> None:
    values = places(np.array([[[959.5, 539.5]]]))  # the middle of the picture
    got, _ = in_pixels("x", values, stated=(1080, 1920), size=size)
    np.testing.assert_allclose(got[0, 0, :2], [(size[1] - 1) / 2, (size[0] - 1) / 2], atol=1e-4)


@pytest.mark.parametrize("size", [(256, 340), (1920, 1080), (1088, 1920), (540, 950), (240, 320)])
def test_another_shape_is_refused_with_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(SkeletonError, match=rf"1920 x 1080, expected the video's {size[1]} x {size[0]}"):
        in_pixels("x", places(np.full((1, 17, 2), 500.0)), stated=(1080, 1920), size=size)

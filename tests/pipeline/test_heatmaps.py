"""Joint heatmaps against the loop oracle, and properties of every heatmap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.tokens import heatmaps as oracle

from pipeline.errors import ConfigError, DataError
from pipeline.heatmaps import joint_heatmaps, to_cells


def cases(seed: int, persons: int, frames: int, count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Joints in and around the grid, some NaN, some infinite, some hidden."""
    rng = np.random.default_rng(seed)
    low, high = -3.0, np.array(size[::-1]) + 3.0
    joints = rng.uniform(low, high, (persons, frames, count, 2)).astype(np.float32)
    joints[rng.random(joints.shape) < 0.1] = np.nan
    joints[rng.random(joints.shape) < 0.05] = np.inf
    return joints, rng.random(joints.shape[:-1]) < 0.8


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    persons=st.integers(0, 3),
    frames=st.integers(1, 3),
    count=st.integers(1, 4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    sigma=st.floats(0.3, 4.0),
)
def test_equal_to_the_oracle(
    seed: int, persons: int, frames: int, count: int, size: tuple[int, int], sigma: float
) -> None:
    joints, visible = cases(seed, persons, frames, count, size)
    maps = joint_heatmaps(joints, visible, size=size, sigma=sigma)
    assert isinstance(maps, np.ndarray)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, oracle(joints, visible, size, sigma), rtol=2e-5, atol=1e-7)


def test_a_batch_equals_its_clips_one_by_one() -> None:
    size, sigma = (7, 5), 0.8
    clips = [cases(seed, 2, 3, 4, size) for seed in range(4)]
    joints, visible = (torch.from_numpy(np.stack(parts)).unflatten(0, (2, 2)) for parts in zip(*clips, strict=True))
    maps = joint_heatmaps(joints, visible, size=size, sigma=sigma).flatten(0, 1)
    for i, (one, seen) in enumerate(clips):
        np.testing.assert_array_equal(maps[i].numpy(), joint_heatmaps(one, seen, size=size, sigma=sigma))


def test_peak_is_one_where_a_joint_sits_on_a_cell() -> None:
    maps = joint_heatmaps(np.full((1, 1, 1, 2), (4.0, 2.0), np.float32), np.ones((1, 1, 1), bool), size=(6, 8), sigma=1)
    assert maps[0, 0, 2, 4] == 1
    assert maps.sum() == pytest.approx(2 * np.pi, rel=0.05)  # the whole Gaussian but the tail beyond the border
    assert np.unravel_index(maps.argmax(), (6, 8)) == (2, 4)  # (row, column) = (y, x)


def test_mirrored_joints_give_mirrored_maps() -> None:
    joints, visible = cases(3, 2, 2, 5, (14, 28))
    mirrored = joints.copy()
    mirrored[..., 0] = 27 - mirrored[..., 0]
    maps = joint_heatmaps(joints, visible, size=(14, 28), sigma=1.3)
    turned = joint_heatmaps(mirrored, visible, size=(14, 28), sigma=1.3)
    np.testing.assert_allclose(turned, maps[..., ::-1], rtol=1e-4, atol=1e-6)  # 27 - x rounds in float32


def test_absent_joints_give_zeros_and_the_caller_keeps_its_arrays() -> None:
    joints = np.full((2, 3, 4, 2), np.nan, np.float32)
    visible = np.ones((2, 3, 4), bool)
    assert not joint_heatmaps(joints, visible, size=(5, 5), sigma=1).any()
    joints, visible = cases(5, 2, 3, 4, (5, 5))
    kept = joints.copy(), visible.copy()
    assert not joint_heatmaps(joints, np.zeros_like(visible), size=(5, 5), sigma=1).any()
    joint_heatmaps(joints, visible, size=(5, 5), sigma=1)
    np.testing.assert_array_equal(joints, kept[0])
    np.testing.assert_array_equal(visible, kept[1])


def test_pixels_to_cells() -> None:
    pixels = np.array([-0.5, 0, 1.5, 3.5, 111, 111.5])
    np.testing.assert_allclose(to_cells(pixels, 4), [-0.5, -0.375, 0, 0.5, 27.375, 27.5])
    # a cell's centre is the mean of the pixels it covers
    assert [float(to_cells(np.arange(4 * i, 4 * i + 4).mean(), 4)) for i in range(3)] == [0, 1, 2]
    assert torch.equal(to_cells(torch.tensor([1.5, 5.5]), 4), torch.tensor([0.0, 1.0]))


def test_refuses_what_does_not_fit() -> None:
    joints, visible = cases(0, 1, 2, 3, (5, 5))
    with pytest.raises(ConfigError, match="sigma"):
        joint_heatmaps(joints, visible, size=(5, 5), sigma=0)
    with pytest.raises(DataError, match="shapes"):
        joint_heatmaps(joints, visible[:, :1], size=(5, 5), sigma=1)
    with pytest.raises(DataError, match="shapes"):
        joint_heatmaps(joints[..., :1], visible, size=(5, 5), sigma=1)

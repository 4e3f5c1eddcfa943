"""What is taken out of coordinates is taken out exactly; absent joints are filled as a loop fills them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from star.coordinates import CHANNELS, IN_PICTURE, MOST_SIZES, body_coordinates, coordinate_features, interpolated


def clip(seed: int, *, channels: int = 2, share: float = 0.7) -> torch.Tensor:
    """(2, 2, 6, 5, C): two clips; the second person of clip 1 is absent, other joints at random."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(2, 2, 6, 5, channels)) * 30 + 60
    points[rng.random(points.shape[:-1]) > share] = np.nan
    points[1, 1] = np.nan
    return torch.from_numpy(points)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_gaps_are_filled_as_numpy_fills_them(seed: int, share: float) -> None:
    points = clip(seed, share=share)
    present = points.isfinite().all(-1)
    found, times = interpolated(points, present), np.arange(6)
    for b, m, v, c in np.ndindex(2, 2, 5, 2):
        seen = present[b, m, :, v].numpy()
        values = points[b, m, :, v, c].numpy()
        expected = np.interp(times, times[seen], values[seen]) if seen.any() else np.zeros(6)
        np.testing.assert_allclose(found[b, m, :, v, c], expected, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([2, 3]),
    scale=st.floats(0.01, 100),
    shift=st.floats(-1000, 1000),
)
def test_neither_place_nor_size_of_the_body_is_told(seed: int, channels: int, scale: float, shift: float) -> None:
    points = clip(seed, channels=channels)
    offset = torch.tensor([shift, -2 * shift, 3.0])[:channels]
    torch.testing.assert_close(body_coordinates(points * scale + offset), body_coordinates(points), atol=1e-6, rtol=0)


def test_values_by_hand() -> None:
    """One person of two joints, three frames; joint 1 is absent in the middle."""
    nan = float("nan")
    points = torch.tensor([[[0, 0], [4, 0]], [[2, 0], [nan, nan]], [[4, 0], [8, 0]]], dtype=torch.float64)[None, None]
    found = body_coordinates(points)[0, 0]
    # joints lie 2 beside their centre in every frame, which is the body's size; the centre moves by 2 from 2 to 6
    assert found[:, :2, 0].tolist() == [[-1, 1], [-1, 1], [-1, 1]]
    assert found[:, 2, 0].tolist() == [-1, 0, 1]
    assert found[:, 2, 2].tolist() == [0, 1, 1]  # its velocity
    assert (found[:, :2, 2] == 0).all()
    assert (found[..., [1, 3]] == 0).all()
    assert found[..., 4].tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_where_two_persons_stand_and_who_is_larger_is_kept() -> None:
    points = clip(3, share=1.0)[:1]
    apart, larger = points.clone(), points.clone()
    apart[:, 1, ..., 0] += 100
    middle = larger[:, 1].mean(dim=(1, 2), keepdim=True)
    larger[:, 1] = 2 * (larger[:, 1] - middle) + middle
    for changed in (apart, larger):
        assert (body_coordinates(changed) - body_coordinates(points)).abs().max() > 0.1


def test_who_is_absent_is_zero_and_all_is_finite() -> None:
    points = clip(0)
    points[0, 0, 2, 3] = torch.inf
    points[0, 0, 3, 3] = 1e38  # from a stranger's store
    points = points.float()
    points[0, 1, :, 4] = torch.nan
    found = body_coordinates(points)
    assert found.isfinite().all()
    assert (found[1, 1] == 0).all()
    assert (found[0, 1, :, 4] == 0).all()
    assert (found[0, 0, 2:4, 3, -1] == 0).all()
    assert (body_coordinates(torch.full((1, 2, 6, 5, 3), torch.nan)) == 0).all()
    assert (body_coordinates(torch.ones(1, 1, 4, 3, 2))[..., :4] == 0).all()  # a body that is a point


@pytest.mark.parametrize("known", [True, False])
def test_pixels_come_first_then_metres(known: bool) -> None:
    joints, xyz = clip(1), clip(2, channels=3)
    if not known:
        xyz[:] = torch.nan
    found = coordinate_features(joints, xyz)
    assert found.shape == (2, 2, 6, 6, CHANNELS)
    assert torch.equal(found[..., :IN_PICTURE], body_coordinates(joints))
    assert found[..., IN_PICTURE:].any() == known


def test_a_body_of_one_joint_has_no_places_but_is_there() -> None:
    points = torch.full((1, 1, 4, 3, 2), torch.nan, dtype=torch.float64)
    points[0, 0, :, 1] = torch.tensor([[0.0, 0], [50, 0], [90, 0], [50, 0]])  # it moves, and has no size to measure by
    found = body_coordinates(points)
    assert (found[..., :4] == 0).all()
    assert found[0, 0, :, 1, 4].tolist() == [1.0] * 4


def test_a_body_of_two_joints_that_lie_together_does_not_outweigh_all_others() -> None:
    points = torch.zeros(1, 1, 4, 2, 2, dtype=torch.float64)
    points[0, 0, :, 1, 0] = 1e-4
    points[0, 0, :, :, 0] += torch.tensor([0.0, 40, 80, 40])[:, None]
    places = body_coordinates(points)[..., :2]
    assert places.abs().max() == MOST_SIZES
    assert abs(places[0, 0, 0, 0, 0] + 1) < 1e-6  # the joints themselves are where they are

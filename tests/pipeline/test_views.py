"""Views: the same crop and flip for pixels and joints, a pure function of seed, key and number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import center_crop

from pipeline.errors import ConfigError
from pipeline.views import View, crop_frames, crop_joints, crop_visible, mirror_xyz, mirrored_order, view_of

PAIRS = ((0, 1), (3, 2))  # of five joints; 4 has no partner


def painted(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3), black but for the pixels of joints, painted (m + 1, v + 1, t + 1); the joints; visible."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((2, *size, 3), np.uint8)
    places = rng.permutation(size[0] * size[1])[: 2 * 2 * 5].reshape(2, 2, 5)
    joints = np.stack([places % size[1], places // size[1]], axis=-1).astype(np.float32)
    for m, t, v in np.ndindex(2, 2, 5):
        x, y = joints[m, t, v].astype(int)
        frames[t, y, x] = (m + 1, v + 1, t + 1)
    return frames, joints, rng.random((2, 2, 5)) < 0.7


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spare=st.tuples(st.integers(0, 9), st.integers(0, 9)), k=st.integers(0, 6))
def test_joints_stay_on_their_pixels(seed: int, spare: tuple[int, int], k: int) -> None:
    crop, kept = 12, (12 + spare[0], 12 + spare[1])
    frames, joints, visible = painted(kept, seed)
    view = view_of("S001C001P001R001", k, seed=seed, draws=1, kept=kept, crop=crop)
    picture = crop_frames(frames, view, crop=crop)
    moved = crop_joints(joints, view, PAIRS, crop=crop)
    seen = crop_visible(visible, view, PAIRS)
    order = [1, 0, 3, 2, 4] if view.flip else [0, 1, 2, 3, 4]
    inside = 0
    for m, t, v in np.ndindex(2, 2, 5):
        x, y = moved[m, t, v].astype(int)
        assert seen[m, t, v] == visible[m, t, order[v]]
        if 0 <= x < crop and 0 <= y < crop:
            inside += 1
            assert tuple(picture[t, y, x]) == (m + 1, order[v] + 1, t + 1)
    # every painted pixel of the crop has its joint, so none was lost or doubled
    assert inside == np.count_nonzero(picture[..., 0])


def test_a_mirrored_scene_by_hand() -> None:
    """A raised right hand (joint 1), at x = 0.5 m, becomes a raised left hand (joint 0) at x = -0.5 m."""
    xyz = np.array([[-0.4, -0.1, 3], [0.5, 0.9, 2], [0.2, 0, 3], [-0.1, np.nan, 3], [0.1, 0.2, 2.5]], np.float32)
    before = xyz.copy()
    moved = mirror_xyz(xyz, View(0, 3, 9, True), PAIRS)
    expected = [[-0.5, 0.9, 2], [0.4, -0.1, 3], [0.1, np.nan, 3], [-0.2, 0, 3], [-0.1, 0.2, 2.5]]
    np.testing.assert_array_equal(moved, np.array(expected, np.float32))
    np.testing.assert_array_equal(mirror_xyz(xyz, View(0, 3, 9, False), PAIRS), xyz)
    np.testing.assert_array_equal(xyz, before)
    # of a camera that looks straight on, the mirrored place is seen at the mirrored pixel
    seen = crop_joints(100 + 50 * xyz[:, :2] / xyz[:, 2:], View(0, 0, 0, True), (), crop=201)
    for place, joint in zip(xyz, seen, strict=True):
        x, y, z = mirror_xyz(place[None], View(0, 0, 0, True), ())[0]
        np.testing.assert_allclose(joint, [100 + 50 * x / z, 100 + 50 * y / z], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(st.integers(112, 200), st.integers(112, 200)))
def test_view_zero_is_torchvisions_centre_crop(size: tuple[int, int]) -> None:
    view = view_of("any", 0, seed=7, draws=3, kept=size)
    numbers = torch.arange(size[0] * size[1]).view(1, *size)
    corner = int(center_crop(numbers, [112, 112])[0, 0, 0])
    assert view == View(0, corner // size[1], corner % size[1], False)


def test_the_preset_of_torchvision() -> None:
    assert view_of("any", 0, seed=0, draws=1, kept=(128, 171)) == View(0, 8, 30, False)


def test_views_depend_on_seed_key_and_number_alone() -> None:
    def ask(key: str, k: int, seed: int) -> View:
        return view_of(key, k, seed=seed, draws=4, kept=(128, 171))

    first = [ask("a", k, 0) for k in range(6)]
    np.random.default_rng(3).random(10)
    torch.rand(3)
    assert [ask("a", k, 0) for k in reversed(range(6))] == first[::-1]
    assert [ask("b", k, 0) for k in range(1, 6)] != first[1:]
    assert [ask("a", k, 1) for k in range(1, 6)] != first[1:]
    assert [view.draw for view in first] == [0, 1, 2, 3, 0, 1]
    # A rule that changes makes every store's fingerprint a lie: these are frozen.
    assert first[1:3] == [View(1, 8, 37, True), View(2, 2, 25, False)]


def test_random_views_reach_every_offset_and_both_sides() -> None:
    views = [view_of(f"clip{i}", 1, seed=0, draws=1, kept=(116, 114)) for i in range(400)]
    assert {view.top for view in views} == {0, 1, 2, 3, 4}
    assert {view.left for view in views} == {0, 1, 2}
    assert 150 < sum(view.flip for view in views) < 250


def test_the_caller_keeps_its_arrays() -> None:
    given = painted((14, 15), 0)
    kept = [array.copy() for array in given]
    for view in (View(0, 1, 2, False), View(0, 0, 0, False), View(0, 2, 1, True)):
        made = (
            crop_frames(given[0], view, crop=12),
            crop_joints(given[1], view, PAIRS, crop=12),
            crop_visible(given[2], view, PAIRS),
        )
        for array in made[1:]:  # of frames a part may be seen, not written
            array[...] = 0
        for after, before in zip(given, kept, strict=True):
            np.testing.assert_array_equal(after, before)


def test_absent_joints_stay_absent() -> None:
    joints = np.full((1, 1, 5, 2), np.nan, np.float32)
    assert np.isnan(crop_joints(joints, View(0, 3, 3, True), PAIRS)).all()


def test_mirroring_twice_is_the_identity() -> None:
    order = mirrored_order(5, PAIRS)
    assert order.tolist() == [1, 0, 3, 2, 4]
    assert order[order].tolist() == [0, 1, 2, 3, 4]


def test_refuses_frames_smaller_than_the_crop() -> None:
    with pytest.raises(ConfigError, match=r"crop: is larger.*got 112, expected at most 96"):
        view_of("any", 0, seed=0, draws=1, kept=(128, 96))

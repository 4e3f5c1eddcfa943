"""Thinned frames: every n-th, or the mean of each n, of joints over the frames where they are present."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star.data.frames import frames_of, thinned, thinned_joints


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 17), step=st.integers(1, 9), seed=st.integers(0, 99))
def test_means_equal_a_loop(frames: int, step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    jm = rng.normal(size=(2, frames, 3, 4)).astype(np.float16)
    mask = rng.random((2, frames, 3)) < 0.6
    jm[~mask] = 0  # as stored
    tokens, present = thinned_joints(jm, mask, step, mean=True)
    whole = thinned(jm, step, mean=True)
    assert tokens.shape[1] == whole.shape[1] == frames_of(frames, step)
    for t in range(frames_of(frames, step)):
        part = slice(t * step, (t + 1) * step)
        assert np.allclose(whole[:, t], jm[:, part].astype(float).mean(axis=1), atol=1e-3)
        for clip in range(2):
            for joint in range(3):
                seen = jm[clip, part, joint][mask[clip, part, joint]].astype(float)
                assert present[clip, t, joint] == (len(seen) > 0)
                expected = seen.mean(axis=0) if len(seen) else np.zeros(4)
                assert np.allclose(tokens[clip, t, joint], expected, atol=1e-3)


@pytest.mark.parametrize("step", [1, 2, 3, 16])
def test_every_nth_frame_is_the_first_of_each_n(step: int) -> None:
    jm = np.arange(16, dtype=np.float16)[None, :, None, None]
    mask = (np.arange(16) % 2 == 0)[None, :, None]
    tokens, present = thinned_joints(jm, mask, step, mean=False)
    assert tokens.ravel().tolist() == list(range(0, 16, step))
    assert present.ravel().tolist() == [t % 2 == 0 for t in range(0, 16, step)]
    assert thinned(jm, step, mean=False).ravel().tolist() == list(range(0, 16, step))


def test_values_of_an_absent_joint_do_not_enter_a_mean() -> None:
    jm = np.array([2.0, 1000.0, 4.0, 1000.0], np.float16)[None, :, None, None]
    mask = np.array([True, False, True, False])[None, :, None]
    tokens, present = thinned_joints(jm, mask, 4, mean=True)
    assert tokens.ravel().tolist() == [3.0]
    assert present.all()

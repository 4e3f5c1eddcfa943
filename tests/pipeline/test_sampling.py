"""Frame indices against segments cut by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import SAMPLING
from pipeline.errors import ConfigError, DataError
from pipeline.sampling import sample_indices

sizes = given(frames=st.integers(1, 700), samples=st.integers(1, 40))


def segments(frames: int, samples: int) -> list[tuple[Fraction, Fraction]]:
    return [(Fraction(i * frames, samples), Fraction((i + 1) * frames, samples)) for i in range(samples)]


@sizes
def test_uniform_takes_the_centre_of_each_segment(frames: int, samples: int) -> None:
    expected = [int((low + high) / 2) for low, high in segments(frames, samples)]
    assert sample_indices(frames, samples).tolist() == expected


@sizes
def test_random_takes_one_frame_of_each_segment(frames: int, samples: int) -> None:
    drawn = sample_indices(frames, samples, policy="random", rng=np.random.default_rng(frames))
    for index, (low, high) in zip(drawn.tolist(), segments(frames, samples), strict=True):
        assert int(low) <= index < high


@sizes
def test_windows_are_consecutive_and_short_videos_repeat_evenly(frames: int, samples: int) -> None:
    first, middle, last = (
        sample_indices(frames, samples, policy=name).tolist() for name in ("first", "middle", "last")
    )
    if frames < samples:
        assert first == middle == last == sample_indices(frames, samples).tolist()
        assert set(first) == set(range(frames))
    else:
        assert first == list(range(samples))
        assert last == list(range(frames - samples, frames))
        before, after = middle[0], frames - 1 - middle[-1]
        assert middle == list(range(before, before + samples))
        assert 0 <= after - before <= 1


@sizes
def test_every_policy_stays_in_the_video_and_goes_forward(frames: int, samples: int) -> None:
    for policy in SAMPLING:
        indices = sample_indices(frames, samples, policy=policy, rng=np.random.default_rng(0))
        assert indices.dtype == np.int64
        assert indices.shape == (samples,)
        assert 0 <= indices[0] <= indices[-1] < frames
        assert (np.diff(indices) >= 0).all()


def test_known_values() -> None:
    assert sample_indices(103).tolist() == [3, 9, 16, 22, 28, 35, 41, 48, 54, 61, 67, 74, 80, 86, 93, 99]
    assert sample_indices(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert sample_indices(20, 4, policy="middle").tolist() == [8, 9, 10, 11]


def test_random_is_its_generator_s_alone_and_reaches_every_frame() -> None:
    def draw(seed: int) -> list[int]:
        return sample_indices(50, 16, policy="random", rng=np.random.default_rng(seed)).tolist()

    assert draw(1) == draw(1)
    counts = np.bincount(np.concatenate([draw(seed) for seed in range(2000)]), minlength=50)
    np.testing.assert_allclose(counts / 2000, 16 / 50, atol=0.06)  # each frame as often as any other


def test_what_cannot_be_sampled_is_refused() -> None:
    with pytest.raises(DataError, match="no frames"):
        sample_indices(0)
    with pytest.raises(ConfigError, match="too small"):
        sample_indices(5, 0)
    with pytest.raises(ConfigError, match=r"uniform \| random"):
        sample_indices(5, policy="median")
    with pytest.raises(ConfigError, match="generator"):
        sample_indices(5, policy="random")

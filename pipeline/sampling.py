"""The choice of a clip's frames.

In: the number of frames and of samples. Out: frame indices (T,) in [0, num_frames), never decreasing, for pixels and
joints alike. Pure index arithmetic: it opens no file and ignores frame rates.

    uniform   |--x--|--x--|--x--|--x--|     the centre of each of T equal segments
    random    |x----|---x-|----x|-x---|     one frame from each of T equal segments
    first     xxxx----------------          T consecutive frames; likewise `middle` and `last`
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.config import SAMPLING
from pipeline.errors import ConfigError, DataError

_STEPS = 1 << 20  # of a segment, so that a random position in it is exact integer arithmetic


def sample_indices(
    num_frames: int,
    num_samples: int = 16,
    *,
    policy: str = "uniform",
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Frame indices (T,) of one clip, in order of time.

    Segment i of T covers [i, i + 1) * num_frames / T; for videos shorter than T, frames repeat evenly.

    Args:
        num_frames: the number of frames of both video and skeleton, at least 1.
        num_samples: T, at least 1.
        policy: one of `pipeline.config.SAMPLING`. `first`, `middle` and `last` take consecutive frames; for a video
            shorter than T they give what `uniform` gives.
        rng: the generator of `random`; unused by the others.

    Raises:
        DataError: no frames. ConfigError: an unknown policy, no samples, or `random` without a generator.
    """
    if num_frames < 1:
        raise DataError("video", "has no frames to sample", got=num_frames, expected="at least 1")
    if num_samples < 1:
        raise ConfigError("num_samples", "is too small", got=num_samples, expected="at least 1")
    if policy not in SAMPLING:
        raise ConfigError(policy, "is not a sampling policy", expected=" | ".join(SAMPLING))
    if policy == "random":
        if rng is None:
            raise ConfigError("random", "needs a generator", remedy="pass rng=keyed_rng(seed, record.key, draw)")
        steps = rng.integers(0, _STEPS, size=num_samples)
        return (np.arange(num_samples, dtype=np.int64) * _STEPS + steps) * num_frames // (num_samples * _STEPS)
    if policy == "uniform" or num_frames < num_samples:
        return (2 * np.arange(num_samples, dtype=np.int64) + 1) * num_frames // (2 * num_samples)
    spare = num_frames - num_samples
    start = {"first": 0, "middle": spare // 2, "last": spare}[policy]
    return np.arange(start, start + num_samples, dtype=np.int64)

"""The choice of a clip's persons among the bodies of a skeleton.

In: a Skeleton of any number of bodies (M). Out: the Skeleton of at most two of them, unchanged otherwise. Only the
joints decide: neither the label, nor the file's name, nor the order of the bodies. It repairs nothing: a person whose
body ID changes half way is two bodies.
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import ConfigError
from pipeline.skeletons.skeleton import Skeleton

WIDE_RATIO, WIDE_SHARE = 0.8, 0.7
STILL = 0.005
BRIEF_FRAMES, BRIEF_SHARE = 12, 0.25


def choose_persons(skeleton: Skeleton, *, most: int = 2) -> Skeleton:
    """At most `most` persons, the one that moves most first.

    Each body has a *motion*, the root mean square distance of its usable joints from their own mean position over time,
    divided by its *size*, the median diagonal of the box around its joints. A body is a *ghost* (a chair, a coat, a
    reflection, a flicker of the tracker) if one of these holds:

    - wide: in more than 0.7 of its frames the box is wider than 0.8 of its height;
    - still: its motion is below 0.005 (the stillest person in the real files that the tests read has 0.012; nobody
      stands as still as a chair);
    - brief: it is present in fewer than 12 frames, and in less than a quarter of those of the longest-lived body;
    - it has no usable joint at all.

    Of the bodies that are not ghosts, the `most` with the largest motion times number of frames stay, in that order
    (ties: the smaller body ID first). Where all are ghosts, only the one with the largest product stays, so that a
    lying person is not lost. A body without any usable joint never stays.

    Wide and brief follow public preparations of NTU RGB+D (CTR-GCN: 0.8, 0.69754 and 11 frames); unlike them nothing
    is removed from the frames of a body that stays.

    Raises ConfigError: `most` is below 1.
    """
    if most < 1:
        raise ConfigError("most", "is too small", got=most, expected="at least 1")
    lifetimes = (skeleton.scores > 0).any(axis=2).sum(axis=1)  # (M,)
    ranks: list[tuple[bool, float, int, int]] = []
    for slot in np.flatnonzero(lifetimes):
        motion, wide = _describe(skeleton, int(slot))
        frames = int(lifetimes[slot])
        brief = frames < BRIEF_FRAMES and frames < BRIEF_SHARE * int(lifetimes.max())
        ghost = wide > WIDE_SHARE or motion < STILL or brief
        ranks.append((ghost, -motion * frames, int(skeleton.body_ids[slot]), int(slot)))
    ranks.sort()
    persons = [slot for ghost, _, _, slot in ranks if not ghost][:most] or [slot for *_, slot in ranks[:1]]
    return skeleton.take(np.array(persons, dtype=np.int64))


def _describe(skeleton: Skeleton, slot: int) -> tuple[float, float]:
    """(motion, share of its frames in which its box is wide) of a body that has usable joints."""
    usable = skeleton.scores[slot] > 0  # (T, V)
    seen = usable.any(axis=1)
    usable, joints = usable[seen][..., None], skeleton.joints[slot][seen].astype(np.float64)
    low = np.where(usable, joints, np.inf).min(axis=1)
    extent = np.where(usable, joints, -np.inf).max(axis=1) - low  # (frames, 2)
    size = float(np.median(np.hypot(extent[:, 0], extent[:, 1])))
    counts = usable.sum(axis=0)  # (V, 1)
    mean = np.where(usable, joints, 0).sum(axis=0) / np.maximum(counts, 1)
    squared = np.where(usable, (joints - mean) ** 2, 0).sum()
    motion = float(np.sqrt(squared / counts.sum())) / size if size > 0 else 0.0
    return motion, float(np.mean(extent[:, 0] > WIDE_RATIO * extent[:, 1]))

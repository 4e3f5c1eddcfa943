"""The number of the first frame and the number of frames: what a pose file's numbers tell, and when they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.errors import SkeletonError
from pipeline.skeletons.frame_numbers import first_number, frames_covered, tolerance
from pipeline.skeletons.pose_file import PoseFile


def numbered(listing: Any, numbers: Any, *, base: int | None = None, length: int = 0) -> PoseFile:
    numbers = np.array(sorted(numbers), dtype=np.int64)
    return PoseFile(
        numbers, np.ones((len(numbers), 17, 3), np.float32), None, listing, numbers, length=length, base=base
    )


REFUSED = "does not tell whether its frames count from 0 or from 1"


@pytest.mark.parametrize("listing", ["folder", "list"])
@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        (range(24), 0),
        (range(1, 25), 1),  # as many as the video has
        ([0, 5, 23], 0),
        ([5, 24], None),  # frame 24 from 1, or that of a frame more, counted from 0
        (range(100, 124), 100),
        (range(1, 24), None),  # nobody in the first frame, or in the last
        ([5, 12], None),
        ([1, 25], None),
        (range(2, 25), None),
        (range(101, 124), None),
    ],
)
def test_the_first_number(listing: Any, numbers: Any, first: int | None) -> None:
    poses = numbered(listing, numbers)
    if first is None:
        with pytest.raises(SkeletonError, match=REFUSED):
            first_number("x", poses, frames=24, first_frame=None)
    else:
        assert first_number("x", poses, frames=24, first_frame=None) == first
    for told in (0, 1):
        if min(numbers) >= told:
            assert first_number("x", poses, frames=24, first_frame=told) == told
        else:
            with pytest.raises(SkeletonError, match=r"has a frame 0 .*as `first_frame` says"):
                first_number("x", poses, frames=24, first_frame=told)


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        ([1, 23], 0),
        ([5, 20], 0),
        ([1, 24], None),
        (range(1, 25), 1),
        ([1, 25], None),
        (range(2, 26), None),
        ([0, 25], 0),
    ],
)
def test_a_format_that_counts_from_0(numbers: Any, first: int | None) -> None:
    poses = numbered("list", numbers, base=0)
    if first is None:
        with pytest.raises(SkeletonError, match=REFUSED):
            first_number("x", poses, frames=24, first_frame=None)
    else:
        assert first_number("x", poses, frames=24, first_frame=None) == first


def test_a_folder_may_have_lost_a_file_in_the_middle() -> None:
    assert first_number("x", numbered("folder", [1, 24]), frames=24, first_frame=None) == 1
    with pytest.raises(SkeletonError, match=REFUSED):
        first_number("x", numbered("list", [1, 24]), frames=24, first_frame=None)


def test_no_numbers_can_be_a_frame_off() -> None:
    """The true detections of a video in any true counting: the number of the first frame is found, or asked for."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(3000):
        frames, true = int(rng.integers(4, 40)), int(rng.integers(0, 2))
        listing = str(rng.choice(["folder", "list"]))
        seen = (
            np.flatnonzero(rng.random(frames) < rng.choice([0.3, 0.9, 1.0])) if listing == "list" else np.arange(frames)
        )
        if not seen.size:
            continue
        poses = numbered(listing, seen + true)
        try:
            first = first_number("x", poses, frames=frames, first_frame=None)
        except SkeletonError:
            assert listing == "list"
        else:
            assert first == true
            found += 1
    assert found > 1500


def test_without_a_video_a_first_number_of_0_or_1_is_the_first_frame() -> None:
    assert [first_number("x", numbered("list", n), frames=None, first_frame=None) for n in ([0, 3], [1, 3])] == [0, 1]
    assert first_number("x", numbered("list", [5], base=0), frames=None, first_frame=None) == 0
    with pytest.raises(SkeletonError, match=REFUSED):
        first_number("x", numbered("list", [2, 3]), frames=None, first_frame=None)


def test_how_many_frames_may_differ() -> None:
    assert [tolerance(n) for n in (1, 24, 40, 59, 60, 100, 1000)] == [2, 2, 2, 2, 3, 5, 50]
    claimed = numbered("list", [0, 3], length=12)
    with pytest.raises(SkeletonError, match="got 12 frames of poses, expected 24"):
        frames_covered("x", claimed, first=0, frames=24)
    assert frames_covered("x", claimed, first=0, frames=13) == 12
    assert frames_covered("x", numbered("list", [0, 3]), first=0, frames=24) == 4
    with pytest.raises(SkeletonError, match="claims too many frames"):
        frames_covered("x", numbered("list", [0, 1 << 40]), first=0, frames=None)

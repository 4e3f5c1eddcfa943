"""Frame numbers of a pose file -> frames of the video, by one rule for all formats: right, or refused.

In: how the file counts (`PoseFile`), the video's number of frames, and what the user says. Out: the number that the
file gives to the first frame, and the number of frames that it covers. A joint is never a frame off silently: where the
numbers fit two beginnings, it asks for `first_frame`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from pipeline.errors import SkeletonError
from pipeline.skeletons.pose_file import PoseFile

MOST_FRAMES = 10_000_000  # 90 hours


def tolerance(frames: int) -> int:
    """By how many frames poses and a video of `frames` frames may differ: the counts of real data sets do."""
    return max(2, frames // 20)


def first_number(
    path: str | Path,
    poses: PoseFile,
    *,
    frames: int | None,
    first_frame: int | None,
    first_picture: int | None = None,
) -> int:
    """The number of the first frame in the file's own counting.

    - Arrays count from 0. For the others `first_frame`, where it is given, decides; otherwise:
    - a number 0 is the first frame;
    - as many numbers as the video has frames, without a gap, are its frames; so are, in a folder of a file for each
      frame, numbers from 1 to that of frames, though a file be lost;
    - where the video is a folder of pictures, a list that names them counts as they do, from `first_picture`;
    - a list with the names that its format gives to the frames of a video counts as the format does;
    - otherwise the file does not tell 0 from 1: its first frames may be without people, or its last.

    Without a video (`frames` is None) a first number of 0 or 1 is the first frame.

    Raises SkeletonError: the numbers do not tell, or begin before `first_frame`.
    """
    if not poses.numbers.size:  # an array, or nobody in any frame
        return 0
    lowest, highest = int(poses.numbers[0]), int(poses.numbers[-1])
    if first_frame is not None:
        if lowest < first_frame:
            raise SkeletonError(path, f"has a frame {lowest}", expected=f"{first_frame} or more, as `first_frame` says")
        return first_frame
    if lowest == 0:
        return 0
    if frames is None:
        if poses.base is not None or lowest == 1:
            return lowest if poses.base is None else poses.base
    else:
        whole = highest - lowest + 1 == len(poses.numbers) == frames
        if whole and (poses.base is None or lowest == 1):
            return lowest
        if poses.listing == "folder" and (lowest, highest) == (1, frames):
            return 1
        if first_picture is not None and poses.base is None:
            if first_picture <= lowest and highest < first_picture + frames:
                return first_picture
        elif first_picture:  # 1.jpg may be that picture, or the name that the tool gives to the second frame
            return _not_told(path, poses, frames)
        # in a list, a last number that is the number of frames may be that of a frame more, counted from 0
        if poses.base is not None and highest < frames:
            return poses.base
    return _not_told(path, poses, frames)


def _not_told(path: str | Path, poses: PoseFile, frames: int | None) -> NoReturn:
    got = f"frames {poses.numbers[0]} to {poses.numbers[-1]}"
    got += "" if frames is None else f", a video of {frames} frames"
    remedy = "set `first_frame` to 0 or 1, the number of the video's first frame, for another `out`"
    raise SkeletonError(path, "does not tell whether its frames count from 0 or from 1", got=got, remedy=remedy)


def frames_covered(path: str | Path, poses: PoseFile, *, first: int, frames: int | None) -> int:
    """The number of frames that the file covers, counted from frame number `first`.

    Raises SkeletonError: with a video of `frames` frames, the file is of another number of frames, beyond `tolerance`;
    a list may be shorter, since it may leave out frames without people.
    """
    extent = int(poses.numbers[-1]) + 1 - first if poses.numbers.size else 0
    covered = max(poses.length, extent)
    if frames is None:
        if covered > MOST_FRAMES:
            raise SkeletonError(path, "claims too many frames", got=covered, expected=f"at most {MOST_FRAMES}")
        return covered
    complete = poses.listing != "list" or poses.length
    if covered - frames > tolerance(frames) or (complete and frames - covered > tolerance(frames)):
        got, expected = f"{covered} frames of poses", f"{frames}, the video's, give or take {tolerance(frames)}"
        remedy = "use the poses of this very video, at its own frame rate"
        raise SkeletonError(
            path, "has another number of frames than the video", got=got, expected=expected, remedy=remedy
        )
    return covered

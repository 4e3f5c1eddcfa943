"""JSON of OpenPose and similar estimators: a folder of one file a frame, or one file a video -> Skeleton.

In: a path, and the picture's size where coordinates are fractions of it. Out: axes (M, T, V, ...), all people found,
each tracked over time by `tracking`. Frames are numbered from 0 or, if there is no 0 but a 1, from 1; a missing number
is a frame without people. Also holds helpers that `coco` uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.skeleton import Skeleton
from pipeline.skeletons.tracking import Person, track_persons

Size = tuple[int, int]  # (height, width)
People = dict[int, list[Person]]  # by frame number

Parsed = TypeVar("Parsed")

OPENPOSE_JOINTS = 18
_FRAME_FILE = re.compile(r"(?:.*\D)?([0-9]+)(?:_keypoints)?\.json")
_SHARES = 2.0  # coordinates all below this are fractions of the picture: in pixels, a person of two pixels
_MAX_FRAMES = 10_000_000  # 90 hours; a damaged number must not take all memory
_REMEDY = "make it again with the pose estimator"


def read_pose_folder(path: str | Path, *, size: Size | None = None) -> Skeleton:
    """The people in a folder of one JSON file a frame, its number last in the name (…_000000000042_keypoints.json).

    A file is OpenPose's {"people": [{"pose_keypoints_2d": [x, y, score, …]}]} (`pose_keypoints` in old versions), or
    [{"joints": [[x, y], …]}] with -1 for what was not found. Files without a number are passed over.

    `size`, (height, width) of the video in pixels, is needed where coordinates are fractions of the picture.

    Raises SkeletonError: no such file, a file of another form (it is named), or fractions without a size.
    """
    people: People = {}
    for file in sorted(Path(path).iterdir()):
        if match := _FRAME_FILE.fullmatch(file.name):
            people[int(match.group(1))] = parsed(file, load_json(file), _frame)
    if not people:
        raise SkeletonError(path, "holds no pose files", expected="JSON files whose names end in the frame's number")
    return tracked(path, people, size=size, num_joints=OPENPOSE_JOINTS)


def read_pose_file(path: str | Path, *, size: Size | None = None) -> Skeleton:
    """The people in one JSON file a video, {"data": [{"frame_index": 1, "skeleton": [{"pose": …, "score": …}]}]}.

    The form made from OpenPose for Kinetics: pose is x, y, x, y, … and score one number a joint. Where all scores of a
    file are 0 it holds none; then a joint was not found if it lies at (0, 0). Arguments and errors as for
    `read_pose_folder`.
    """
    return tracked(path, parsed(path, load_json(path), _video), size=size, num_joints=OPENPOSE_JOINTS)


def _frame(content: Any) -> list[Person]:
    return [_person(person) for person in (content["people"] if isinstance(content, dict) else content)]


def _person(person: dict[str, Any]) -> Person:
    if "joints" in person:
        places = np.array(person["joints"], dtype=np.float32).reshape(-1, 2)
        return np.column_stack([places, (places >= 0).all(axis=1)]).astype(np.float32)
    flat = person["pose_keypoints_2d"] if "pose_keypoints_2d" in person else person["pose_keypoints"]
    return np.array(flat, dtype=np.float32).reshape(-1, 3)


def _video(content: Any) -> People:
    people: People = {}
    for frame in content["data"]:
        poses = [np.array(person["pose"], dtype=np.float32).reshape(-1, 2) for person in frame["skeleton"]]
        scores = [np.array(person["score"], dtype=np.float32) for person in frame["skeleton"]]
        people[int(frame["frame_index"])] = [np.column_stack(pair) for pair in zip(poses, scores, strict=True)]
    everyone = [person for found in people.values() for person in found]
    if not any(person[:, 2].any() for person in everyone):
        for person in everyone:
            person[:, 2] = person[:, :2].any(axis=1)
    return people


def load_json(path: str | Path) -> Any:
    """The content of a JSON file. SkeletonError if it cannot be read as one."""
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SkeletonError(path, "cannot be read as JSON", got=error, remedy=_REMEDY) from error


def parsed(path: str | Path, content: Any, parse: Callable[[Any], Parsed]) -> Parsed:
    """What `parse` makes of a file's content. SkeletonError, naming the file, where the content is of another form."""
    try:
        return parse(content)
    except KeyError as error:
        raise SkeletonError(path, "is of another form than expected", got=f"no {error}", remedy=_REMEDY) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SkeletonError(path, "is of another form than expected", got=error, remedy=_REMEDY) from error


def tracked(path: str | Path, people: People, *, size: Size | None, num_joints: int, length: int = 0) -> Skeleton:
    """People by frame number -> persons over time, in pixels.

    `num_joints` is V where nobody was found; `length` the least T. SkeletonError where the numbering begins late,
    people differ in their joints, or coordinates are fractions and no `size` is given.
    """
    first = in_order(path, people)
    everyone = [person for found in people.values() for person in found]
    joints = {len(person) for person in everyone} or {num_joints}
    if len(joints) > 1:
        raise SkeletonError(path, "holds people of different numbers of joints", got=sorted(joints), remedy=_REMEDY)
    scale = picture_scale(path, everyone, size=size)
    length = max(length, max(people, default=-1) + 1 - first)
    frames = [[person * scale for person in people.get(first + t, [])] for t in range(length)]
    return track_persons(frames, num_joints=joints.pop())


def in_order(path: str | Path, numbers: Collection[int]) -> int:
    """The number of the first frame, 0 or 1. SkeletonError where both are absent: the beginning is not known."""
    if not numbers or (min(numbers) in (0, 1) and max(numbers) <= _MAX_FRAMES):
        return min(numbers, default=0)
    got = f"frames {min(numbers)} to {max(numbers)}"
    remedy = "list the frames from the first"
    raise SkeletonError(path, "does not number its frames from 0 or 1", got=got, remedy=remedy)


def picture_scale(path: str | Path, everyone: Iterable[Person], *, size: Size | None) -> NDArray[np.float32]:
    """Factors of x, y, score: 1 where coordinates are pixels, the picture's size where they are fractions of it."""
    places = [person[person[:, 2] > 0, :2] for person in everyone]
    if max((float(place.max()) for place in places if place.size), default=_SHARES) >= _SHARES:
        return np.ones(3, dtype=np.float32)
    if size is None:
        raise SkeletonError(path, "holds places as shares of the picture", remedy="give the picture's size with it")
    return np.array([size[1], size[0], 1], dtype=np.float32)  # (3,)

"""JSON of OpenPose and similar estimators: a folder of one file a frame, or one file a video -> PoseFile.

In: a path. Out: all people found, under the file's own frame numbers. Neither units nor the number of the first frame
are decided here, and people are not followed over time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.files import OWN_FORM, listed, load_json, numbers, parsed, shown, whole
from pipeline.skeletons.pose_file import Detection, PoseFile, pose_file

_FRAME_FILE = re.compile(r"(?:.*\D)?([0-9]+)(?:_keypoints)?\.json", re.DOTALL)
_MOST_FILES = 1_000_000  # nine hours


def read_pose_folder(path: str | Path) -> PoseFile:
    """The people in a folder of one JSON file a frame, its number last in the name (…_000000000042_keypoints.json).

    A file is OpenPose's {"people": [{"pose_keypoints_2d": [x, y, score, …]}]} (`pose_keypoints` in old versions), or
    [{"joints": [[x, y], …]}] with -1 for what was not found. A person is its `person_id` where all people have one that
    is not negative. Files whose names do not end in a number are passed over.

    Raises SkeletonError: no such file, two of the same number, or a file of another form (it is named).
    """
    files: dict[int, Path] = {}
    others: set[str] = set()
    try:
        for file in Path(path).iterdir():
            if not (match := _FRAME_FILE.fullmatch(file.name)):
                others.add(file.name)
                continue
            number = int(match.group(1))
            if other := files.get(number):
                remedy = "put the frames of each video into a folder of their own"
                got = f"{shown(min(other.name, file.name))} and {shown(max(other.name, file.name))}"
                raise SkeletonError(path, f"holds frame {number} twice", got=got, remedy=remedy)
            files[number] = file
            if len(files) > _MOST_FILES:
                raise SkeletonError(path, "holds too many files", expected=f"at most {_MOST_FILES}")
    except OSError as error:
        raise SkeletonError(path, "cannot be listed", got=error.strerror, remedy="check the folder") from error
    if not files:
        expected = "JSON files whose names end in the frame's number"
        got = f"files such as {shown(min(others))}" if others else "an empty folder"
        raise SkeletonError(path, "holds no pose files", got=got, expected=expected, remedy=OWN_FORM)
    found: list[Detection] = []
    for number, file in sorted(files.items()):
        people = parsed(file, load_json(file), _frame)
        found += [Detection(number, body, values) for body, values in people]
    return pose_file(path, found, files, listing="folder")


def read_pose_list(path: str | Path, content: Any) -> PoseFile:
    """The people in one JSON file a video, {"data": [{"frame_index": 1, "skeleton": [{"pose": …, "score": …}]}]}.

    The form made from OpenPose for Kinetics: pose is x, y, x, y, … and score one number a joint. Where all scores of a
    file are 0 it holds none; then a joint was not found if it lies at (0, 0).

    Raises SkeletonError: the content is of another form, or lists a frame twice.
    """
    found, named = parsed(path, content, _video)
    if not any(one.values[:, 2].any() for one in found):
        for one in found:
            one.values[:, 2] = one.values[:, :2].any(axis=1)
    return pose_file(path, found, named, listing="list")


def _frame(content: Any) -> list[tuple[int | None, NDArray[np.float32]]]:
    """(person_id or None, x y score) of each person in one frame."""
    return [_person(person) for person in listed(content["people"] if isinstance(content, dict) else content)]


def _person(person: dict[str, Any]) -> tuple[int | None, NDArray[np.float32]]:
    if "joints" in person:
        places = numbers(person["joints"]).reshape(-1, 2)
        return None, np.column_stack([places, (places >= 0).all(axis=1)]).astype(np.float32)
    flat = person["pose_keypoints_2d"] if "pose_keypoints_2d" in person else person["pose_keypoints"]
    return person_number(person.get("person_id")), numbers(flat).reshape(-1, 3)


def person_number(value: Any) -> int | None:
    """A person's number, which may stand alone in a list; None for null, negative numbers and an empty list."""
    if type(value) is list and len(value) < 2:
        value = value[0] if value else None
    if value is None:
        return None
    number = whole(value, "number of a person")
    return number if number >= 0 else None


def _video(content: Any) -> tuple[list[Detection], set[int]]:
    found: list[Detection] = []
    named: set[int] = set()
    for frame in listed(content["data"]):
        number = whole(frame["frame_index"], "frame number")
        if number in named:
            raise ValueError(f"frame {number} twice")
        named.add(number)
        for person in listed(frame["skeleton"]):
            places, scores = numbers(person["pose"]).reshape(-1, 2), numbers(person["score"])
            if scores.shape != places.shape[:1]:
                raise ValueError(f"{len(places)} joints and {scores.size} scores in frame {number}")
            found.append(Detection(number, None, np.column_stack([places, scores])))
    return found, named

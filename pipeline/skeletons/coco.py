"""COCO JSON of one video, annotations or results (AlphaPose's too) -> PoseFile.

In: a file's content. Out: all people found, under the numbers in their frames' names; V as in the file: 17 in COCO's
own, 15 in JHMDB's copies. A person is its `track_id`, or AlphaPose's `idx`. A file of several videos is refused: a pose
file belongs to one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.files import listed, numbers, parsed, shown, whole
from pipeline.skeletons.openpose import person_number
from pipeline.skeletons.pose_file import Detection, PoseFile, Size, pose_file

_NUMBER = re.compile(r"(|.*\D)([0-9]+)\D*", re.DOTALL)
_OF_A_VIDEO = re.compile(r"(0|[1-9][0-9]*)\.(jpg|png)")  # the names that AlphaPose gives to the frames of a video
_FLAGS = np.array([1, 1, 0.5], dtype=np.float32)  # x, y and a flag of at most 2 times this: x, y, score


class _Content(NamedTuple):
    """Detections, the numbers of the frames, and what the file states of its video, every value once."""

    found: list[Detection]
    numbers: set[int]
    videos: set[str]
    sizes: set[Size | None]
    length: int
    base: int | None
    names: dict[int, str]  # of the pictures, without folder and suffix


def read_coco(path: str | Path, content: Any) -> PoseFile:
    """The people of one video in COCO JSON: {"images", "annotations"}, or a list of results.

    A frame's number is the last number in its file's name (or in `image_id`, for results). Lists whose frames are all
    named as AlphaPose names those of a video (`0.jpg`) count from 0. The third of each keypoint triple is a flag where
    the file has only 0, 1 and 2, among them a 2: not labelled, hidden, seen become scores 0, 0.5 and 1. Otherwise it is
    the score. AlphaPose writes `idx` 0 throughout where it follows nobody: then people have no names.

    Raises SkeletonError: content of another form, of several videos, of pictures of several sizes, or with a person
    twice in one frame.
    """
    file = parsed(path, content, _results if isinstance(content, list) else _annotations)
    if len(file.videos) > 1:
        raise SkeletonError(path, f"holds {len(file.videos)} videos", expected="one", remedy="split it by video")
    if len(file.sizes) > 1:
        raise SkeletonError(
            path, f"holds pictures of {len(file.sizes)} sizes", expected="one", remedy="split it by size"
        )
    found = file.found
    flags = {float(value) for one in found for value in np.unique(one.values[:, 2])}
    if 2.0 in flags and flags <= {0.0, 1.0, 2.0}:
        found = [one._replace(values=one.values * _FLAGS) for one in found]
    picture = next(iter(file.sizes), None)
    poses = pose_file(path, found, file.numbers, listing="list", length=file.length, base=file.base, picture=picture)
    return replace(poses, first_name=file.names[min(file.names)] if file.names else "")


def _annotations(content: dict[str, Any]) -> _Content:
    frames: dict[Any, int] = {}
    file = _Content([], set(), set(), set(), 0, None, {})
    length, images = 0, set()
    for image in listed(content["images"]):
        video, number = _frame(image["file_name"])
        if image["id"] in frames or (video, number) in images:
            raise ValueError(f"image {shown(image['file_name'])} twice")
        frames[image["id"]] = number
        images.add((video, number))
        file.numbers.add(number)
        file.names[number] = PurePosixPath(image["file_name"]).stem
        file.videos.add(str(image.get("vid_id", image.get("video_id", video))))
        has_size = "width" in image and "height" in image
        file.sizes.add((whole(image["height"], "height"), whole(image["width"], "width")) if has_size else None)
        length = max(length, whole(image.get("nframes", 0), "number of frames"))
    for note in listed(content["annotations"]):
        file.found.append(Detection(frames[note["image_id"]], person_number(note.get("track_id")), _keypoints(note)))
    return file._replace(length=length)


def _results(content: list[dict[str, Any]]) -> _Content:
    file = _Content([], set(), set(), {None}, 0, None, {})
    by_tool = True
    for note in content:
        name = note["image_id"]
        if type(name) not in (str, int):
            raise TypeError(f"{shown(name)} is no name of a frame")
        by_tool &= type(name) is str and bool(_OF_A_VIDEO.fullmatch(name))
        video, number = _frame(str(name))
        file.numbers.add(number)
        file.names[number] = PurePosixPath(str(name)).stem
        file.videos.add(video)
        body = person_number(note["idx"] if note.get("idx") is not None else note.get("track_id"))
        file.found.append(Detection(number, body, _keypoints(note)))
    if all(one.body == 0 for one in file.found):
        file = file._replace(found=[one._replace(body=None) for one in file.found])
    return file._replace(base=0 if by_tool else None)


def _keypoints(note: dict[str, Any]) -> NDArray[np.float32]:
    return numbers(note["keypoints"]).reshape(-1, 3)


def _frame(name: str) -> tuple[str, int]:
    """A frame's video, by folder and the rest of its name, and its number, the last in its file's name."""
    file = PurePosixPath(name)
    match = _NUMBER.fullmatch(file.stem)
    if match is None:
        raise ValueError(f"{shown(name)} has no frame number")
    return str(file.parent / match.group(1)), int(match.group(2))

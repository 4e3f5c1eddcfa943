"""COCO JSON of one video, annotations or results -> Skeleton.

In: a path, and the picture's size where coordinates are fractions of it. Out: axes (M, T, V, ...), V as in the file: 17
in COCO's own, 15 in JHMDB's copies. Where every annotation has a `track_id`, that is the person; otherwise people are
tracked by position. A file of several videos is refused: a skeleton belongs to one.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import SkeletonError
from pipeline.skeletons.openpose import People, Person, Size, in_order, load_json, parsed, picture_scale, tracked
from pipeline.skeletons.skeleton import Skeleton, make_skeleton

COCO_JOINTS = 17
_FLAGS = np.array([1, 1, 0.5], dtype=np.float32)  # x, y and a flag of at most 2 times this: x, y, score


class _Found(NamedTuple):
    """One annotation: frame number, person (None if not named), joints (V, 3) as x, y, v."""

    frame: int
    track: int | None
    person: Person


class _File(NamedTuple):
    """A file's annotations, the numbers of its frames, the number of frames it claims, and its videos' names."""

    found: list[_Found]
    frames: set[int]
    length: int
    videos: set[str]


def read_coco(path: str | Path, *, size: Size | None = None) -> Skeleton:
    """The people of one video in a COCO file: {"images", "annotations"}, or a list of results.

    A frame's number is the last number in its file's name (or in `image_id`, for results). The third of each keypoint
    triple is a flag where the file has only 0, 1 and 2, among them a 2: not labelled, hidden, seen become scores 0, 0.5
    and 1. Otherwise it is the score.

    `size`, (height, width) of the video in pixels, is needed where coordinates are fractions of the picture.

    Raises SkeletonError: a file of another form or of several videos, or a track twice in one frame.
    """
    content = load_json(path)
    file = parsed(path, content, _results if isinstance(content, list) else _annotations)
    if len(file.videos) > 1:
        raise SkeletonError(path, f"holds {len(file.videos)} videos", expected="one", remedy="split it by video")
    values = {float(value) for found in file.found for value in found.person[:, 2]}
    if 2.0 in values and values <= {0.0, 1.0, 2.0}:
        file = file._replace(found=[found._replace(person=found.person * _FLAGS) for found in file.found])
    if any(found.track is None for found in file.found) or not file.found:
        people: People = {frame: [] for frame in sorted(file.frames)}
        for found in file.found:
            people[found.frame].append(found.person)
        return tracked(path, people, size=size, num_joints=COCO_JOINTS, length=file.length)
    return _by_track(path, file, size=size)


def _annotations(content: dict[str, Any]) -> _File:
    frames, videos, length = {}, set(), 0
    for image in content["images"]:
        name = PurePosixPath(image["file_name"])
        frames[image["id"]] = _last_number(name.stem)
        videos.add(str(image.get("vid_id", image.get("video_id", name.parent))))
        length = max(length, int(image.get("nframes", 0)))
    found = [_Found(frames[note["image_id"]], note.get("track_id"), _person(note)) for note in content["annotations"]]
    return _File(found, set(frames.values()), length, videos)


def _results(content: list[dict[str, Any]]) -> _File:
    found = [_Found(_last_number(PurePosixPath(str(note["image_id"])).stem), None, _person(note)) for note in content]
    return _File(found, {one.frame for one in found}, 0, set())


def _person(note: dict[str, Any]) -> Person:
    return np.array(note["keypoints"], dtype=np.float32).reshape(-1, 3)


def _last_number(text: str) -> int:
    numbers = re.findall("[0-9]+", text)
    if not numbers:
        raise ValueError(f"{text} has no frame number")
    return int(numbers[-1])


def _by_track(path: str | Path, file: _File, *, size: Size | None) -> Skeleton:
    first = in_order(path, file.frames)
    joints = {len(found.person) for found in file.found}
    if len(joints) > 1:
        raise SkeletonError(path, "holds people of different numbers of joints", got=sorted(joints))
    scale = picture_scale(path, [found.person for found in file.found], size=size)
    ids = sorted({int(found.track) for found in file.found if found.track is not None})
    table = np.full((len(ids), max(file.length, max(file.frames) + 1 - first), *joints, 3), np.nan, dtype=np.float32)
    present = np.zeros(table.shape[:2], dtype=bool)
    for found in file.found:
        assert found.track is not None
        cell = ids.index(int(found.track)), found.frame - first
        if present[cell]:
            raise SkeletonError(path, f"has track {found.track} twice in frame {found.frame}")
        table[cell], present[cell] = found.person * scale, True
    return make_skeleton(table[..., :2], table[..., 2], present, body_ids=np.array(ids, dtype=np.int64))

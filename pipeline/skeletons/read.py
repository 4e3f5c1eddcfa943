"""Skeletons of videos: any pose file -> PoseFile, its topology, or a Skeleton of all bodies in it.

In: a path. Out: what the file says. Each format has its own module (`ntu`, `mat`, `openpose`, `coco`, `own_format`);
this one recognises the format. The persons of a video, tied to its frames, are made by `of_video`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SkeletonError
from pipeline.skeletons.assemble import all_bodies
from pipeline.skeletons.coco import read_coco
from pipeline.skeletons.files import FORMS, OWN_FORM, load_json
from pipeline.skeletons.frame_numbers import first_number, frames_covered
from pipeline.skeletons.mat import read_mat
from pipeline.skeletons.ntu import read_ntu
from pipeline.skeletons.openpose import read_pose_folder, read_pose_list
from pipeline.skeletons.own_format import read_npz, read_own
from pipeline.skeletons.pose_file import PoseFile, Size
from pipeline.skeletons.skeleton import Skeleton
from pipeline.skeletons.tracking import track_people
from pipeline.skeletons.units import in_pixels

SUFFIXES = (".skeleton", ".mat", ".npz", ".json")
_BY_JOINTS = {13: "penn13", 15: "jhmdb15", 17: "coco17", 18: "openpose18", 25: "ntu25"}
_OTHERS = {  # numbers of joints of topologies that are not read
    16: "MPII's",
    20: "Kinect v1's",
    21: "a hand's",
    26: "Halpe's",
    33: "MediaPipe's",
    133: "COCO-WholeBody's",
    136: "Halpe-FullBody's",
}


def read_pose_file(path: str | Path) -> PoseFile:
    """What a file of any known format says, or a folder of one JSON file a frame.

    The suffix decides the format; for .mat and .json the content does.

    Raises SkeletonError: an unknown format (named, where it is one of the usual), or an error of the reader.
    """
    suffix = Path(path).suffix.lower()
    if os.path.isdir(path):
        return _named(read_pose_folder(path), "openpose25")
    if suffix == ".skeleton":
        return read_ntu(path)
    if suffix == ".mat":
        return read_mat(path)
    if suffix == ".npz":
        return read_own(path, read_npz(path))
    if suffix == ".json":
        return _json(path, load_json(path))
    problem = "looks like Ultralytics' labels" if suffix == ".txt" else "is of an unknown pose format"
    raise SkeletonError(path, problem, expected=f"a folder, or {' '.join(SUFFIXES)}", remedy=OWN_FORM)


def topology_of(path: str | Path) -> str:
    """The name of the topology of a pose file or folder: from its format, its `topology` entry, or its joint count.

    Raises SkeletonError: the file cannot be read, has a number of joints that no known topology has, or holds nobody
    whose joints could be counted.
    """
    poses = read_pose_file(path)
    if poses.topology:
        return poses.topology
    joints = poses.num_joints
    if not joints:
        raise SkeletonError(path, "holds nobody, so that its joints cannot be counted")
    if joints not in _BY_JOINTS:
        got = f"{joints} joints" + (f", perhaps {_OTHERS[joints]}" if joints in _OTHERS else "")
        expected = ", ".join(f"{v} ({name})" for v, name in _BY_JOINTS.items())
        remedy = "write an .npz with the joints of one of these (Halpe and WholeBody begin with COCO's 17)"
        raise SkeletonError(path, "has no known topology", got=got, expected=expected, remedy=remedy)
    return _BY_JOINTS[joints]


def states_topology(path: str | Path) -> bool:
    """Whether the file or its format says which joints it holds. Raises SkeletonError as `topology_of`."""
    return bool(read_pose_file(path).topology)


def read_skeleton(
    path: str | Path, *, size: Size | None = None, frames: int | None = None, first_frame: int | None = None
) -> Skeleton:
    """All bodies in a file of any known format: people without names are tracked.

    Args:
        size: (height, width) of the video in pixels; without it, places stay in the file's own pixels, and shares of
            the picture are refused.
        frames: the video's number of frames. T is this; without it, T is what the file covers, and a first frame number
            of 0 or 1 is taken for the first frame.
        first_frame: the number that the file gives to the first frame, 0 or 1, where the file does not tell.

    Raises SkeletonError: an error of `read_pose_file`, or places or frames whose meaning is not known.
    """
    poses = read_pose_file(path)
    poses, covered, _ = on_frames(path, poses, frames=frames, first_frame=first_frame)
    values, _ = in_pixels(path, poses.values, stated=poses.picture, size=size)
    poses = replace(poses, values=values)
    bodies = track_people(path, poses.frames, values) if poses.bodies is None else poses.bodies
    return all_bodies(path, poses, bodies, covered if frames is None else frames)


def on_frames(
    path: str | Path,
    poses: PoseFile,
    *,
    frames: int | None,
    first_frame: int | None,
    first_picture: int | None = None,
) -> tuple[PoseFile, int, int]:
    """(detections by frame of the video, from 0; the number of frames that the file covers; its first frame's number).

    Detections after the video's last frame are cut. Raises SkeletonError as `frame_numbers` does.
    """
    first = first_number(path, poses, frames=frames, first_frame=first_frame, first_picture=first_picture)
    covered = frames_covered(path, poses, first=first, frames=frames)
    at = poses.frames - first
    kept = np.flatnonzero(at < (covered if frames is None else frames))
    bodies = None if poses.bodies is None else poses.bodies[kept]
    xyz = None if poses.xyz is None else poses.xyz[kept]
    return replace(poses, frames=at[kept], values=poses.values[kept], bodies=bodies, xyz=xyz), covered, first


def _named(poses: PoseFile, with_25: str) -> PoseFile:
    """The same, with the topology that 25 joints have in this format."""
    return replace(poses, topology=with_25) if poses.num_joints == 25 else poses


def _json(path: str | Path, content: Any) -> PoseFile:
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(content, dict) and "people" in content:
        remedy = "put the frames of each video into a folder of their own"
        raise SkeletonError(path, "is a single frame of OpenPose", expected="a whole video", remedy=remedy)
    if isinstance(content, dict) and "data" in content:
        return _named(read_pose_list(path, content), "openpose25")
    if isinstance(content, dict) and "images" in content:
        return read_coco(path, content)
    if isinstance(content, dict) and "joints" in content:
        return read_own(path, content)
    if isinstance(content, list) and (first is None or (isinstance(first, dict) and "image_id" in first)):
        return read_coco(path, content)
    raise SkeletonError(path, _guess(content, first), expected=FORMS, remedy=OWN_FORM)


def _guess(content: Any, first: Any) -> str:
    """What a JSON file of another form is, in words."""
    if isinstance(content, dict) and "instance_info" in content:
        return "looks like the output of MMPose's demo"
    if isinstance(first, dict) and "instances" in first:
        return "looks like the output of MMPose's inferencer"
    detection = first[0] if isinstance(first, list) and first else first
    if isinstance(detection, dict) and {"box", "confidence"} <= set(detection):
        return "looks like the output of Ultralytics"
    if isinstance(content, dict) and content:
        return "is not a skeleton of known names"
    return "holds no poses of a known form"

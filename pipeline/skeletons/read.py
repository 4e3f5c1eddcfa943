"""Skeletons of videos: any pose file -> Skeleton.

In: a path. Out: `Skeleton`, axes (M, T, V, ...), of all bodies in the source.
Each format has its own module (`ntu`, `mat`, `openpose`, `coco`, `own_format`); this one recognises the format.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import SkeletonError
from pipeline.skeletons.coco import read_coco
from pipeline.skeletons.mat import mat_topology, read_jhmdb, read_penn_label
from pipeline.skeletons.ntu import read_ntu_skeleton
from pipeline.skeletons.openpose import load_json, read_pose_file, read_pose_folder
from pipeline.skeletons.own_format import own_content, read_own
from pipeline.skeletons.skeleton import Skeleton

SUFFIXES = (".skeleton", ".mat", ".npz", ".json")
_BY_JOINTS = {13: "penn13", 15: "jhmdb15", 17: "coco17", 18: "openpose18", 25: "ntu25"}


def read_skeleton(path: str | Path, *, size: tuple[int, int] | None = None) -> Skeleton:
    """The skeleton in a file of any known format, or in a folder of one JSON file a frame.

    Args:
        path: its suffix decides the format; for .mat and .json the content does.
        size: (height, width) of the video in pixels, for pose files in fractions of the picture.

    Raises SkeletonError: an unknown format, or an error of the reader.
    """
    pose_format = _format(path)
    sized = {"openpose folder": read_pose_folder, "openpose file": read_pose_file, "coco": read_coco}
    if pose_format in sized:
        return sized[pose_format](path, size=size)
    readers = {"ntu25": read_ntu_skeleton, "penn13": read_penn_label, "jhmdb15": read_jhmdb, "own": read_own}
    return readers[pose_format](path)


def topology_of(path: str | Path) -> str:
    """The name of the topology of a pose file or folder: from its format, its `topology` entry, or its joint count.

    Raises SkeletonError: the file cannot be read, or has a number of joints that no known topology has.
    """
    pose_format = _format(path)
    if pose_format in _BY_JOINTS.values():
        return pose_format
    if pose_format == "own" and "topology" in (content := own_content(path)):
        return str(content["topology"])
    joints = read_skeleton(path, size=(1, 1)).num_joints
    if joints not in _BY_JOINTS:
        expected = ", ".join(f"{v} ({name})" for v, name in _BY_JOINTS.items())
        raise SkeletonError(path, "has no known topology", got=f"{joints} joints", expected=expected)
    return "openpose25" if joints == 25 and pose_format.startswith("openpose") else _BY_JOINTS[joints]


def _format(path: str | Path) -> str:
    """The name of the pose format, which is that of the topology where the format has only one."""
    suffix = Path(path).suffix.lower()
    if Path(path).is_dir():
        return "openpose folder"
    if suffix == ".skeleton":
        return "ntu25"
    if suffix == ".mat":
        return mat_topology(path)
    if suffix == ".npz":
        return "own"
    if suffix != ".json":
        raise SkeletonError(path, "is of an unknown pose format", expected=f"a folder, or {' '.join(SUFFIXES)}")
    content = load_json(path)
    if isinstance(content, list) or "images" in content:
        return "coco"
    if "people" in content:
        remedy = "put the frames of each video into a folder of their own"
        raise SkeletonError(path, "is a single frame of OpenPose", expected="a whole video", remedy=remedy)
    return "openpose file" if "data" in content else "own"

"""MATLAB labels of Penn Action and JHMDB: one `.mat` file -> PoseFile of one person.

In: a path. Out: V = 13 for Penn Action, 15 for JHMDB. Boxes, poses, scales and normalised coordinates are not read.
Coordinates stay as in the files: neither data set says whether its annotators' first pixel was 0 or 1, and the
difference is below their error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.assemble import all_bodies
from pipeline.skeletons.mat5 import Variable, read_variables
from pipeline.skeletons.pose_file import PoseFile, Size
from pipeline.skeletons.skeleton import Skeleton

PENN_JOINTS, JHMDB_JOINTS = 13, 15
_REMEDY = "get the file again"


def read_mat(path: str | Path) -> PoseFile:
    """The one person of a label of Penn Action or JHMDB, whichever it is by its variables.

    Penn Action: the official order of joints, the left of each pair first. Joints marked invisible have score 0: many
    of them are a placeholder near (1, 1), the others guesses. All else is as in the file, joints outside the picture
    included. `dimensions` states the picture's size. The person is present in all frames.

    JHMDB's `joint_positions.mat`: pos_img (2, 15, T), pixels; every joint has score 1 (the puppet has all of them,
    hidden or not).

    Raises SkeletonError: the file cannot be read, is neither, or x, y, visibility and nframes do not agree.
    """
    facts = read_variables(path)
    if {"x", "y", "visibility"} <= set(facts):
        return _penn(path, facts)
    if "pos_img" in facts:
        return _jhmdb(path, facts)
    raise SkeletonError(path, "is not a known label", got=sorted(facts), expected="x, y, visibility; or pos_img")


def read_penn_label(path: str | Path) -> Skeleton:
    """The one person of a Penn Action label as a Skeleton (1, T, 13, ...), in the pixels of its frames.

    Present in all frames, also where nothing is visible. Values and errors as of `read_mat`.
    """
    poses = _penn(path, read_variables(path))
    assert poses.bodies is not None
    return all_bodies(path, poses, poses.bodies, poses.length)


def read_penn_facts(path: str | Path) -> tuple[str, bool]:
    """The class string of a Penn Action label, and whether it is in the training split.

    Raises SkeletonError: the file cannot be read or lacks them; `train` is neither 1 nor -1.
    """
    facts = read_variables(path)
    _require(path, facts, ("action", "train"))
    side, action = _scalar(path, facts, "train"), facts["action"]
    if side not in (1, -1) or not isinstance(action, str):
        got = f"action {action if isinstance(action, str) else 'of another type'}, train {side}"
        raise SkeletonError(path, "has no class or no split", got=got, expected="a name, and 1 or -1", remedy=_REMEDY)
    return action, side == 1


def _penn(path: str | Path, facts: dict[str, Variable]) -> PoseFile:
    _require(path, facts, ("x", "y", "visibility", "nframes"))
    shape = (_scalar(path, facts, "nframes"), PENN_JOINTS)
    x, y, visible = (_numbers(path, facts, name, shape) for name in ("x", "y", "visibility"))
    values = np.stack([x, y, visible > 0], axis=-1).astype(np.float32)
    return _one_person(values, "penn13", _picture(path, facts))


def _picture(path: str | Path, facts: dict[str, Variable]) -> Size | None:
    """The (height, width) in `dimensions`: height, width, number of frames."""
    if "dimensions" not in facts:
        return None
    sides = _numbers(path, facts, "dimensions", (1, 3))[0, :2]
    if not np.isfinite(sides).all():
        raise SkeletonError(path, "has a wrong dimensions", got=sides.tolist(), expected="numbers", remedy=_REMEDY)
    return int(sides[0]), int(sides[1])


def _jhmdb(path: str | Path, facts: dict[str, Variable]) -> PoseFile:
    places = facts["pos_img"]
    if isinstance(places, np.ndarray) and places.ndim == 2:  # MATLAB drops the last axis of a single frame
        places = places[..., None]
    frames = places.shape[-1] if isinstance(places, np.ndarray) else 0
    joints = _numbers(path, {"pos_img": places}, "pos_img", (2, JHMDB_JOINTS, frames)).transpose(2, 1, 0)
    values = np.concatenate([joints, np.ones((*joints.shape[:2], 1), dtype=np.float32)], axis=-1)
    return _one_person(values, "jhmdb15", None)


def _one_person(values: NDArray[np.float32], topology: str, picture: Size | None) -> PoseFile:
    """Args: values: (T, V, 3)."""
    frames, nothing = np.arange(len(values)), np.zeros(0, dtype=np.int64)
    bodies = np.zeros(len(values), dtype=np.int64)
    return PoseFile(frames, values, bodies, "array", nothing, length=len(values), picture=picture, topology=topology)


def _require(path: str | Path, facts: dict[str, Variable], names: tuple[str, ...]) -> None:
    if not set(names) <= set(facts):
        raise SkeletonError(path, "lacks variables", got=sorted(facts), expected=", ".join(names), remedy=_REMEDY)


def _numbers(path: str | Path, facts: dict[str, Variable], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    value = facts[name]
    if not isinstance(value, np.ndarray) or value.shape != shape:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else "another type"
        raise SkeletonError(path, f"has a wrong {name}", got=got, expected=f"numbers {shape}", remedy=_REMEDY)
    with np.errstate(over="ignore", invalid="ignore"):
        return value.astype(np.float32)  # before anything is done to them: some files hold 8-bit integers


def _scalar(path: str | Path, facts: dict[str, Variable], name: str) -> int:
    value = facts[name]
    if not isinstance(value, np.ndarray) or value.size != 1 or not np.isfinite(number := float(value.ravel()[0])):
        raise SkeletonError(path, f"has a wrong {name}", expected="one number", remedy=_REMEDY)
    return int(number)

"""MATLAB labels of Penn Action and JHMDB: one `.mat` file -> Skeleton of one person.

In: a path. Out: axes (1, T, 13, ...) for Penn Action, (1, T, 15, ...) for JHMDB. Boxes, poses, scales and normalised
coordinates are not read. Coordinates stay as in the files: neither data set says whether its annotators'
first pixel was 0 or 1, and the difference is below their error.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.skeleton import Skeleton, make_skeleton

PENN_JOINTS, JHMDB_JOINTS = 13, 15
_REMEDY = "get the file again"


def read_penn_label(path: str | Path) -> Skeleton:
    """The one person of a Penn Action label, in the official order of joints: the left of each pair first.

    Joints marked invisible are NaN with score 0: many of them are a placeholder near (1, 1), the others guesses. All
    else is as in the file, joints outside the picture included. Coordinates are cast before anything is done to them,
    since some files hold them as 8-bit integers.

    Returns:
        Skeleton (1, T, 13, ...), present in all frames, also where nothing is visible; `xyz` is NaN throughout.

    Raises SkeletonError: the file cannot be read, or x, y, visibility and nframes do not agree.
    """
    facts = _load(path, ("x", "y", "visibility", "nframes"))
    shape = (_scalar(path, facts, "nframes"), PENN_JOINTS)
    x, y, visible = (_numbers(path, facts, name, shape) for name in ("x", "y", "visibility"))
    joints = np.stack([x, y], axis=-1)[None]
    return make_skeleton(joints, (visible > 0).astype(np.float32)[None], np.ones((1, shape[0]), dtype=bool))


def read_penn_facts(path: str | Path) -> tuple[str, bool]:
    """The class string of a Penn Action label, and whether it is in the training split.

    Raises SkeletonError: the file cannot be read or lacks them; `train` is neither 1 nor -1.
    """
    facts = _load(path, ("action", "train"))
    side = _scalar(path, facts, "train")
    action = np.asarray(facts["action"]).ravel()
    if side not in (1, -1) or action.size != 1 or not isinstance(action[0], str):
        got = f"action {action.tolist()}, train {side}"
        raise SkeletonError(path, "has no class or no split", got=got, expected="a name, and 1 or -1", remedy=_REMEDY)
    return str(action[0]), side == 1


def read_jhmdb(path: str | Path) -> Skeleton:
    """The one person of a JHMDB `joint_positions.mat`: pos_img (2, 15, T), pixels.

    Returns:
        Skeleton (1, T, 15, ...), every joint with score 1 (the puppet has all of them, hidden or not).

    Raises SkeletonError: the file cannot be read, or `pos_img` has another shape.
    """
    facts = _load(path, ("pos_img",))
    places = np.asarray(facts["pos_img"])
    if places.ndim == 2:  # MATLAB drops the last axis of a single frame
        places = places[..., None]
    joints = _numbers(path, {"pos_img": places}, "pos_img", (2, JHMDB_JOINTS, places.shape[-1])).transpose(2, 1, 0)
    return make_skeleton(
        joints[None], np.ones((1, *joints.shape[:2]), np.float32), np.ones((1, len(joints)), dtype=bool)
    )


def mat_topology(path: str | Path) -> str:
    """ "penn13" or "jhmdb15", by the variables in a file. SkeletonError if it is neither."""
    names = set(_load(path, ()))
    if {"x", "y", "visibility"} <= names:
        return "penn13"
    if "pos_img" in names:
        return "jhmdb15"
    raise SkeletonError(path, "is not a known label", got=sorted(names), expected="x, y, visibility; or pos_img")


def _load(path: str | Path, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The wanted variables of a file (all, if none is named)."""
    from scipy.io import loadmat  # not at the top: a slow import that other formats do not need
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path, variable_names=wanted or None)
    except (OSError, MatReadError, ValueError, TypeError, IndexError, NotImplementedError, zlib.error) as error:
        # scipy raises all of these on files that are cut off, damaged, or of MATLAB 7.3
        raise SkeletonError(path, "cannot be read as a MATLAB file", got=error, remedy=_REMEDY) from error
    facts = {name: value for name, value in found.items() if not name.startswith("__")}
    lacking = [name for name in wanted if name not in facts]
    if lacking:
        raise SkeletonError(path, "lacks variables", got=sorted(facts), expected=", ".join(wanted), remedy=_REMEDY)
    return facts


def _numbers(path: str | Path, facts: dict[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    value = np.asarray(facts[name])
    if value.shape != shape or value.dtype.kind not in "buif":
        got = f"{value.dtype} {value.shape}"
        raise SkeletonError(path, f"has a wrong {name}", got=got, expected=f"numbers {shape}", remedy=_REMEDY)
    return value.astype(np.float32)


def _scalar(path: str | Path, facts: dict[str, Any], name: str) -> int:
    value = np.asarray(facts[name]).ravel()
    if value.size != 1 or value.dtype.kind not in "buif":
        raise SkeletonError(path, f"has a wrong {name}", got=value, expected="one number", remedy=_REMEDY)
    return int(value[0])

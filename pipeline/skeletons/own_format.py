"""Skeletons in this project's own format, .npz or .json -> Skeleton: the one to write for a new pose estimator.

In: a path. Out: axes (M, T, V, ...). The names in the file:

    joints     (M, T, V, 2) x, y in pixels, or (T, V, 2) of one person; NaN (null in JSON) where not found   [required]
    scores     (M, T, V) 0 to 1, or (T, V)                          [1 where a joint is found]
    xyz        (M, T, V, 3) metres, or (T, V, 3)                    [unknown]
    present    (M, T) whether the person is there at all            [where a joint is found]
    body_ids   (M,) integers                                        [0 to M-1]
    topology   a name of `pipeline.manifest.TOPOLOGIES`             [by V]

    np.savez("clip.npz", joints=joints, scores=scores, topology="coco17")
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.openpose import load_json
from pipeline.skeletons.skeleton import Skeleton, make_skeleton

NAMES = ("joints", "scores", "xyz", "present", "body_ids", "topology")


def read_own(path: str | Path) -> Skeleton:
    """The skeleton in a .npz or .json file of the form above.

    Raises SkeletonError: the file cannot be read, `joints` is missing, a name is unknown, or shapes do not agree.
    """
    content = own_content(path)
    joints = _array(path, content, "joints", None)
    if joints.ndim not in (3, 4) or joints.shape[-1] != 2:
        raise SkeletonError(path, "has wrong joints", got=f"shape {joints.shape}", expected="(M, T, V, 2) or (T, V, 2)")
    own = joints.shape[:-1]
    full = own if joints.ndim == 4 else (1, *own)  # (M, T, V)
    found = np.isfinite(joints).all(axis=-1)
    scores = _array(path, content, "scores", own) if "scores" in content else np.asarray(found, dtype=np.float32)
    seen = _array(path, content, "present", own[:-1]) if "present" in content else found.any(axis=-1)
    xyz = _array(path, content, "xyz", (*own, 3)).reshape(*full, 3) if "xyz" in content else None
    return make_skeleton(
        joints.reshape(*full, 2),
        scores.reshape(full),
        np.asarray(seen > 0).reshape(full[:-1]),
        xyz=xyz,
        body_ids=_body_ids(path, content, full[0]),
    )


def own_content(path: str | Path) -> Mapping[str, Any]:
    """What a .npz or .json file holds, by name. SkeletonError for a file that is none, or has unknown names."""
    content = _load_npz(path) if Path(path).suffix.lower() == ".npz" else load_json(path)
    names = sorted(content) if isinstance(content, dict) else type(content).__name__
    if not isinstance(content, dict) or "joints" not in content or not set(content) <= set(NAMES):
        raise SkeletonError(path, "is not a skeleton of known names", got=names, expected=", ".join(NAMES))
    return content


def _load_npz(path: str | Path) -> dict[str, Any]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("a bare .npy array")
        with file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # zipfile raises RuntimeError for unknown compressions and encrypted files
        raise SkeletonError(path, "cannot be read as .npz", got=error, remedy="write it with np.savez") from error


def _array(
    path: str | Path, content: Mapping[str, Any], name: str, shape: tuple[int, ...] | None
) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # beyond float32 is as good as infinite
            array = np.array(content[name]).astype(np.float32)  # null becomes NaN
    except (ValueError, TypeError) as error:
        raise SkeletonError(path, f"has {name} that are not an array of numbers", got=error) from error
    if shape is not None and array.shape != shape:
        raise SkeletonError(path, f"has wrong {name}", got=f"shape {array.shape}", expected=f"{shape}, to fit joints")
    return array


def _body_ids(path: str | Path, content: Mapping[str, Any], persons: int) -> NDArray[np.int64]:
    """The IDs, exactly: floats are refused, since neighbouring IDs may have become equal."""
    ids = np.asarray(content.get("body_ids", np.arange(persons)))
    are_integers = ids.dtype.kind in "iu" or not ids.size
    if ids.shape != (persons,) or not are_integers or len({i for i in ids.tolist() if i < 1 << 63}) != persons:
        expected = f"{persons} different 64-bit integers"
        raise SkeletonError(path, "has wrong body_ids", got=ids.tolist(), expected=expected)
    return ids.astype(np.int64)

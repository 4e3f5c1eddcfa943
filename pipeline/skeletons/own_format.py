"""Skeletons in this project's own format, .npz or .json -> PoseFile: the one to write for a new pose estimator.

In: a path. Out: all persons, over the frames of the arrays. The names in the file:

    joints     (M, T, V, 2) x, y, or (T, V, 2) of one person; NaN (null in JSON) where not found   [required]
    scores     (M, T, V) 0 to 1, or (T, V)        [1 where a joint is found, 0 where it is not or lies at 0, 0]
    xyz        (M, T, V, 3) metres, or (T, V, 3)                    [unknown]
    present    (M, T) whether the person is there at all            [where a joint is found]
    body_ids   (M,) integers                                        [0 to M-1]
    topology   a name of `pipeline.manifest.TOPOLOGIES`             [by V]
    size       (2,) height and width of the picture that the pixels are of          [the video's]

    np.savez("clip.npz", joints=joints, scores=scores, topology="coco17")
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.files import FORMS, MOST_BINARY_BYTES, OWN_FORM, numbers, open_regular, shown
from pipeline.skeletons.pose_file import PoseFile, Size

NAMES = ("joints", "scores", "xyz", "present", "body_ids", "topology", "size")
_PYSKL = {"keypoint", "keypoint_score", "total_frames"}
# The header of an array as numpy writes it. numpy's own reader evaluates it as Python, which takes any memory.
_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[biufU]\d{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}, ?)*\d{0,18})\),? ?\}\s*"
)


def read_own(path: str | Path, content: Mapping[str, Any]) -> PoseFile:
    """The persons in the content of a .npz or .json file of the form above.

    Raises SkeletonError: `joints` is missing, a name is unknown, or shapes do not agree.
    """
    _require_names(path, content)
    joints = _array(path, content, "joints", None)
    if joints.ndim not in (3, 4) or joints.shape[-1] != 2 or not joints.shape[-2]:
        got, expected = f"shape {joints.shape}", "(M, T, V, 2) or (T, V, 2)"
        remedy = "put the third column into `scores`, or `xyz`" if joints.shape[-1:] == (3,) else OWN_FORM
        raise SkeletonError(path, "has wrong joints", got=got, expected=expected, remedy=remedy)
    own = joints.shape[:-1]
    full = own if joints.ndim == 4 else (1, *own)  # (M, T, V)
    found = np.isfinite(joints).all(axis=-1)
    nowhere = (joints == 0).all(axis=-1)  # how programs fill up what they have not found
    scores = _array(path, content, "scores", own) if "scores" in content else (found & ~nowhere).astype(np.float32)
    seen = _array(path, content, "present", own[:-1]) > 0 if "present" in content else found.any(axis=-1)
    seen &= ~nowhere.all(axis=-1)
    persons, frames = np.nonzero(seen.reshape(full[:-1]))
    values = np.concatenate([joints.reshape(*full, 2), scores.reshape(*full, 1)], axis=-1)[persons, frames]
    xyz = _array(path, content, "xyz", (*own, 3)).reshape(*full, 3)[persons, frames] if "xyz" in content else None
    return PoseFile(
        frames,
        values,
        _body_ids(path, content, full[0])[persons] if "body_ids" in content else persons,
        "array",
        np.zeros(0, dtype=np.int64),
        xyz=xyz,
        length=full[1],
        picture=_size(path, content),
        topology=_topology(path, content),
    )


def read_npz(path: str | Path) -> dict[str, Any]:
    """The arrays in a .npz file by name. SkeletonError: it is none, names are unknown, or a header lies about sizes."""
    with open_regular(path, most=MOST_BINARY_BYTES) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                _require_names(path, members)
                return {name: _member(archive, info) for name, info in members.items()}
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            # zipfile raises RuntimeError for unknown compressions and encrypted files
            got = str(error)[:200]
            raise SkeletonError(path, "cannot be read as .npz", got=got, remedy="write it with np.savez") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array; what its header claims is compared with its size before anything is allocated."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{shown(info.filename)} in a compression that np.savez does not use")
    if info.file_size > MOST_BINARY_BYTES:
        raise ValueError(f"{shown(info.filename)} of {info.file_size} bytes, more than {MOST_BINARY_BYTES}")
    with archive.open(info) as member:
        dtype, by_column, shape = _header(member, info.filename)
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - member.tell():
            raise ValueError(f"{shown(info.filename)} whose header claims {shape}, of which the bytes are not there")
        data = member.read(size)
    if len(data) != size:
        raise ValueError(f"{shown(info.filename)} that is cut off")
    if not size and 0 not in shape:
        raise ValueError(f"{shown(info.filename)} of {dtype}, which has no size")
    array = np.frombuffer(data, dtype=dtype) if size else np.zeros(0, dtype=dtype)
    return array.reshape(shape, order="F" if by_column else "C")


def _header(member: IO[bytes], name: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """Type, order and shape of an array. ValueError for a header that numpy would not write, or of another type."""
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of version {version}")
    length = int.from_bytes(member.read(2 if version == (1, 0) else 4), "little")
    text = member.read(min(length, 4096)).decode("latin-1")
    found = _HEADER.fullmatch(text)
    if found is None or len(text) != length:
        raise ValueError(f"{shown(name)} of another type than numbers, by its header {shown(text)}")
    try:
        dtype = np.dtype(found.group(1))
    except TypeError as error:
        raise ValueError(f"{shown(name)} of an unknown type {shown(found.group(1))}") from error
    return dtype, found.group(2) == "True", tuple(int(side) for side in found.group(3).split(",") if side.strip())


def _require_names(path: str | Path, content: Any) -> None:
    if isinstance(content, Mapping) and "joints" in content and set(content) <= set(NAMES):
        return
    if isinstance(content, Mapping) and len(_PYSKL & set(content)) > 1:
        remedy = "use the original poses, since PYSKL closes the gaps of a lost person"
        raise SkeletonError(path, "looks like a sample of PYSKL or MMAction2", expected=FORMS, remedy=remedy)
    got = sorted(map(shown, content))[:10] if isinstance(content, Mapping) else type(content).__name__
    raise SkeletonError(path, "is not a skeleton of known names", got=got, expected=", ".join(NAMES), remedy=OWN_FORM)


def _array(
    path: str | Path, content: Mapping[str, Any], name: str, shape: tuple[int, ...] | None
) -> NDArray[np.float32]:
    value = content[name]
    try:
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biuf":
                raise TypeError(f"an array of {value.dtype}")
            with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is as good as infinite
                array = value.astype(np.float32)
        else:
            array = numbers(_as_numbers(value) if name == "present" else value)
    except (ValueError, TypeError, OverflowError) as error:
        got = str(error)[:200]
        raise SkeletonError(path, f"has {name} that are not an array of numbers", got=got) from error
    if shape is not None and array.shape != shape:
        raise SkeletonError(path, f"has wrong {name}", got=f"shape {array.shape}", expected=f"{shape}, to fit joints")
    return array


def _as_numbers(value: Any) -> Any:
    """true and false as 1 and 0, in a list or a list of lists."""
    if type(value) is not list:
        return int(value) if type(value) is bool else value
    return [
        [int(item) if type(item) is bool else item for item in row] if type(row) is list else _as_numbers(row)
        for row in value
    ]


def _body_ids(path: str | Path, content: Mapping[str, Any], persons: int) -> NDArray[np.int64]:
    """The IDs, exactly: floats are refused, since neighbouring IDs may have become equal."""
    ids = content["body_ids"]
    ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
    whole = type(ids) is list and all(type(one) is int and 0 <= one < 1 << 63 for one in ids)
    if not whole or len(ids) != persons or len(set(ids)) != persons:
        expected = f"{persons} different integers from 0 to 2^63 - 1"
        raise SkeletonError(path, "has wrong body_ids", got=shown(ids), expected=expected)
    return np.array(ids, dtype=np.int64)


def _size(path: str | Path, content: Mapping[str, Any]) -> Size | None:
    if "size" not in content:
        return None
    sides = _array(path, content, "size", None)
    if sides.shape != (2,) or not np.isfinite(sides).all() or not (sides >= 1).all():
        raise SkeletonError(path, "has a wrong size", got=shown(sides.tolist()), expected="height and width in pixels")
    return int(sides[0]), int(sides[1])


def _topology(path: str | Path, content: Mapping[str, Any]) -> str:
    name = content.get("topology", "")
    name = name.item() if isinstance(name, np.ndarray) and name.size == 1 else name
    if not isinstance(name, str):
        raise SkeletonError(path, "has a wrong topology", got=shown(name), expected="a name")
    return name

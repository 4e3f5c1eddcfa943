"""MATLAB 5 files: numbers and texts of a `.mat` file, by name. The few types that pose labels use, and no others.

In: a path. Out: arrays as MATLAB has them, with two axes or more, and texts. Cells, structures, sparse and complex
arrays are listed, but not read. Every size is checked against the bytes that are there before anything is allocated,
which scipy's reader does not. Format: "MAT-File Format", The MathWorks, Level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.files import MOST_BYTES, read_bytes

Variable = NDArray[np.generic] | str | None  # None: of a type that is not read

_HEADER, _MATRIX, _COMPRESSED = 128, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by data type
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_CHARACTERS, _COMPLEX = 4, 0x0800
_ENCODINGS = {1: "latin-1", 2: "latin-1", 16: "utf-8", 4: "utf-16", 17: "utf-16", 18: "utf-32"}  # of characters


def read_variables(path: str | Path) -> dict[str, Variable]:
    """The variables of a file by name. SkeletonError: it is no MATLAB 5 file, is cut off, or grows beyond 64 MiB."""
    data = read_bytes(path)
    try:
        if data[:10] == b"MATLAB 7.3":
            raise ValueError("a file of MATLAB 7.3; save it with -v7")
        order = {b"IM": "<", b"MI": ">"}[data[126:128]]
        variables: dict[str, Variable] = {}
        for body in _matrices(data, order):
            name, value = _variable(body, order)
            if name in variables:
                raise ValueError(f"variable {name} twice")
            variables[name] = value
        return variables
    except (ValueError, KeyError, struct.error, zlib.error, OverflowError) as error:
        got = "another kind of file" if isinstance(error, KeyError) else error
        raise SkeletonError(path, "cannot be read as a MATLAB file", got=got, remedy="get the file again") from error


def _matrices(data: bytes, order: str) -> list[bytes]:
    """The bytes of each matrix, without its tag, unpacked."""
    bodies: list[bytes] = []
    at, left = _HEADER, MOST_BYTES
    while at < len(data):
        kind, body, at = _element(data, at, order, padded=False)
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(body, left)
            left -= len(unpacked)
            if not unpacker.eof:
                raise ValueError("compressed data that are cut off, or larger than 64 MiB")
            kind, body, _ = _element(unpacked, 0, order, padded=False)
        if kind == _MATRIX:
            bodies.append(body)
    return bodies


def _element(data: bytes, at: int, order: str, *, padded: bool = True) -> tuple[int, bytes, int]:
    """(data type, bytes, where the next begins) of the element at a place. ValueError where it is cut off."""
    kind, size = struct.unpack_from(f"{order}II", data, at)
    start = at + 8
    if kind >> 16:  # a small element: type, size and up to four bytes in one tag
        kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
    end = start + size
    if end > len(data) or (start == at + 4 and size > 4):
        raise ValueError("an element that is cut off")
    following = at + 8 if start == at + 4 else end + (-size % 8 if padded else 0)
    return kind, data[start:end], following


def _variable(body: bytes, order: str) -> tuple[str, Variable]:
    kind, flags, at = _element(body, 0, order)
    flag = struct.unpack(f"{order}II", flags)[0]
    kind, axes, at = _element(body, at, order)
    shape = struct.unpack(f"{order}{len(axes) // 4}i", axes)
    kind, name, at = _element(body, at, order)
    label, matrix = name.decode("latin-1"), flag & 0xFF
    if flag & _COMPLEX or (matrix not in _CLASSES and matrix != _CHARACTERS):
        return label, None
    kind, content, at = _element(body, at, order)
    if matrix == _CHARACTERS:
        if shape[:-1] != (1,) or kind not in _ENCODINGS:
            return label, None
        ending = {"<": "-le", ">": "-be"}[order] if kind in (4, 17, 18) else ""
        return label, content.decode(_ENCODINGS[kind] + ending)
    values = np.frombuffer(content, dtype=order + _NUMBERS[kind]) if content else np.zeros(0)
    if min(shape, default=0) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"{label} of shape {shape} with {len(values)} numbers")
    with np.errstate(invalid="ignore"):  # numbers that are none, in a damaged file
        return label, values.astype(_CLASSES[matrix]).reshape(shape, order="F")

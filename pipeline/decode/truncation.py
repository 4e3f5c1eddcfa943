"""A check for truncated video files: the length that the container states, against the file's own.

In: a path. Out: the number of missing bytes, 0 where none are or where the container states no length (MPEG-TS, live
Matroska). A decoder does not notice: a file cut off between two frames is a shorter video to it, but half an action.
It reads a few bytes of each top-level element and no frame.
Sources: the layouts of RIFF (Multimedia Programming Interface 1.0), ISO/IEC 14496-12 and RFC 8794 (EBML).
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = frozenset(b"ftyp styp moov moof mdat mfra meta sidx ssix emsg prft uuid udta free skip wide pnot".split())
_SLACK = 8  # some writers of AVI state the file's length where the rest of it is meant


def missing_bytes(path: str | PathLike[str]) -> int:
    """Bytes that the container states beyond the file's end. Raises OSError: the file cannot be read."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[:4] == b"RIFF":
            end = _riff_end(file)
        elif head[:4] == _EBML:
            end = _ebml_end(file)
        elif head[4:8] in _BOXES:
            end = _boxes_end(file, size)
        else:
            return 0
    missing = end - size
    return missing if missing > _SLACK else 0


def _riff_end(file: BinaryIO) -> int:
    """An AVI above 1 GB is a row of RIFF chunks (OpenDML)."""
    end = 0
    while (head := file.read(8))[:4] == b"RIFF" and len(head) == 8:
        length = int.from_bytes(head[4:], "little")
        end = file.tell() + length
        file.seek(length + length % 2, os.SEEK_CUR)
    return end


def _boxes_end(file: BinaryIO, size: int) -> int:
    end = 0
    while len(head := file.read(8)) == 8 and head[4:] in _BOXES:  # what follows the last box is not a box
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: to the end of the file, as a live writer leaves it; less is no box
            return size
        end += length
        file.seek(end)
    return end


def _ebml_end(file: BinaryIO) -> int:
    """The header, then the segment, whose length may be unknown (all ones)."""
    for expected in (_EBML, _SEGMENT):
        if file.read(4) != expected:
            return 0
        first = file.read(1)
        extra = 8 - first[0].bit_length() if first and first[0] else 8
        if extra == 8:
            return 0
        value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + file.read(extra), "big")
        if value == (1 << 7 * (extra + 1)) - 1:
            return 0
        file.seek(value, os.SEEK_CUR)
    return file.tell()

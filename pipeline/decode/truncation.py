"""A check for truncated video files: the length that the container states, or the mark of its end, against the file.

In: a path. Out: the least number of missing bytes, 0 where none are or where the container tells nothing (FLV, ASF,
MPEG-PS, live Matroska). A decoder does not notice: a file cut off between two frames is a shorter video to it, but half
an action, and one cut off in a frame is half a picture. It reads a few bytes of each element and no frame.
Sources: the layouts of RIFF (Multimedia Programming Interface 1.0), ISO/IEC 14496-12, RFC 8794 (EBML), GIF89a, RFC 3533
(Ogg), and ISO/IEC 13818-1 (packets of 188 bytes; with 4 of a clock before each in a camera's .mts).
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_BOXES = frozenset(b"ftyp styp moov moof mdat mfra meta sidx ssix emsg prft uuid udta free skip wide pnot".split())
_TS = 188  # bytes of a packet, which begins with "G"
_LONGEST_PAGE = 27 + 255 + 255 * 255  # of Ogg
_SLACK = 8  # some writers of AVI state the file's length where the rest of it is meant


def missing_bytes(path: str | PathLike[str]) -> int:
    """Bytes that must follow the file's end. Raises OSError: the file cannot be read."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(2 * _TS + 5)
        file.seek(0)
        if head[:4] == b"RIFF":
            end = _riff_end(file)
        elif head[:4] == _EBML:
            end = _ebml_end(file)
        elif head[4:8] in _BOXES:
            end = _boxes_end(file, size)
        elif head[:4] == b"GIF8":
            return _gif_missing(file)
        elif head[:4] == b"OggS":
            return _ogg_missing(file, size)
        elif head[0:1] == head[_TS : _TS + 1] == head[2 * _TS :][:1] == b"G":
            return -size % _TS
        elif head[4:5] == head[_TS + 8 :][:1] == b"G":
            return -size % (_TS + 4)
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


def _gif_missing(file: BinaryIO) -> int:
    """0 if the trailer comes after the last block, as it must; else 1."""
    head = file.read(13)
    file.seek(_colours(head[10]) if len(head) == 13 else 0, os.SEEK_CUR)
    while (kind := file.read(1)) in (b"!", b","):  # an extension, an image
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            place = file.read(9)
            file.seek(_colours(place[8]) + 1 if len(place) == 9 else 0, os.SEEK_CUR)
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return 0 if kind == b";" else 1


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _ogg_missing(file: BinaryIO, size: int) -> int:
    """The last page must be whole and end a stream."""
    file.seek(max(0, size - 2 * _LONGEST_PAGE))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    missing = 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page)
    return max(missing, 0) if page[5] & 4 else max(missing, 1)

"""A folder of pictures as a video: Penn Action's `frames/0001/000001.jpg …`, and anybody's numbered frames.

In: the folder. Out: its frames in the order of the numbers in their names ("2.jpg" before "10.jpg"), as decoded.
Files with other suffixes and hidden files are ignored. Numbers may start anywhere; a gap is an error, since time is
counted in frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import av

from pipeline.decode import pyav_reader
from pipeline.errors import DecodeError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def pictures(folder: str | PathLike[str]) -> list[Path]:
    """The folder's pictures in natural order.

    Raises DecodeError: no pictures, a name without a number, two of one number, or a gap in the numbers.
    """
    found = [p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise DecodeError(folder, "holds no pictures", expected="frames such as 000001.jpg", remedy="check the path")
    unnumbered = sorted(p.name for p in found if not re.search(r"\d", p.stem))
    if unnumbered:
        raise DecodeError(folder, "holds a picture without a number in its name", got=unnumbered[0])
    ordered = sorted(found, key=_order)
    numbers = [_order(p)[0] for p in ordered]
    for number, following, path in zip(numbers, numbers[1:], ordered[1:], strict=False):
        if following[:-1] != number[:-1] or following[-1] != number[-1] + 1:
            raise DecodeError(folder, "has a gap or a repeat in the numbers of its frames", got=f"{path.name} next")
    return ordered


def frames(
    folder: str | PathLike[str], wanted: Sequence[int], *, allow_corrupt: bool = False
) -> Iterator[av.VideoFrame]:
    """The pictures of the numbers `wanted` (0-based, sorted, distinct).

    Raises DecodeError: as `pictures`; a picture cannot be decoded; or there are too few (the error's `frames`).
    """
    files = pictures(folder)
    for number in wanted:
        if number >= len(files):
            raise pyav_reader.too_few(folder, len(files), number)
        yield from pyav_reader.frames(files[number], [0], allow_corrupt=allow_corrupt)


def _order(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name

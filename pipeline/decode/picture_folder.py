"""A folder of pictures as a video: Penn Action's `frames/0001/000001.jpg …`, and anybody's numbered frames.

In: the folder. Out: its frames in the order of the last number in their names ("2.jpg" before "10.jpg"), as decoded by
`pipeline.decode.picture`. Files with other suffixes and hidden files are ignored, and so is what lies beside the frames
under names of its own: optical flow, depth, masks. Numbers may start anywhere; a gap is an error, since time is counted
in frames, and so is a frame of another size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path

import av

from pipeline.decode import pyav_reader
from pipeline.decode.crop_scale import turn_of
from pipeline.decode.picture import read_picture
from pipeline.decode.regular import require_regular
from pipeline.errors import DecodeError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
# Words in the names of pictures that are derived from the frames
_DERIVED = {"flow", "flowx", "flowy", "depth", "mask", "masks", "seg", "segmentation", "disparity", "heatmap"}


def pictures(folder: str | PathLike[str]) -> list[Path]:
    """The folder's frames in natural order.

    Raises DecodeError: no pictures, one that is no regular file, a name without a number, two of one number, a gap in
        the numbers, or several series of names of which not exactly one can be that of the frames.
    """
    found = [p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise DecodeError(folder, "holds no pictures", expected="frames such as 000001.jpg", remedy="check the path")
    series: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(found):
        require_regular(path)
        name = re.fullmatch(r"(.*?)(\d+)(\D*)", path.stem, re.DOTALL | re.ASCII)
        if name is None:
            raise DecodeError(folder, "holds a picture without a number in its name", got=path.name)
        series.setdefault(f"{name[1]}#{name[3]}", []).append((int(name[2]), path))
    ordered = sorted(_frames_among(folder, series))
    for (number, _), (following, path) in pairwise(ordered):
        if following != number + 1:
            raise DecodeError(folder, "has a gap or a repeat in the numbers of its frames", got=f"{path.name} next")
    return [path for _, path in ordered]


def survey(folder: str | PathLike[str]) -> tuple[int, int, int, int]:
    """(frames, height, width, the number in the first one's name). Raises DecodeError: as `pictures`, or the first one
    cannot be decoded."""
    files = pictures(folder)
    return len(files), *_size(read_picture(files[0]), files[0]), int(re.findall(r"\d+", files[0].stem)[-1])


def frames(
    folder: str | PathLike[str], wanted: Sequence[int], *, allow_corrupt: bool = False
) -> Iterator[av.VideoFrame]:
    """The pictures of the numbers `wanted` (0-based, sorted, distinct).

    A picture that is cut off is refused even if `allow_corrupt`: the rest of it is nothing.

    Raises DecodeError: as `pictures`; a picture cannot be decoded, or is not of the first one's size; or there are too
        few (the error's `frames`).
    """
    files = pictures(folder)
    first = read_picture(files[0])
    height, width = _size(first, files[0])
    for number in wanted:
        if number >= len(files):
            raise pyav_reader.too_few(folder, len(files), number)
        picture = read_picture(files[number]) if number else first
        if (size := _size(picture, files[number])) != (height, width):
            problem, remedy = "is not of the size of the first frame", "bring all frames to one size"
            got, expected = f"{size[1]} x {size[0]}", f"{width} x {height}"
            raise DecodeError(files[number], problem, got=got, expected=expected, remedy=remedy)
        yield picture


def _size(picture: av.VideoFrame, path: Path) -> tuple[int, int]:
    """(height, width) as shown."""
    return turn_of(picture, path).size(picture.height, picture.width)


def _frames_among(folder: str | PathLike[str], series: dict[str, list[tuple[int, Path]]]) -> list[tuple[int, Path]]:
    """The one series, or of several the one whose name has none of the words of `_DERIVED`."""
    names = list(series)
    if len(names) > 1:
        names = [name for name in names if not _DERIVED & set(re.split(r"[\W\d_]+", name.lower()))]
    if len(names) != 1:
        remedy = "move all but the frames into a folder of their own"
        raise DecodeError(folder, "holds several series of pictures", got=", ".join(sorted(series)), remedy=remedy)
    return series[names[0]]

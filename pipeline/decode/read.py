"""Exactly the requested frames of a video, or an error: never a neighbour, never a stale frame.

In: a video file or a folder of numbered pictures, and frame numbers in any order, repeats allowed. Out: uint8
(T, H, W, 3) RGB, in that order, cut to a box and scaled to a size on the way. Frame i is the i-th frame that the
decoder returns from the start of the best video stream; a header's frame count is ignored.
It runs in the caller's process; `pipeline.decode.child_process` protects against a decoder that hangs or crashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import READERS
from pipeline.decode import decord_reader, opencv_reader, picture_folder, pyav_reader
from pipeline.decode.crop_scale import Box, Fitter
from pipeline.errors import ConfigError, DecodeError, ReaderError

PICTURES = "pictures"  # in the place of a reader's name: a folder of pictures has one of its own


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video before its frames are decoded.

    Attributes:
        frames: packets in the stream. A few files decode to another number; `DecodeError.frames` then says which.
        height, width: pixels as displayed, that is after the rotation the file asks for.
        turned: that rotation is by a quarter.
        first_picture: the number in the name of the first picture of a folder.
    """

    frames: int
    height: int
    width: int
    turned: bool = field(default=False, compare=False)
    first_picture: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DecodedFrames:
    """Frames uint8 (T, h, w, 3) RGB, and the reader that decoded them: one of `READERS`, or `PICTURES`."""

    frames: np.ndarray
    reader: str


def probe(path: str | PathLike[str], *, allow_corrupt: bool = False) -> VideoInfo:
    """Number of frames, by demuxing, and display size, from the first frame.

    Raises DecodeError: the file is missing, empty, no video, or without any frame; or, unless `allow_corrupt`, it is
        cut off or lacks frames that its own index lists.
    """
    if Path(path).is_dir():
        frames, height, width, first = picture_folder.survey(path)
        return VideoInfo(frames, height, width, first_picture=first)
    video = pyav_reader.survey(path, allow_corrupt=allow_corrupt)
    return VideoInfo(video.frames, video.height, video.width, turned=video.turn.transpose)


def count_frames(path: str | PathLike[str]) -> int:
    """Number of frames, by demuxing. Raises as `probe`."""
    return probe(path).frames


def read_frames(
    path: str | PathLike[str],
    indices: npt.ArrayLike,
    *,
    reader: str = "pyav",
    box: Box | None = None,
    size: tuple[int, int] | None = None,
    allow_corrupt: bool = False,
) -> np.ndarray:
    """Exactly the frames of `indices`, in that order.

    Args:
        path: a video file, or a folder of numbered pictures.
        indices: (T,) frame numbers from 0, in any order, repeats allowed.
        reader: one of `READERS`; a folder of pictures has its own.
        box: (x0, y0, x1, y1), half open, in display pixels; black where it lies outside the picture. None: all of it.
        size: (h, w); None: that of the box. Shrinking averages over areas, enlarging is linear.
        allow_corrupt: keep frames that the decoder marks as damaged.

    Returns: uint8 (T, h, w, 3) RGB, in C order.

    Raises ReaderError: the reader cannot decode such a video; another one may.
    Raises DecodeError: one of the frames cannot be read exactly. Where the video has too few frames, the error's
        `frames` is the number that was decoded.
    Raises ConfigError: an unknown reader, an empty box or size.
    """
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or not len(wanted) or wanted.dtype.kind not in "iu" or wanted.min() < 0:
        raise DecodeError(path, "cannot have frames of these numbers", got=indices, expected="numbers from 0")
    if reader not in READERS:
        raise ConfigError("reader", "does not exist", got=reader, expected=" or ".join(READERS))
    if box is not None and (box[0] >= box[2] or box[1] >= box[3]):
        raise ConfigError("box", "is empty", got=box, expected="x0 < x1 and y0 < y1")
    if size is not None and min(size) < 1:
        raise ConfigError("size", "is empty", got=size, expected="at least 1 x 1")
    distinct, positions = np.unique(wanted.astype(np.int64), return_inverse=True)
    readers = {"pyav": pyav_reader, "opencv": opencv_reader, "decord": decord_reader}
    source = picture_folder if Path(path).is_dir() else readers[reader]
    fit = Fitter(path, box, size)
    frames = np.empty(0, np.uint8)
    for i, frame in enumerate(source.frames(path, distinct.tolist(), allow_corrupt=allow_corrupt)):
        picture = fit(frame)
        if i == 0:
            frames = np.empty((len(wanted), *picture.shape), np.uint8)
        frames[positions == i] = picture
    return frames


def decode_frames(
    path: str | PathLike[str], indices: npt.ArrayLike, *, reader: str = READERS[0], **options: Any
) -> DecodedFrames:
    """As `read_frames`, by PyAV where `reader` says itself that it cannot decode such a video.

    Raises DecodeError, ConfigError: as `read_frames`.
    """
    try:
        frames = read_frames(path, indices, reader=reader, **options)
    except ReaderError:
        reader = READERS[0]
        frames = read_frames(path, indices, reader=reader, **options)
    return DecodedFrames(frames, PICTURES if Path(path).is_dir() else reader)

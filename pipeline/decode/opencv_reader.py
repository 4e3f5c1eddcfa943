"""A reader of choice: OpenCV, frame by frame from the start.

In and out: as `pipeline.decode.pyav_reader.frames`; the frames are BGR at full size, already turned upright by OpenCV.
It never seeks, as OpenCV's seeks are inexact. OpenCV skips packets that it cannot decode and reports no damage, so
the file is demuxed by PyAV first, and OpenCV's clock must not run ahead of the packets' times.
It refuses: what its own ffmpeg cannot decode (AV1, in the wheels), a best video stream that is not the first one, and
pictures that the file mirrors, or that turn by marks in the frames (EXIF in MJPEG).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from os.path import abspath

import av
import numpy as np

from pipeline.decode import pyav_reader
from pipeline.decode.crop_scale import Turn
from pipeline.errors import DecodeError, ReaderError

_REMEDY = "use the reader pyav"


def frames(path: str | PathLike[str], wanted: Sequence[int], *, allow_corrupt: bool = False) -> Iterator[av.VideoFrame]:
    """The frames of the numbers `wanted` (sorted, distinct).

    Raises ReaderError: OpenCV cannot read the file, or loses a frame on the way.
    Raises DecodeError: as `pyav_reader.survey`, or there are too few frames (the error's `frames`).
    """
    import cv2

    video = pyav_reader.survey(path, allow_corrupt=allow_corrupt)
    if not video.is_first:
        raise ReaderError(path, "its best video stream is not the first", remedy=_REMEDY)
    if video.turn.mirrors:
        raise ReaderError(path, "is mirrored by its metadata, which OpenCV ignores", remedy=_REMEDY)
    cv2.setNumThreads(1)
    # of a path from the root no colon selects a protocol
    capture = cv2.VideoCapture(abspath(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ReaderError(path, "cannot be opened by OpenCV", remedy=_REMEDY)
        if (capture.get(cv2.CAP_PROP_ORIENTATION_META) != 0) != (video.turn != Turn()):
            raise ReaderError(path, "is turned by its frames, which OpenCV does not see", remedy=_REMEDY)
        start, number, times = 0.0, -1, video.times
        for target in wanted:
            while number < target:
                if not capture.grab():
                    raise _ended(path, number + 1, target, video.frames)
                number += 1
                clock = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                start = clock if number == 0 else start
                # a skipped packet makes the clock jump ahead by a frame; rounding stays far below half a frame
                if number + 1 < len(times) and clock - start > (times[number] + times[number + 1]) / 2:
                    raise ReaderError(path, f"loses a frame in OpenCV, at frame {number}", remedy=_REMEDY)
            good, picture = capture.retrieve()
            if not good:
                raise ReaderError(path, f"cannot be decoded at frame {number} by OpenCV", remedy=_REMEDY)
            yield av.VideoFrame.from_ndarray(picture.astype(np.uint8, copy=False), format="bgr24")
    finally:
        capture.release()


def _ended(path: str | PathLike[str], count: int, target: int, packets: int) -> DecodeError:
    """A packed stream holds one packet more than frames; where more are missing, OpenCV stopped at damage."""
    if count == 0:
        return ReaderError(path, "holds no frame that OpenCV can decode", remedy=_REMEDY)
    if count < packets - 1:
        problem = "cannot be decoded to its end by OpenCV"
        return ReaderError(path, problem, got=f"{count} frames", expected=packets, remedy=_REMEDY)
    return pyav_reader.too_few(path, count, target)

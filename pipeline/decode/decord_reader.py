"""An optional reader: decord, for streams whose frames are stored in the order of display.

In and out: as `pipeline.decode.pyav_reader.frames`; the frames are RGB at full size.
decord 0.6.0 seeks by key frames and times. With B-frames it returns neighbours of the wanted frames,
so they are refused here; also several video streams, turned ones, another frame count, and containers other than AVI,
MP4 and Matroska, in some of which it returns wrong frames (ASF, NUT). It reports no damage.
Imported only where it is used; in a process that has torch, torch must be imported before it (dmlc/decord#251).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from os.path import abspath

import av

from pipeline.decode import pyav_reader
from pipeline.decode.crop_scale import Turn
from pipeline.errors import ConfigError, ReaderError

_SOUGHT = frozenset({"avi", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_REMEDY = "use the reader pyav"


def frames(path: str | PathLike[str], wanted: Sequence[int], *, allow_corrupt: bool = False) -> Iterator[av.VideoFrame]:
    """The frames of the numbers `wanted` (sorted, distinct).

    Raises ReaderError: it is one of those that are refused, or decord cannot read it.
    Raises DecodeError: as `pyav_reader.survey`, or there are too few frames (the error's `frames`).
    Raises ConfigError: decord is not installed (it has wheels for x86-64 only).
    """
    try:
        import decord
    except ImportError as error:
        raise ConfigError("reader", "is not installed", got="decord", expected="pyav or opencv") from error
    video = pyav_reader.survey(path, allow_corrupt=allow_corrupt)
    if video.reordered:
        raise ReaderError(path, "has B-frames, for which decord returns wrong frames", remedy=_REMEDY)
    if video.container not in _SOUGHT:
        raise ReaderError(path, "lies in a container in which decord may return wrong frames", remedy=_REMEDY)
    if video.turn != Turn() or video.streams > 1:
        raise ReaderError(path, "is turned by its metadata or has several video streams", remedy=_REMEDY)
    if wanted[-1] >= video.frames:
        raise pyav_reader.too_few(path, video.frames, wanted[-1])
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(abspath(path), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != video.frames:
            problem = "has another number of frames for decord"
            raise ReaderError(path, problem, got=len(reader), expected=video.frames, remedy=_REMEDY)
        for number in wanted:
            yield av.VideoFrame.from_ndarray(reader[number].asnumpy(), format="rgb24")
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        # decord's message holds the time of day, and reasons are part of an artifact's content
        raise ReaderError(path, "cannot be decoded by decord", remedy=_REMEDY) from error

"""The default reader: PyAV, that is the libraries of ffmpeg, from the first frame to the last wanted one.

In: a path and the sorted, distinct numbers of the wanted frames. Out: those frames as decoded (`av.VideoFrame`), in
order. It never seeks, as seeking is inexact in many containers, and uses one thread: a stage has many videos.
It refuses no format that ffmpeg decodes. It does refuse visible damage: behind a packet that cannot be decoded, the
frames' numbers would no longer be the skeleton's, and a frame marked corrupt spoils all up to the next key frame.
Damage that leaves a valid stream (some flipped bits) gives wrong pixels, in every decoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import av

from pipeline.decode.containers import demuxers, what_it_is
from pipeline.decode.crop_scale import Turn, turn_of
from pipeline.decode.mpeg4_packets import packets_needed
from pipeline.decode.regular import require_regular
from pipeline.decode.truncation import missing_bytes
from pipeline.errors import DecodeError

_LARGEST_IN_MEMORY = 64 << 20  # bytes of a file whose packets are read before any is decoded
MAX_PIXELS = 1 << 27  # of one picture: 16K (15360 x 8640) passes; its RGB takes 0.4 GB, each further copy the same
MOST = f"at most {MAX_PIXELS / 1e6:.0f} million pixels"
LIMITS = {"max_pixels": str(MAX_PIXELS)}
STRICT = {**LIMITS, "err_detect": "explode"}  # a picture that ends early is an error, and not one that is grey below
_PICTURE_CODECS = frozenset({"mjpeg", "png", "apng", "gif"})  # each frame by itself: no mark tells that one is damaged
_INDEXED = frozenset({"avi", "mov,mp4,m4a,3gp,3g2,mj2"})  # containers with an entry for every packet
_REMEDY = "replace the file"
# Tags may be in another encoding; from 19 on PyAV takes any.
_ANY_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of a video after demuxing.

    Attributes:
        frames: packets that are displayed.
        height, width: as displayed, of the first frame.
        times: seconds of these packets from the first one, in the order of display.
        turn: how the coded picture is turned for display.
        reordered: frames are decoded in another order than they are shown in (B-frames).
        streams: video streams in the file.
        is_first: the stream that is read is the first of them.
        container: ffmpeg's name of its format.
    """

    frames: int
    height: int
    width: int
    times: tuple[float, ...]
    turn: Turn
    reordered: bool
    streams: int
    is_first: bool
    container: str


@contextmanager
def opened(
    path: str | PathLike[str], *, allow_corrupt: bool
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its best video stream, set to one thread.

    Raises DecodeError: there is no such file, it is empty, no video, or of no known format.
    """
    if require_regular(path).st_size == 0:
        raise DecodeError(path, "is empty", got="0 bytes", expected="a video", remedy=_REMEDY)
    # "file:" so that a colon in a name does not select a protocol; nothing that is opened leads to another file
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(demuxers()), **LIMITS}
    try:
        container = av.open(f"file:{fspath(path)}", "r", options=options, **_ANY_TAGS)
    except (av.FFmpegError, OSError, ValueError) as error:
        cause = reason(error)
        _must_not_be_cut(path)
        raise DecodeError(path, what_it_is(path) or f"cannot be opened as a video ({cause})", remedy=_REMEDY) from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise DecodeError(path, "holds no video stream", got=container.format.long_name, remedy=_REMEDY)
        if stream.codec_context is None:  # a header cut off before it names its codec
            raise DecodeError(path, "holds a video stream of no known codec", remedy=_REMEDY)
        require_size(path, stream.codec_context.width, stream.codec_context.height)
        strict = stream.codec_context.name in _PICTURE_CODECS and not allow_corrupt
        stream.codec_context.options = STRICT if strict else LIMITS
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1  # decoders with threads of their own (AV1) look at this one
        yield container, stream


def survey(path: str | PathLike[str], *, allow_corrupt: bool = False) -> StreamInfo:
    """Counts the packets; decodes only up to the first frame.

    Raises DecodeError: as `opened`; there is no frame at all; or, unless `allow_corrupt`, the file is cut off or gives
        fewer packets than its own index lists.
    """
    shown: list[float] = []
    order: list[float] = []
    first: av.VideoFrame | None = None
    with opened(path, allow_corrupt=allow_corrupt) as (container, stream):
        entries = len(stream.index_entries) if container.format.name in _INDEXED else 0
        claimed = stream.frames if container.format.name == "avi" else 0
        for packet in _packets(path, container, stream):
            if first is None:
                first = next(iter(_decoded(path, stream, packet, len(order))), None)
            if packet.size:
                order.append(_seconds(packet))
                if not packet.is_discard:
                    shown.append(order[-1])
        reordered = bool(stream.codec_context.has_b_frames) or order != sorted(order)
        streams = container.streams.video
        if first is None or not shown:
            raise DecodeError(path, "holds no frame that can be decoded", remedy=_REMEDY)
        if not allow_corrupt:
            _must_be_whole(path, len(order), entries, claimed)
        turn = turn_of(first, path)
        times = tuple(time - min(shown) for time in sorted(shown))
        size = turn.size(first.height, first.width)
        is_first = stream.index == streams[0].index
        return StreamInfo(len(shown), *size, times, turn, reordered, len(streams), is_first, container.format.name)


def frames(path: str | PathLike[str], wanted: Sequence[int], *, allow_corrupt: bool = False) -> Iterator[av.VideoFrame]:
    """The frames of the numbers `wanted` (sorted, distinct), as the decoder gives them.

    Raises DecodeError: as `opened`; a packet cannot be decoded; a wanted frame is marked corrupt, or one between it and
    the last key frame before it (unless `allow_corrupt`); or the video ends before the last wanted one: then the
    error's `frames` says how many there are.
    """
    remaining, damaged_at, number = deque(wanted), None, -1
    with opened(path, allow_corrupt=allow_corrupt) as (container, stream):
        for number, frame in _numbered(path, container, stream, wanted):
            if frame.is_corrupt:
                damaged_at = number
            elif frame.key_frame:
                damaged_at = None
            if number == remaining[0]:
                if damaged_at is not None and not allow_corrupt:
                    raise DecodeError(path, f"is damaged at frame {damaged_at}", remedy=_REMEDY)
                yield frame
                remaining.popleft()
                if not remaining:
                    return
    raise too_few(path, number + 1, remaining[0])


def too_few(path: str | PathLike[str], count: int, target: int) -> DecodeError:
    """The error of a video of `count` frames, which ends before the frame `target`."""
    return DecodeError(
        path, "has too few frames", got=count, expected=f"frame {target}", remedy="draw again", frames=count
    )


def _numbered(
    path: str | PathLike[str],
    container: av.container.InputContainer,
    stream: av.VideoStream,
    wanted: Sequence[int],
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decoded frames with their numbers: all of them, or those that the wanted ones depend on."""
    packets: Iterable[av.Packet] = _packets(path, container, stream)
    small = Path(path).stat().st_size <= _LARGEST_IN_MEMORY
    if stream.codec_context.name == "mpeg4" and not stream.codec_context.has_b_frames and small:
        held = packets = list(packets)
        needed = packets_needed([bytes(packet) for packet in held[:-1]], wanted)
        if needed is not None and not any(packet.is_discard for packet in held):
            for number in needed:
                pictures = _decoded(path, stream, held[number], number)
                if len(pictures) != 1:
                    raise DecodeError(path, f"is damaged: packet {number} gives no picture", remedy=_REMEDY)
                yield number, pictures[0]
            return
    count = 0
    for position, packet in enumerate(packets):
        for frame in _decoded(path, stream, packet, position):
            yield count, frame
            count += 1


def _packets(
    path: str | PathLike[str], container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet]:
    """The stream's packets, and at last an empty one, which makes the decoder give out the frames it held back."""
    try:
        yield from container.demux(stream)
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(path, f"cannot be read to its end ({reason(error)})", remedy=_REMEDY) from error


def _decoded(path: str | PathLike[str], stream: av.VideoStream, packet: av.Packet, number: int) -> list[av.VideoFrame]:
    try:
        return stream.decode(packet)
    except av.EOFError:
        return []
    except av.FFmpegError as error:
        problem = f"is damaged: packet {number} cannot be decoded ({reason(error)})"
        raise DecodeError(path, problem, remedy=_REMEDY) from error


def _seconds(packet: av.Packet) -> float:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return float("nan") if ticks is None else float(ticks * packet.time_base)


def _must_be_whole(path: str | PathLike[str], packets: int, entries: int, claimed: int) -> None:
    """The index of an AVI or MP4 must be found again; in an AVI without one, at least the header's count."""
    _must_not_be_cut(path)
    if entries > packets:
        problem = "is damaged: some frames of its index cannot be found"
        raise DecodeError(path, problem, got=packets, expected=entries, remedy=_REMEDY)
    # ffmpeg begins an index of its own with the first packet it sees
    if entries <= 1 < packets and claimed not in (0, packets):
        problem = "is damaged: it has no index, and not the frames of its header"
        raise DecodeError(path, problem, got=packets, expected=claimed, remedy=_REMEDY)


def _must_not_be_cut(path: str | PathLike[str]) -> None:
    if missing := missing_bytes(path):
        raise DecodeError(path, f"is cut off: {missing} or more bytes are missing", remedy=_REMEDY)


def require_size(path: str | PathLike[str], width: int, height: int) -> None:
    """Raises DecodeError: one picture has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        got = f"{width} x {height}"
        raise DecodeError(path, "has pictures that are too large", got=got, expected=MOST, remedy="make it smaller")


def reason(error: Exception) -> str:
    """The cause without number and path, which the sentence around it names. Raises MemoryError: that is the cause."""
    if isinstance(error, MemoryError):
        raise error
    return str(getattr(error, "strerror", None) or error)

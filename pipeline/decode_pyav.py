"""The default reader: PyAV, that is the libraries of ffmpeg, from the first frame on to the last one asked for.

In: a path and the sorted, distinct numbers of the wanted frames. Out: those frames as decoded (`av.VideoFrame`), in
order. It never seeks, as seeking is inexact in many containers, and uses one thread: a stage has many videos.
It refuses nothing that ffmpeg decodes, but it stops at the first packet that the decoder cannot take: behind it, the
numbers of the frames would no longer be those of the skeleton.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

import av

from pipeline.decode_fit import turn_of
from pipeline.errors import DecodeError


@contextmanager
def opened(path: str | PathLike[str]) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its best video stream, set to one thread.

    Raises DecodeError: there is no such file, it is empty, no video, or of no known format.
    """
    _must_be_a_file(path)
    try:
        # "file:" so that a colon in a name is no protocol; a playlist must not reach out to other protocols
        container = av.open(
            f"file:{fspath(path)}", "r", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(path, f"cannot be opened as a video ({_reason(error)})", remedy="replace the file") from error
    with container:
        stream = container.streams.best("video")
        # ffmpeg takes text files for animations of a terminal
        if not isinstance(stream, av.VideoStream) or container.format.name == "tty":
            raise DecodeError(path, "holds no video stream", got=container.format.long_name, remedy="replace the file")
        stream.thread_type = "NONE"
        yield container, stream


def probe(path: str | PathLike[str]) -> tuple[int, int, int]:
    """(frames, height, width): packets counted without decoding them; the display size is that of the first frame.

    Raises DecodeError: as `opened`; or there is no frame at all.
    """
    count, size = 0, None
    with opened(path) as (container, stream):
        for packet in _packets(path, container, stream):
            count += packet.size > 0 and not packet.is_discard
            if size is None:
                for frame in _decoded(path, stream, packet, count):
                    size = size or turn_of(frame, path).size(frame.height, frame.width)
    if size is None:
        raise DecodeError(path, "holds no frame that can be decoded", remedy="replace the file")
    return count, *size


def frames(path: str | PathLike[str], wanted: Sequence[int], *, allow_corrupt: bool = False) -> Iterator[av.VideoFrame]:
    """The frames of the numbers `wanted` (sorted, distinct), as the decoder gives them.

    Raises DecodeError: as `opened`; a packet cannot be decoded; a wanted frame is marked corrupt (unless
    `allow_corrupt`); or the video ends before the last wanted one: then the error's `frames` says how many there are.
    """
    targets = iter(wanted)
    target = next(targets)
    number = packets = 0
    with opened(path) as (container, stream):
        for packet in _packets(path, container, stream):
            packets += 1
            for frame in _decoded(path, stream, packet, packets):
                if number == target:
                    if frame.is_corrupt and not allow_corrupt:
                        raise DecodeError(path, f"is damaged at frame {number}", remedy="replace the file")
                    yield frame
                    following = next(targets, None)
                    if following is None:
                        return
                    target = following
                number += 1
    raise DecodeError(
        path, "has too few frames", got=number, expected=f"frame {target}", remedy="draw again", frames=number
    )


def _packets(
    path: str | PathLike[str], container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet]:
    """The stream's packets, and at last an empty one, which makes the decoder give out the frames it held back."""
    try:
        yield from container.demux(stream)
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(path, f"cannot be read to its end ({_reason(error)})", remedy="replace the file") from error


def _decoded(path: str | PathLike[str], stream: av.VideoStream, packet: av.Packet, number: int) -> list[av.VideoFrame]:
    try:
        return stream.decode(packet)
    except av.EOFError:
        return []
    except av.FFmpegError as error:
        problem = f"is damaged: packet {number} cannot be decoded ({_reason(error)})"
        raise DecodeError(path, problem, remedy="replace the file") from error


def _must_be_a_file(path: str | PathLike[str]) -> None:
    file = Path(path)
    try:
        kind, size = file.is_file(), file.stat().st_size
    except OSError as error:
        raise DecodeError(path, f"cannot be read ({_reason(error)})", remedy="check the path") from error
    if not kind:
        raise DecodeError(path, "is neither a video file nor a folder of frames", remedy="check the path")
    if size == 0:
        raise DecodeError(path, "is empty", got="0 bytes", expected="a video", remedy="replace the file")


def _reason(error: Exception) -> str:
    """The cause without number and path, which the sentence around it names."""
    return str(getattr(error, "strerror", None) or error)

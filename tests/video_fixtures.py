"""Videos that the tests write themselves: a frame carries its number as a bar code, and a red marker at a place that
follows from the number.

In: a name of `VIDEOS` and a folder. Out: a file, and what a correct reader must return: the numbers of its frames in
order and the display size (height, width). `number_of` reads a frame's bar code, and gives
None where the code contradicts itself (a blend of two frames, a picture of something else); `marker_of` finds the
marker, which must lie at `marker_at` of the number.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

BITS = 8
BRIGHT, DARK = 210, 40
RATE = 25


RED = (225, 25, 25)


def picture(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """uint8 (height, width, 3): `BITS` bars, the most significant at the left; below them their complements; where they
    meet, the marker, a red square."""
    bits = np.array([number >> bit & 1 for bit in reversed(range(BITS))], bool)
    bars = np.stack([bits, ~bits])[np.arange(height) * 2 // height][:, np.arange(width) * BITS // width]
    rgb = np.repeat(np.where(bars, BRIGHT, DARK).astype(np.uint8)[..., None], 3, axis=2)
    x, y = marker_at(number, height, width)
    half = width // 24
    rgb[y - half : y + half + 1, x - half : x + half + 1] = RED
    return rgb


def marker_at(number: int, height: int = 64, width: int = 96) -> tuple[int, int]:
    """The marker's centre (x, y), pixel centres at integers; it covers no place that `number_of` looks at."""
    return width // 6 + number * 29 % (width * 2 // 3), height * 5 // 12 + number * 13 % (height // 6)


def marker_of(frame: np.ndarray) -> tuple[float, float]:
    """The centre (x, y) of what is red in uint8 (h, w, 3); NaN if nothing is."""
    excess = (frame[..., 0] - frame[..., 1:].max(axis=-1).astype(float) - 60).clip(0)
    with np.errstate(invalid="ignore"):
        y, x = (excess.sum(axis=1 - axis) @ np.arange(excess.shape[axis]) / excess.sum() for axis in (0, 1))
    return float(x), float(y)


def number_of(frame: np.ndarray) -> int | None:
    """The number in uint8 (h, w, 3), from the middle of each bar; None if upper and lower bars do not complement."""
    height, width, _ = frame.shape
    columns = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    upper, lower = (frame[int(height * y), columns].mean(axis=1) for y in (0.25, 0.75))
    if (np.abs(upper - lower) < (BRIGHT - DARK) / 2).any():
        return None
    return int("".join("1" if up > low else "0" for up, low in zip(upper, lower, strict=True)), 2)


@dataclass(frozen=True)
class Stream:
    """How one stream is encoded; `options` go to the encoder, `times` are the frames' times in 1/`RATE` s."""

    codec: str
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    b_frames: int = 0
    gop: int = 12
    height: int = 64
    width: int = 96
    rotation: int = 0  # degrees counter-clockwise, by which a player turns the coded picture
    mirrored: bool = False
    bit_rate: int = 2_000_000
    default: bool | None = None
    times: tuple[int, ...] | None = None


def encode(
    path: Path,
    stream: Stream,
    numbers: Iterable[int] = range(40),
    *more: tuple[Stream, Iterable[int]],
    container_format: str | None = None,
) -> None:
    """Write a file of one stream, or of several that hold other numbers."""
    with av.open(str(path), "w", format=container_format) as container:
        tracks = [(_add(container, one), one, list(those)) for one, those in ((stream, numbers), *more)]
        container.start_encoding()
        for track, one, those in tracks:
            for i, number in enumerate(those):
                frame = av.VideoFrame.from_ndarray(_coded_picture(number, one), format="rgb24")
                frame = frame.reformat(format=one.pix_fmt, dst_color_range=2 if _is_full(one) else 1)
                frame.pts = one.times[i] if one.times else i
                frame.time_base = Fraction(1, RATE)
                container.mux(track.encode(frame))
            container.mux(track.encode())


def _coded_picture(number: int, stream: Stream) -> np.ndarray:
    """What must be coded so that the picture stands upright once the file's rotation is applied."""
    turns = stream.rotation // 90
    height, width = (stream.width, stream.height) if turns % 2 else (stream.height, stream.width)
    upright = picture(number, height, width)
    return np.ascontiguousarray(np.rot90(upright[:, ::-1] if stream.mirrored else upright, -turns))


def _add(container: av.container.OutputContainer, stream: Stream) -> av.VideoStream:
    track = container.add_stream(stream.codec, rate=RATE, options=stream.options)
    assert isinstance(track, av.VideoStream)
    track.height, track.width, track.pix_fmt = stream.height, stream.width, stream.pix_fmt
    track.bit_rate = stream.bit_rate
    track.codec_context.gop_size = stream.gop
    track.codec_context.max_b_frames = stream.b_frames
    track.codec_context.time_base = Fraction(1, RATE)
    if _is_full(stream):
        track.codec_context.color_range = 2
    if stream.default is not None:
        track.disposition = Disposition.default if stream.default else Disposition(0)
    if stream.rotation or stream.mirrored:
        track.set_display_rotation(stream.rotation, hflip=stream.mirrored)
    return track


def _is_full(stream: Stream) -> bool:
    return stream.pix_fmt.startswith("yuvj") or "pc" in stream.options.values()


def patch_avi_counts(path: Path, frames: int) -> None:
    """Let the headers of an AVI claim another number of frames: avih.dwTotalFrames and strh.dwLength."""
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        struct.pack_into("<I", data, data.index(tag) + offset, frames)
    path.write_bytes(data)


def packed_bitstream(path: Path, stream: Stream, numbers: Iterable[int] = range(40)) -> None:
    """An AVI as DivX 5 wrote it: each P-VOP shares a packet with the B-VOP after it; an empty VOP fills the gap.

    Source: the behaviour that ffmpeg's mpeg4_unpack_bframes undoes (libavcodec/bsf/mpeg4_unpack_bframes.c).
    """
    plain = path.with_name("plain-" + path.name)
    encode(plain, stream, numbers)
    with av.open(str(plain)) as source, av.open(str(path), "w") as sink:
        track = sink.add_stream_from_template(source.streams.video[0])
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        for i, data in enumerate(_packed(packets)):
            packet = av.Packet(data)
            packet.stream, packet.time_base = track, Fraction(1, RATE)
            packet.pts = packet.dts = i
            packet.is_keyframe = _vop_type(data) == "I"
            sink.mux(packet)
    plain.unlink()


def _packed(packets: list[bytes]) -> list[bytes]:
    first = packets[0].index(b"\x00\x00\x01\xb6")
    packets = [packets[0][:first] + b"\x00\x00\x01\xb2DivX503b1393p" + packets[0][first:], *packets[1:]]
    out: list[bytes] = []
    i = 0
    while i < len(packets):
        if i + 1 < len(packets) and _vop_type(packets[i + 1]) == "B":
            out += [packets[i] + packets[i + 1], _EMPTY_VOP]
            i += 2
        else:
            out.append(packets[i])
            i += 1
    return out


# start code; P; no whole second; marker; 5 bits of time (RATE is 25); marker; not coded; stuffing
_EMPTY_VOP = b"\x00\x00\x01\xb6" + int("01" + "0" + "1" + "00000" + "1" + "0" + "01111", 2).to_bytes(2, "big")


def _vop_type(data: bytes) -> str:
    return "IPBS"[data[data.index(b"\x00\x00\x01\xb6") + 4] >> 6]


@dataclass(frozen=True)
class Video:
    """A fixture: how to write it, and what is true of it."""

    make: Callable[[Path], None]
    suffix: str = ".mp4"
    numbers: tuple[int, ...] = tuple(range(40))
    size: tuple[int, int] = (64, 96)
    marked: bool = True  # its colours show the marker


def _plain(
    stream: Stream, numbers: Iterable[int] = range(40), container_format: str | None = None
) -> Callable[[Path], None]:
    return partial(_encode_to, stream=stream, numbers=tuple(numbers), container_format=container_format)


def _encode_to(path: Path, *, stream: Stream, numbers: tuple[int, ...], container_format: str | None) -> None:
    encode(path, stream, numbers, container_format=container_format)


def _miscounted(path: Path, *, frames: int) -> None:
    encode(path, Stream("mpeg4"))
    patch_avi_counts(path, frames)


def _two_streams(path: Path, *, first_is_best: bool) -> None:
    small, large = Stream("libx264", height=32, width=48, bit_rate=20_000), Stream("libx264")
    if first_is_best:
        encode(path, large, range(40), (small, range(100, 140)))
    else:
        encode(path, replace(small, default=False), range(100, 140), (replace(large, default=True), range(40)))


def _packed_to(path: Path) -> None:
    packed_bitstream(path, Stream("mpeg4", b_frames=1))


# What must be stored so that it stands upright once it is turned as EXIF's orientation asks for
TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _mjpeg_with_exif(path: Path, *, orientation: int) -> None:
    """JPEG pictures of a camera as the packets of an AVI: each tells for itself how it is turned."""
    height, width = (96, 64) if orientation >= 5 else (64, 96)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with av.open(str(path), "w") as container:
        track = _add(container, Stream("mjpeg", pix_fmt="yuvj420p", height=height, width=width))
        container.start_encoding()
        for number in range(40):
            jpeg = io.BytesIO()
            image = Image.fromarray(picture(number)).transpose(TURNED_BACK[orientation])
            image.save(jpeg, "JPEG", quality=95, exif=exif)
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.time_base, packet.pts, packet.dts = track, Fraction(1, RATE), number, number
            packet.is_keyframe = True
            container.mux(packet)


_X264_OPEN = {"x264-params": "bframes=3:b-adapt=0:open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
_AV1 = {"preset": "10", "crf": "8", "svtav1-params": "enable-tf=0"}
_QUIET_X265 = "log-level=none:"
_UNEVEN = tuple(int(t) for t in np.cumsum(np.tile([1, 4, 2, 1, 7], 8)))

VIDEOS: dict[str, Video] = {
    "mpeg4-b0-avi": Video(_plain(Stream("mpeg4")), ".avi"),
    "mpeg4-b1-avi": Video(_plain(Stream("mpeg4", b_frames=1)), ".avi"),
    "mpeg4-b2-avi": Video(_plain(Stream("mpeg4", b_frames=2)), ".avi"),
    "mpeg4-b0-mkv": Video(_plain(Stream("mpeg4")), ".mkv"),
    "mpeg4-b1-mkv": Video(_plain(Stream("mpeg4", b_frames=1)), ".mkv"),
    "mpeg4-b2-mkv": Video(_plain(Stream("mpeg4", b_frames=2)), ".mkv"),
    "mpeg4-packed-avi": Video(_packed_to, ".avi"),
    "h264-mp4": Video(_plain(Stream("libx264", b_frames=0))),
    "h264-open-gop-mp4": Video(_plain(Stream("libx264", options=_X264_OPEN, b_frames=3))),
    "h264-open-gop-mkv": Video(_plain(Stream("libx264", options=_X264_OPEN, b_frames=3)), ".mkv"),
    "h264-open-gop-ts": Video(_plain(Stream("libx264", options=_X264_OPEN, b_frames=3)), ".ts"),
    "hevc-open-gop-mp4": Video(
        _plain(
            Stream("libx265", options={"x265-params": _QUIET_X265 + "keyint=10:min-keyint=10:bframes=3"}, b_frames=3)
        )
    ),
    "vp9-webm": Video(_plain(Stream("libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16"})), ".webm"),
    "mjpeg-avi": Video(_plain(Stream("mjpeg", pix_fmt="yuvj420p")), ".avi"),
    "header-too-high": Video(partial(_miscounted, frames=48), ".avi"),
    "header-too-low": Video(partial(_miscounted, frames=31), ".avi"),
    "variable-rate-mp4": Video(_plain(Stream("libx264", b_frames=2, times=_UNEVEN))),
    "variable-rate-mkv": Video(_plain(Stream("libx264", b_frames=2, times=_UNEVEN)), ".mkv"),
    "two-streams-best-first": Video(partial(_two_streams, first_is_best=True)),
    "two-streams-best-last": Video(partial(_two_streams, first_is_best=False)),
    "rotated-90": Video(_plain(Stream("libx264", rotation=90)), size=(96, 64)),
    "rotated-180": Video(_plain(Stream("libx264", rotation=180))),
    "rotated-270": Video(_plain(Stream("libx264", rotation=270)), size=(96, 64)),
    "rotated-90-av1": Video(_plain(Stream("libsvtav1", rotation=90, options=_AV1, bit_rate=0)), size=(96, 64)),
    "rotated-270-odd": Video(
        _plain(Stream("libx264", pix_fmt="yuv444p", rotation=270, height=63, width=95)), ".mov", size=(95, 63)
    ),
    "mirrored": Video(_plain(Stream("libx264", mirrored=True))),
    "ten-bit-h264": Video(_plain(Stream("libx264", pix_fmt="yuv420p10le"))),
    "full-range": Video(_plain(Stream("libx264", options={"color_range": "pc"}))),
    "odd-size-vp9": Video(_plain(Stream("libvpx-vp9", height=63, width=95)), ".webm", size=(63, 95)),
    "odd-size-mjpeg": Video(_plain(Stream("mjpeg", pix_fmt="yuvj420p", height=63, width=95)), ".avi", size=(63, 95)),
    "seven-frames": Video(_plain(Stream("mpeg4"), range(7)), ".avi", numbers=tuple(range(7))),
    "one-frame": Video(_plain(Stream("mpeg4"), range(5, 6)), ".avi", numbers=(5,)),
    "one-frame-h264-b": Video(_plain(Stream("libx264", b_frames=3), range(5, 6)), numbers=(5,)),
    "h264-MTS": Video(_plain(Stream("libx264", b_frames=2), container_format="mpegts"), ".MTS"),
    "mpeg4-3gp": Video(_plain(Stream("mpeg4")), ".3gp"),
    "gif": Video(_plain(Stream("gif", pix_fmt="rgb8")), ".gif"),
    "gif-uneven": Video(_plain(Stream("gif", pix_fmt="rgb8", times=_UNEVEN)), ".gif"),
    "vp8-ogv": Video(_plain(Stream("libvpx")), ".ogv"),
    "wmv2-asf": Video(_plain(Stream("wmv2")), ".asf"),
    "wmv2-wmv": Video(_plain(Stream("wmv2")), ".wmv"),
    "mpeg2-vob": Video(_plain(Stream("mpeg2video", b_frames=2), container_format="vob"), ".vob"),
    "mpeg2-mpg": Video(_plain(Stream("mpeg2video"), container_format="mpeg"), ".MPG"),
    "flv": Video(_plain(Stream("flv")), ".flv"),
    "h264-nut": Video(_plain(Stream("libx264")), ".nut"),
    **{f"mjpeg-exif-{i}": Video(partial(_mjpeg_with_exif, orientation=i), ".avi") for i in (2, 3, 6)},
    "apng": Video(_plain(Stream("apng", pix_fmt="rgb24")), ".apng"),
}


def _no_frames(path: Path) -> None:
    encode(path, Stream("mpeg4"), ())


def _truncated(path: Path) -> None:
    encode(path, Stream("mpeg4"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path: Path) -> None:
    path.write_text("These are not the frames you are looking for.\n" * 200)


# Files that are no videos, or damaged ones: `probe` must name the problem in one sentence.
BROKEN: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no-frames-avi": (".avi", _no_frames),
    "no-frames-mkv": (".mkv", _no_frames),
    "truncated-avi": (".avi", _truncated),
    "truncated-mkv": (".mkv", _truncated),
    "truncated-mp4": (".mp4", _truncated),
    "zero-bytes-avi": (".avi", Path.touch),
    "zero-bytes-mp4": (".mp4", Path.touch),
    "text-avi": (".avi", _text),
    "text-mp4": (".mp4", _text),
    "text-txt": (".txt", _text),
}


def build(name: str, folder: Path) -> Path:
    """The file of the fixture `name`, written into `folder` unless it is there."""
    suffix, make = (VIDEOS[name].suffix, VIDEOS[name].make) if name in VIDEOS else BROKEN[name]
    path = folder / (name + suffix)
    if not path.exists():
        make(path)
    return path

"""The pixels of one decoded frame: a box of the picture, scaled to a size, as RGB.

In: an `av.VideoFrame` of any pixel format, colour range, matrix and right-angled rotation. Out: uint8 (h, w, 3) RGB.
Box and size are in display pixels, that is after the rotation that the file asks for. The box is cut in the decoder's
own planes, scaled there to a small yuv444p picture by area (each axis is interpolated linearly where it is enlarged),
and only that is converted to RGB: on real NTU videos the mean error is 0.4/255 against an exact box filter over a
carefully converted full picture (`python benchmarks/decode.py`).
Pixels are taken as square: a sample aspect ratio in the file is ignored, as the coordinates of skeletons are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type

from pipeline.errors import DecodeError

Box = tuple[int, int, int, int]

_FLAGS = "flags=area+accurate_rnd:sws_dither=none"
_FULL = 2  # AVColorRange
# AVColorSpace to the names of the scale filter. The default is BT.601, as in ffmpeg and OpenCV.
_MATRIX = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
# Formats whose chroma grid is at most 2 pixels wide and high, and which `crop` and `pad` treat without a conversion.
_EVEN_GRID = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})
_COARSEST_GRID = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """A right-angled rotation with or without a mirror: first transpose, then flip the columns, then the rows."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def mirrors(self) -> bool:
        """Whether it is more than a rotation."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the display for those of the coded picture, or the other way round."""
        return (width, height) if self.transpose else (height, width)

    def coded_box(self, box: Box, height: int, width: int) -> Box:
        """The box of the coded picture that `box` of the display of `height` x `width` shows."""
        x0, y0, x1, y1 = box
        if self.flip_x:
            x0, x1 = width - x1, width - x0
        if self.flip_y:
            y0, y1 = height - y1, height - y0
        return (y0, x0, y1, x1) if self.transpose else (x0, y0, x1, y1)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """(h, w, 3) as coded to (h, w, 3) as displayed."""
        picture = picture.swapaxes(0, 1) if self.transpose else picture
        return picture[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def turn_of(frame: av.VideoFrame, item: object) -> Turn:
    """The rotation that the file's display matrix asks for.

    Raises DecodeError: the matrix turns by something else than a multiple of 90 degrees.
    """
    found = _side_data(frame).get("DISPLAYMATRIX")  # iterating gives buffers or their types, as PyAV's version is
    if found is None:
        return Turn()
    # x' = a x + c y and y' = b x + d y, in 16.16 fixed point (libavutil/display.h)
    a, b, _, c, d = np.sign(np.round(np.frombuffer(bytes(found), np.int32)[:5] / 65536)).astype(int).tolist()
    if (a != 0) == (b != 0) or (a != 0) != (d != 0) or (b != 0) != (c != 0):
        problem = "has a rotation that is not a multiple of 90 degrees"
        raise DecodeError(item, problem, got=f"{frame.rotation} degrees", remedy="re-encode it upright")
    return Turn(transpose=a == 0, flip_x=a + c < 0, flip_y=b + d < 0)


def _side_data(frame: av.VideoFrame) -> Any:
    """PyAV 18 raises ValueError on side data that it has no name for, such as EXIF: here that passes as some other,
    which nobody asks for."""
    try:
        return frame.side_data
    except ValueError:
        Type._missing_ = classmethod(lambda kinds, _: kinds.PANSCAN)  # type: ignore[method-assign, assignment]
        return frame.side_data


class Fitter:
    """Brings the frames of one video to one box and size; its filter graph is built once.

    Args:
        item: the video, for messages.
        box: (x0, y0, x1, y1), half open, in display pixels; black outside the picture. None: all of it.
        size: (h, w) of the output; None: that of the box.
    """

    def __init__(self, item: object, box: Box | None = None, size: tuple[int, int] | None = None) -> None:
        self._item, self._box, self._size = item, box, size
        self._display: tuple[int, int] | None = None
        self._built_for: tuple[object, ...] | None = None
        self._graph: _Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """One frame to uint8 (h, w, 3) RGB. A frame of another size than the first is first brought to that size."""
        turn = turn_of(frame, self._item)
        if self._display is None:
            self._display = turn.size(frame.height, frame.width)
        height, width = turn.size(*self._display)
        box = self._box or (0, 0, self._display[1], self._display[0])
        size = turn.size(*(self._size or (box[3] - box[1], box[2] - box[0])))
        box = turn.coded_box(box, *self._display)
        key = (frame.width, frame.height, frame.format.name, frame.color_range, frame.colorspace, turn)
        if key != self._built_for:
            chain = filter_chain(frame, (height, width), box, size)
            self._graph = _Graph(frame, chain, self._item) if chain else None
            self._built_for = key
        picture = self._graph.run(frame) if self._graph else np.zeros((*size, 3), np.uint8)
        return turn.apply(picture)


def filter_chain(
    frame: av.VideoFrame, picture: tuple[int, int], box: Box, size: tuple[int, int]
) -> list[tuple[str, str]]:
    """The libavfilter chain from `frame` to RGB: (name, arguments) of each filter; empty if the box shows nothing.

    Args:
        frame: gives format, colour range and matrix.
        picture: (height, width), as coded, to which the whole frame is brought first if it has another size.
        box: as coded; may lie partly outside.
        size: (h, w), as coded.
    """
    height, width = picture
    x0, y0, x1, y1 = box
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if left >= right or top >= bottom:
        return []
    padded = (left, top, right, bottom) != box
    # `crop` and `pad` can only cut planes on the chroma grid: elsewhere, chroma gets its full size first.
    cuts = [left, top]
    if padded:
        cuts += [left - x0, top - y0, right - left, bottom - top, x1 - x0, y1 - y0]
    native = frame.format.name in _EVEN_GRID
    grid = 2 if native else _COARSEST_GRID
    on_grid = all(cut % grid == 0 for cut in cuts) and (native or not padded)
    chain: list[tuple[str, str]] = []
    if (frame.height, frame.width) != picture:
        chain.append(("scale", f"{width}:{height}:{_FLAGS}"))
    if not on_grid:
        outer_left, outer_top = left - left % _COARSEST_GRID, top - top % _COARSEST_GRID
        chain.append(("crop", f"{right - outer_left}:{bottom - outer_top}:{outer_left}:{outer_top}:exact=1"))
        chain += _to_yuv444(frame)
        left, top, right, bottom = left - outer_left, top - outer_top, right - outer_left, bottom - outer_top
        x0, y0, x1, y1 = x0 - outer_left, y0 - outer_top, x1 - outer_left, y1 - outer_top
    if (left, top, right, bottom) != (0, 0, width, height):
        chain.append(("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))
    if padded:
        chain.append(("pad", f"{x1 - x0}:{y1 - y0}:{left - x0}:{top - y0}:black"))
    chain += _to_yuv444(frame, f"{size[1]}:{size[0]}:")
    matrix, limits = _matrix_and_limits(frame)
    chain.append(("scale", f"{_FLAGS}:in_color_matrix={matrix}:in_range={limits}:out_range=pc"))
    chain.append(("format", "rgb24"))
    return chain


def _to_yuv444(frame: av.VideoFrame, size: str = "") -> list[tuple[str, str]]:
    """Planes of one size, in the frame's own colour matrix and range, so that scaling does not touch the values."""
    matrix, limits = _matrix_and_limits(frame)
    flags = _FLAGS.replace(":", "+full_chroma_inp:", 1)
    source = "" if frame.format.is_rgb else f":in_color_matrix={matrix}:in_range={limits}"
    return [("scale", f"{size}{flags}{source}:out_color_matrix={matrix}:out_range={limits}"), ("format", "yuv444p")]


def _matrix_and_limits(frame: av.VideoFrame) -> tuple[str, str]:
    """The colour matrix, and "pc" for 0-255 or "tv" for 16-235; RGB passes through the former, to lose nothing."""
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj") or frame.format.is_rgb
    return _MATRIX.get(frame.colorspace, "bt601"), "pc" if full else "tv"


class _Graph:
    """One configured filter graph, for frames of one format."""

    def __init__(self, frame: av.VideoFrame, chain: list[tuple[str, str]], item: object) -> None:
        self._item = item
        graph = av.filter.Graph()
        graph.threads = 1
        # with the frame's own properties; otherwise libavfilter takes every frame for a change of format
        source = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
            f":colorspace={frame.colorspace}:range={frame.color_range}"
        )
        try:
            self._source = graph.add("buffer", source)
            nodes = [graph.add(name, arguments) for name, arguments in chain]
            self._sink = graph.add("buffersink")
            graph.link_nodes(self._source, *nodes, self._sink).configure()
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise DecodeError(item, f"has frames that cannot be converted to RGB ({error})") from error
        self._owner = graph  # the contexts do not keep their graph alive

    def run(self, frame: av.VideoFrame) -> np.ndarray:
        try:
            self._source.push(frame)
            return cast(av.VideoFrame, self._sink.pull()).to_ndarray()
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise DecodeError(self._item, f"has a frame that cannot be converted to RGB ({error})") from error

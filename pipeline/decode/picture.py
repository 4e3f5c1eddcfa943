"""One picture file, upright and whole, or an error.

In: a JPEG, PNG, BMP, WebP or TIFF file, whatever its name. Out: a frame, to be shown as its `turn_of` says, which is
what its EXIF data say. Pillow reads the header and the pixels, but for those of a JPEG: ffmpeg tells one that ends
early, which Pillow fills up with grey, and leaves chroma as it was coded. 16-bit greys lose their lower byte; an alpha
channel is ignored as in ffmpeg and OpenCV, and so are colour profiles. Of a file of several pages it reads the first.
"""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from os import PathLike

import av
import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from pipeline.decode.crop_scale import Turn
from pipeline.decode.pyav_reader import MOST, STRICT, require_size
from pipeline.decode.regular import open_regular
from pipeline.errors import DecodeError

_PLUGINS = (JpegImagePlugin, PngImagePlugin, BmpImagePlugin, WebPImagePlugin, TiffImagePlugin)  # imported, they read
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_ORIENTATION = 0x0112  # a tag of EXIF 2.3 (4.6.4), with its values
_TURNS = {
    2: Turn(flip_x=True),
    3: Turn(flip_x=True, flip_y=True),
    4: Turn(flip_y=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, flip_x=True),
    7: Turn(transpose=True, flip_x=True, flip_y=True),
    8: Turn(transpose=True, flip_y=True),
}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises, as seen; it lists none
_REMEDY = "replace the file"


def read_picture(path: str | PathLike[str]) -> av.VideoFrame:
    """The picture as coded, if it is a JPEG; else upright.

    Raises DecodeError: it is no regular file, no picture, cut off, damaged, too large, or an animation.
    """
    with open_regular(path) as file:
        data = file.read()
    with warnings.catch_warnings():  # those of Pillow: what matters, is an error here
        warnings.simplefilter("ignore")
        return _frame(path, data)


def _frame(path: str | PathLike[str], data: bytes) -> av.VideoFrame:
    image = _opened(path, data)
    try:
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            return _of_jpeg(image, data)
        image.load()  # before its orientation is asked for: with it, Pillow turns a TIFF upright
        turn = _TURNS.get(_orientation(image), Turn())
        return av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(turn.apply(_rgb(image))), format="rgb24")
    except MemoryError:
        raise
    except (*_BROKEN, av.FFmpegError) as error:
        raise DecodeError(path, "is cut off or damaged", remedy=_REMEDY) from error


def _opened(path: str | PathLike[str], data: bytes) -> Image.Image:
    """The picture with its header read."""
    if not data:
        raise DecodeError(path, "is empty", got="0 bytes", expected="a picture", remedy=_REMEDY)
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise DecodeError(path, "has pictures that are too large", expected=MOST, remedy="make it smaller") from error
    except _BROKEN as error:
        raise DecodeError(path, "cannot be read as a picture", expected=" | ".join(_FORMATS), remedy=_REMEDY) from error
    require_size(path, *image.size)
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise DecodeError(path, "is an animation", expected="one picture", remedy="split it into pictures")
    if image.mode == "F":
        raise DecodeError(path, "holds floating-point numbers and no colours", remedy="convert it")
    return image


def _of_jpeg(image: Image.Image, data: bytes) -> av.VideoFrame:
    """Raises ValueError, av.FFmpegError: it is not whole."""
    if b"\xff\xd9" not in data[data.rfind(b"\xff\xda") :]:
        raise ValueError("without an end")
    decoder = av.CodecContext.create("mjpeg", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count, decoder.options = 1, STRICT
    (frame,) = decoder.decode(av.Packet(data)) or decoder.decode(None)
    if (frame.width, frame.height) != image.size:
        raise ValueError("of two sizes")
    return frame


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 (h, w, 3). Raises one of `_BROKEN`."""
    if image.mode.startswith("I"):
        grey = np.asarray(image) >> 8
        if grey.min() < 0 or grey.max() > 255:
            raise ValueError("more than 16 bits")
        image = Image.fromarray(grey.astype(np.uint8))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """1 to 8. EXIF data that cannot be read say nothing, as in other readers."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*_BROKEN, TypeError, KeyError):
        return 1

"""One picture file, upright and whole, or an error.

In: a JPEG, PNG, BMP, WebP or TIFF file, whatever its name. Out: uint8 (h, w, 3) RGB, turned as its EXIF data say. It is
read by Pillow, which tells a picture that is cut off. 16-bit greys lose their lower byte, an alpha channel is ignored
as in ffmpeg and OpenCV, and so are colour profiles. Of a file of several pages it reads the first.
"""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from os import PathLike

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from pipeline.decode.pyav_reader import require_size
from pipeline.decode.regular import open_regular
from pipeline.errors import DecodeError

_PLUGINS = (JpegImagePlugin, PngImagePlugin, BmpImagePlugin, WebPImagePlugin, TiffImagePlugin)  # imported, they read
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_ORIENTATION = 0x0112  # the tag of EXIF, 2.3, 4.6.4
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises, it documents nowhere
_REMEDY = "replace the file"


def read_picture(path: str | PathLike[str]) -> np.ndarray:
    """uint8 (h, w, 3) RGB.

    Raises DecodeError: it is no regular file, no picture, cut off, damaged, too large, or an animation.
    """
    with open_regular(path) as file:
        data = file.read()
    if not data:
        raise DecodeError(path, "is empty", got="0 bytes", expected="a picture", remedy=_REMEDY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `require_size` has its own bound
            image = Image.open(BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise DecodeError(path, "is too large a picture", got=str(error), remedy="make it smaller") from error
    except _BROKEN as error:
        raise DecodeError(path, "cannot be read as a picture", expected=" | ".join(_FORMATS), remedy=_REMEDY) from error
    require_size(path, *image.size)
    if image.mode == "F":
        raise DecodeError(path, "holds floating-point numbers and no colours", remedy="convert it")
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise DecodeError(path, "is an animation", expected="one picture", remedy="list it as a video, or split it")
    try:
        image.load()
        picture = _rgb(image)
    except _BROKEN as error:
        raise DecodeError(path, "is cut off or damaged", remedy=_REMEDY) from error
    if image.format in ("JPEG", "MPO") and b"\xff\xd9" not in data[data.rfind(b"\xff\xda") :]:
        raise DecodeError(path, "is cut off: its end is missing", remedy=_REMEDY)
    return picture


def _rgb(image: Image.Image) -> np.ndarray:
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64) >> 8
        if grey.min() < 0 or grey.max() > 255:
            raise ValueError("more than 16 bits")
        image = Image.fromarray(grey.astype(np.uint8))
    upright = image if turn is None else image.transpose(turn)
    return np.ascontiguousarray(upright if upright.mode == "RGB" else upright.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """1 to 8. EXIF data that cannot be read say nothing, as in other readers; Pillow has turned a TIFF already."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*_BROKEN, TypeError, KeyError):
        return 1

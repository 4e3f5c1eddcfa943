"""Videos that tell what they show: a red disc where a joint is, and a grey level that counts the frames.

In: the disc's places and how to encode. Out: a video file or a folder of pictures; and from a kept picture the place of
the disc and the frame's number, whatever was cut away and however it was scaled. Nothing of the product is used.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

FIRST_GREY, STEP = 30, 5  # of frame 0; from frame to frame: MOST_FRAMES fit below white
MOST_FRAMES = 42
# suffix -> (codec, container); all are coded so finely that grey levels stay within 2
CONTAINERS = {
    ".avi": ("mpeg4", "avi"),
    ".mp4": ("libx264", "mp4"),
    ".mkv": ("libx264", "matroska"),
    ".MTS": ("libx264", "mpegts"),
    ".3gp": ("mpeg4", "3gp"),
    ".mpg": ("mpeg2video", "mpeg"),
}


def pictures(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) with the disc at `places` (T, 2), pixels; NaN for none."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    radius = max(2.0, min(size) / 24)
    frames = []
    for t, place in enumerate(places):
        frame = np.full((height, width, 3), FIRST_GREY + STEP * t, np.float64)
        # an edge a pixel wide: the disc's centre of mass is its centre
        cover = np.clip(radius + 0.5 - np.hypot(x - place[0], y - place[1]), 0, 1)[..., None]
        frames.append(np.where(np.isfinite(cover), frame * (1 - cover) + np.array([250, 5, 5]) * cover, frame))
    return np.stack(frames).round().astype(np.uint8)


def write_video(path: Path, frames: np.ndarray, *, turn: int = 0, b_frames: int = 0) -> Path:
    """Encode by the suffix of `path`; `turn` (0, 90, 180, 270) is left to the file's display matrix to undo."""
    codec, form = CONTAINERS[path.suffix]
    coded = np.rot90(frames, -turn // 90, axes=(1, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=form) as container:
        options = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {"qmin": "1", "qmax": "2"}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *coded.shape[1:3], "yuv420p"
        stream.bit_rate = 20_000_000
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 25)
        if turn:
            stream.set_display_rotation(turn)
        for picture in coded:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_pictures(folder: Path, frames: np.ndarray, *, first: int, suffix: str, orientation: int = 1) -> Path:
    """A folder of numbered pictures; they stand upright once they are turned as EXIF's orientation (1, 3, 6) asks."""
    folder.mkdir(parents=True, exist_ok=True)
    back = {1: 0, 3: 2, 6: 1}[orientation]
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, "Camera"
    for t, picture in enumerate(frames):
        image = Image.fromarray(np.ascontiguousarray(np.rot90(picture, back)))
        image.save(folder / f"img_{t + first:05d}{suffix}", quality=97, subsampling=0, exif=exif)
    return folder


def number_of(picture: np.ndarray) -> int:
    """The number of the frame that a kept picture (h, w, 3) shows; black beside it and the disc do not count."""
    grey = picture.astype(int)
    plain = (np.ptp(grey, axis=-1) < 14) & (grey.mean(-1) > FIRST_GREY / 2)
    return int(np.round((np.median(grey[plain].mean(-1)) - FIRST_GREY) / STEP))


def place_of(picture: np.ndarray) -> np.ndarray:
    """(x, y) of the disc in a kept picture; NaN where there is none."""
    colours = picture.astype(float)
    red = np.clip(colours[..., 0] - colours[..., 1:].max(-1) - 50, 0, None)
    if red.sum() < 100:
        return np.array([np.nan, np.nan])
    y, x = np.mgrid[: red.shape[0], : red.shape[1]]
    return np.array([(red * x).sum(), (red * y).sum()]) / red.sum()

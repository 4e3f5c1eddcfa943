"""`pipeline.decode.picture` and folders: a picture is whole or refused, and nothing that it claims costs memory."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_fixtures import build
from PIL import Image
from video_fixtures import picture

from pipeline.decode.child_process import DecodeProcess
from pipeline.decode.picture import read_picture
from pipeline.decode.pyav_reader import MAX_PIXELS
from pipeline.decode.read import read_frames
from pipeline.errors import DecodeError

KINDS = {
    "jpg": {"format": "JPEG", "quality": 95},
    "jpg-progressive": {"format": "JPEG", "progressive": True},
    "jpg-restarts": {"format": "JPEG", "restart_marker_rows": 1},
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "webp": {"format": "WEBP", "lossless": True},
    "tif": {"format": "TIFF"},
    "tif-deflate": {"format": "TIFF", "compression": "tiff_deflate"},
}
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def encoded(kind: str, rgb: np.ndarray = NOISE) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, **KINDS[kind])  # type: ignore[arg-type]
    return buffer.getvalue()


WHOLE = {kind: encoded(kind) for kind in KINDS}


def read(data: bytes, folder: Path) -> np.ndarray:
    path = folder / "it.jpg"
    path.write_bytes(data)
    return read_picture(path).to_ndarray(format="rgb24")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_has_its_pixels(kind: str, tmp_path: Path) -> None:
    error = np.abs(read(encoded(kind, picture(5)), tmp_path).astype(int) - picture(5))
    assert error.mean() < (3 if "jpg" in kind else 0.001)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.99))
def test_a_cut_off_picture_is_refused(kind: str, share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DecodeError):
        read(WHOLE[kind][: int(len(WHOLE[kind]) * share)], tmp_path_factory.mktemp("cut"))


@pytest.mark.parametrize("kind", ["jpg", "jpg-restarts"])
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.9))
def test_a_jpeg_is_refused_whose_file_ends_and_whose_data_do_not(
    kind: str, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """But for its last block of 16 x 16 pixels, where ffmpeg does not look."""
    with pytest.raises(DecodeError):
        read(WHOLE[kind][: int(len(WHOLE[kind]) * share)] + b"\xff\xd9", tmp_path_factory.mktemp("cut"))


@pytest.mark.parametrize("kind", ["jpg-restarts", "png"])
def test_a_hole_of_zeros_is_refused(kind: str, tmp_path: Path) -> None:
    """As a disk or an interrupted copy leaves it."""
    data = bytearray(WHOLE[kind])
    middle = len(data) // 2
    data[middle : middle + 1000] = bytes(1000)
    with pytest.raises(DecodeError, match="is cut off or damaged"):
        read(bytes(data), tmp_path)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0no TIFF at all", b"Exif\0\0", b"no EXIF " * 9]
)
def test_exif_that_cannot_be_read_says_nothing(exif: bytes, tmp_path: Path) -> None:
    for form, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        buffer = io.BytesIO()
        Image.fromarray(picture(5)).save(buffer, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
        path = tmp_path / f"1.{suffix}"
        path.write_bytes(buffer.getvalue())
        assert np.abs(read_frames(tmp_path, [0])[0].astype(int) - picture(5)).mean() < 4
        path.unlink()


@pytest.mark.parametrize(
    ("form", "words"),
    [("GIF", "cannot be read as a picture"), ("ICO", "cannot be read"), ("PPM", "cannot be read"), ("EPS", "cannot")],
)
def test_no_other_format_is_opened(form: str, words: str, tmp_path: Path) -> None:
    """Pillow would call Ghostscript for one of them."""
    buffer = io.BytesIO()
    Image.fromarray(picture(5)).save(buffer, form)
    with pytest.raises(DecodeError, match=words):
        read(buffer.getvalue(), tmp_path)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_no_picture(form: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    images = [Image.fromarray(picture(number)) for number in range(3)]
    images[0].save(buffer, form, save_all=True, append_images=images[1:])
    with pytest.raises(DecodeError, match="is an animation"):
        read(buffer.getvalue(), tmp_path)


def test_floats_are_no_colours(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(buffer, "TIFF")
    with pytest.raises(DecodeError, match="holds floating-point numbers"):
        read(buffer.getvalue(), tmp_path)


def claiming(kind: str, height: int, width: int) -> bytes:
    """A small picture, or a GIF of two frames, whose header claims a size."""
    if kind == "gif":
        buffer = io.BytesIO()
        images = [Image.fromarray(picture(number)).convert("P") for number in range(2)]
        images[0].save(buffer, "GIF", save_all=True, append_images=images[1:])
        data = bytearray(buffer.getvalue())
        struct.pack_into("<HH", data, 6, width, height)
        return bytes(data)
    data = bytearray(WHOLE[kind])
    if kind == "png":
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    elif kind == "bmp":
        struct.pack_into("<ii", data, 18, width, height)
    else:
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpg", "jpg-progressive", "png", "bmp"])
@pytest.mark.parametrize(("height", "width"), [(30_000, 30_000), (60_000, 60_000), (11_600, 11_600), (9_000, 9_000)])
def test_what_a_header_claims_is_bounded(kind: str, height: int, width: int, tmp_path: Path) -> None:
    words = "too large" if height * width > MAX_PIXELS else "cut off or damaged"
    with pytest.raises(DecodeError, match=words):
        read(claiming(kind, height, width), tmp_path)


def test_a_large_still_passes() -> None:
    assert MAX_PIXELS >= 15_360 * 8_640, "16K"


@pytest.mark.processes
def test_hostile_sizes_cost_their_clip_and_little_memory(tmp_path: Path) -> None:
    """All in one child of 0.5 GB, which none of them ends."""
    (tmp_path / "huge.gif").write_bytes(claiming("gif", 65_535, 65_535))
    for kind in ("jpg", "png", "bmp"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"1.{kind}").write_bytes(claiming(kind, 65_000, 65_000))
    data = bytearray(build("mjpeg-avi", tmp_path).read_bytes())
    for at in range(len(data) - 9):
        if data[at : at + 4] == b"\xff\xc0\0\x11":
            struct.pack_into(">HH", data, at + 5, 65_000, 65_000)
    (tmp_path / "huge.avi").write_bytes(data)
    with DecodeProcess(memory_bytes=1 << 29) as decoder:
        assert decoder.probe(build("mpeg4-b0-avi", tmp_path)).frames == 40
        child = decoder._child
        for name in ("huge.gif", "jpg", "png", "bmp", "huge.avi"):
            with pytest.raises(DecodeError, match=r"too large|is damaged"):
                decoder.read_frames(tmp_path / name, [0])
        assert decoder._child is child


@pytest.mark.processes
@pytest.mark.parametrize(("suffix", "options"), [("png", {"compress_level": 1}), ("jpg", {"progressive": True})])
def test_a_picture_that_needs_more_memory_than_there_is(
    suffix: str, options: dict[str, object], tmp_path: Path
) -> None:
    """Told by Pillow, and by ffmpeg."""
    Image.new("RGB", (12_000, 9_000)).save(tmp_path / f"1.{suffix}", **options)  # type: ignore[arg-type]
    with DecodeProcess(memory_bytes=1 << 28) as decoder:
        with pytest.raises(DecodeError, match=r"takes more than 0\.3 GB of memory; make it smaller$"):
            decoder.read_frames(tmp_path, [0], size=(8, 8))
        assert decoder.probe(build("mpeg4-b0-avi", tmp_path)).frames == 40

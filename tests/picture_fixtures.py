"""Folders of pictures that the tests write themselves, with the frames of `video_fixtures`.

In: a name of `FOLDERS` or `BROKEN_FOLDERS`, and a folder to write into. Out: a folder; what is true of it, as of a
video; or the words of the sentence that refuses it, which are its name. `build` writes the fixtures of both modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import video_fixtures
from PIL import Image
from video_fixtures import TURNED_BACK, Video, picture


def _pictures(
    suffix: str, *, mode: str = "RGB", orientation: int = 1, height: int = 64, width: int = 96, **options: object
) -> Callable[[Path], None]:
    return partial(
        _write_pictures, suffix=suffix, mode=mode, orientation=orientation, size=(height, width), options=options
    )


def _write_pictures(
    folder: Path, *, suffix: str, mode: str, orientation: int, size: tuple[int, int], options: dict[str, object]
) -> None:
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0110] = "Camera"  # some data there are in any case
    exif[0x0112] = orientation
    for number in _FOLDER_NUMBERS:
        image = Image.fromarray(picture(number, *size))
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif mode != "RGB":
            image = image.convert(mode)
        if orientation != 1:
            image = image.transpose(TURNED_BACK[orientation])
        image.save(folder / f"img_{number:05d}{suffix}", exif=exif, **options)  # type: ignore[arg-type]


def _beside_flow(folder: Path) -> None:
    """As MMAction2 keeps them: optical flow in the folder of the frames."""
    _pictures(".jpg", quality=95)(folder)
    for axis in "xy":
        for number in _FOLDER_NUMBERS[:-1]:
            Image.fromarray(picture(99)).save(folder / f"flow_{axis}_{number:05d}.jpg")


def _beside_a_decoy(folder: Path) -> None:
    """`folder` is a pattern to ffmpeg; the folder that it would find holds other frames."""
    _pictures(".jpg", quality=95)(folder)
    for number in _FOLDER_NUMBERS:
        decoy = Path(str(folder) % 0)
        decoy.mkdir(exist_ok=True)
        Image.fromarray(picture(99)).save(decoy / f"img_{number:05d}.jpg")


_FOLDER_NUMBERS = tuple(range(3, 15))


def _folder(make: Callable[[Path], None], size: tuple[int, int] = (64, 96), *, marked: bool = True) -> Video:
    return Video(make, "", _FOLDER_NUMBERS, size, marked)


FOLDERS: dict[str, Video] = {
    **{f"jpg-{i}": _folder(_pictures(".jpg", quality=95, orientation=i)) for i in range(1, 9)},
    **{f"png-{i}": _folder(_pictures(".png", orientation=i)) for i in range(1, 9)},
    **{f"tif-{i}": _folder(_pictures(".tif", orientation=i)) for i in (1, 3, 6, 7)},
    **{f"webp-{i}": _folder(_pictures(".webp", orientation=i, quality=95)) for i in (1, 8)},
    "jpg-odd": _folder(_pictures(".JPG", quality=95, height=63, width=97), (63, 97)),
    "jpg-odd-6": _folder(_pictures(".jpeg", quality=95, orientation=6, height=97, width=63), (97, 63)),
    "jpg-444-progressive": _folder(_pictures(".jpg", quality=95, subsampling=0, progressive=True)),
    "jpg-cmyk-3": _folder(_pictures(".jpg", mode="CMYK", quality=95, orientation=3)),
    "jpg-grey": _folder(_pictures(".jpg", mode="L", quality=95), marked=False),
    "png-grey-16-bit": _folder(_pictures(".png", mode="I;16"), marked=False),
    "png-palette": _folder(_pictures(".png", mode="P")),
    "png-alpha": _folder(_pictures(".png", mode="RGBA")),
    "bmp": _folder(_pictures(".bmp")),
    "jpg-beside-flow": _folder(_beside_flow),
    "jpg-w%d": _folder(_beside_a_decoy),
}


def _without(folder: Path, change: Callable[[Path], None]) -> None:
    _pictures(".jpg", quality=95)(folder)
    change(folder / "img_00007.jpg")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _cut_and_closed(path: Path) -> None:
    """As some programs save what they have: the end of the data is missing, the end of the file is not."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\xff\xd9")


def _no_picture(path: Path) -> None:
    path.write_text("These are not the frames you are looking for.\n" * 200)


def _of_another_size(path: Path) -> None:
    Image.fromarray(picture(7, 64, 98)).save(path)


def _exchanged(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


# Folders that are not whole, as `BROKEN`; the words of the sentence.
BROKEN_FOLDERS: dict[str, Callable[[Path], None]] = {
    "cut off": partial(_without, change=_cut),
    "is cut off": partial(_without, change=_cut_and_closed),
    "img_00007.jpg: is empty": partial(_without, change=lambda path: path.write_bytes(b"")),
    "img_00007.jpg: cannot be read as a picture": partial(_without, change=_no_picture),
    r"not of the size of the first frame \(got 98 x 64, expected 96 x 64\)": partial(_without, change=_of_another_size),
    "img_00007.jpg: is not a regular file .*pipe": partial(
        _without,
        change=partial(_exchanged, make=os.mkfifo),
    ),
    "not a regular file .*a device": partial(
        _without,
        change=partial(_exchanged, make=lambda path: path.symlink_to("/dev/zero")),
    ),
    "not a regular file .*a folder": partial(_without, change=partial(_exchanged, make=Path.mkdir)),
    "gap or a repeat": partial(_without, change=Path.unlink),
    "several series of pictures .*img_#, left_#": partial(
        _without,
        change=lambda path: Image.fromarray(picture(1)).save(path.with_name("left_00007.jpg")),
    ),
    "no pictures": Path.mkdir,
}


def build(name: str, folder: Path) -> Path:
    """The file or folder of the fixture `name`, written into `folder` unless it is there."""
    make = FOLDERS[name].make if name in FOLDERS else BROKEN_FOLDERS.get(name)
    if make is None:
        return video_fixtures.build(name, folder)
    path = folder / name.replace("\\", "")
    if not path.exists():
        make(path)
    return path


def write_frames_folder(folder: Path, numbers: Iterable[int], name: Callable[[int], str]) -> None:
    """A folder of JPEG pictures, one for each number; `name` gives the stem for a position."""
    folder.mkdir(parents=True)
    for i, number in enumerate(numbers):
        Image.fromarray(picture(number)).save(folder / f"{name(i)}.jpg", quality=95)

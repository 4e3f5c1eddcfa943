"""The clips of a user's folder: by folders of classes, or by the lines of a CSV.

In: the folder, and perhaps the CSV. Out: rows of names, not yet numbered, split or excluded, and the files that nobody
reads. No video and no pose file is opened. Names are compared in one Unicode form (NFC): a Mac writes another one.
"""

from __future__ import annotations

import csv as csv_module
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from pipeline.artifacts.kinds import type_of
from pipeline.datasets.walk import entries
from pipeline.decode.containers import VIDEO_SUFFIXES
from pipeline.decode.picture_folder import SUFFIXES as PICTURES
from pipeline.errors import DataError
from pipeline.skeletons.read import SUFFIXES

CSV_COLUMNS = ("path", "label", "subject", "split", "pose")
SIDES = ("train", "val", "test", "")

NamesByStem = Callable[[Path], dict[str, list[str]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderRow:
    """One clip: its name (path without suffix), class, subject and split as written ("" where absent), and its files.

    `video` and `pose` are paths below the root, with forward slashes; "" where there is none.
    """

    name: str
    label: str
    subject: str = ""
    side: str = ""
    video: str = ""
    pose: str = ""


def rows_of_folders(root: Path) -> tuple[list[FolderRow], list[str]]:
    """Rows of root/<class>/<video> and root/<class>/<subject>/<video>, with the pose of the same stem, if any.

    A folder of pictures is a video, a folder of .json files a pose, any other folder of a class a subject. Of several
    poses of one stem the first by the order of `SUFFIXES` is used, a folder last. Prepared folders, stores and runs are
    passed over.

    Returns: the rows; and the paths below `root`, a folder's with a "/" at its end, that no row uses.

    Raises DataError: two videos of one stem, or a folder that cannot be read.
    """
    rows: list[FolderRow] = []
    unread: list[str] = []
    for folder in entries(root):
        if not folder.is_dir():
            unread += [folder.name] if _role(folder) in ("video", "pose") else []  # a list or a note may well lie here
            continue
        if _role(folder) == "artifact":
            continue
        here = list(entries(folder.path))
        roles = {entry.name: _role(entry) for entry in here}
        rows += _rows(roles, folder.name, unread, label=folder.name)
        for subject in (entry for entry in here if roles[entry.name] == "folder"):
            where = f"{folder.name}/{subject.name}"
            inside = {entry.name: _role(entry) for entry in entries(subject.path)}
            rows += _rows(inside, where, unread, label=folder.name, subject=subject.name)
            unread += [f"{where}/{name}/" for name, role in inside.items() if role == "folder"]
    return rows, unread


def _role(entry: os.DirEntry[str]) -> str:
    """The role of an entry: "video", "pose", "folder" (of neither), "artifact" (made from such data), or "" for another
    file."""
    if entry.is_dir() and type_of(Path(entry.path)) is not None:
        return "artifact"
    if not entry.is_dir():
        suffix = PurePosixPath(entry.name).suffix.lower()
        return "pose" if suffix in SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else ""
    suffixes = {PurePosixPath(file.name).suffix.lower() for file in entries(entry.path) if not file.is_dir()}
    if suffixes & VIDEO_SUFFIXES:
        return "folder"
    return "video" if suffixes & PICTURES else "pose" if ".json" in suffixes else "folder"


def _rows(
    roles: dict[str, str], where: str, unread: list[str], *, label: str, subject: str = ""
) -> Iterator[FolderRow]:
    videos: dict[str, str] = {}
    poses: dict[str, str] = {}
    for name in sorted(roles, key=_pose_order):
        stem = normalize("NFC", _stem(name))
        if roles[name] == "video":
            if stem in videos:
                problem = "has the stem of another video"
                raise DataError(f"{where}/{name}", problem, got=videos[stem], remedy="rename one")
            videos[stem] = name
        elif roles[name] == "pose" and stem not in poses:
            poses[stem] = name
        elif roles[name] not in ("folder", "artifact"):
            unread.append(f"{where}/{name}")
    for stem, name in videos.items():  # some tools write walk.mp4.json for walk.mp4
        if stem not in poses and normalize("NFC", name) in poses:
            poses[stem] = poses.pop(normalize("NFC", name))
    for stem in sorted(videos.keys() | poses.keys()):
        video, pose = (f"{where}/{found[stem]}" if stem in found else "" for found in (videos, poses))
        name = normalize("NFC", f"{where}/{stem}")
        names = {"label": normalize("NFC", label), "subject": normalize("NFC", subject)}
        yield FolderRow(name=name, video=video, pose=pose, **names)


def _stem(name: str) -> str:
    """A file's name without the suffix of a video or pose; that of a folder is all of it."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in {*SUFFIXES, *VIDEO_SUFFIXES} else name


def _pose_order(name: str) -> tuple[int, str]:
    suffix = PurePosixPath(name).suffix.lower()
    return (SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)), name


def rows_of_csv(root: Path, csv: Path) -> list[FolderRow]:
    """Rows of a CSV with a header: path and label, and optionally subject, split (train, val, test or empty) and pose.

    A pose that is not named is searched beside the video, as in `rows_of_folders`. A path that Windows wrote is read
    too. Where no file is there, the row's `video` or `pose` is "".

    Raises:
        DataError: the file cannot be read, lacks a column, or has a line (it is named) without a path or label, with
            another side, with a path outside the root, or of a clip that another line has.
    """
    try:
        with open(csv, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            # spreadsheets of some countries write semicolons
            reader = csv_module.DictReader(file, delimiter=next((one for one in ",;\t" if one in first), ","))
            reader.fieldnames = head = [name.strip() for name in reader.fieldnames or []]
            lines = [(reader.line_num, line) for line in reader if any(line.values())]
    except FileNotFoundError as error:
        raise DataError(
            csv, "does not exist", remedy="name the CSV by its path from here, or its whole path"
        ) from error
    except (OSError, UnicodeDecodeError, csv_module.Error) as error:
        raise DataError(csv, "cannot be read as a CSV", got=error, remedy="save it as comma-separated UTF-8") from error
    if not {"path", "label"} <= {*head} <= {*CSV_COLUMNS}:
        expected = f"path,label and perhaps {','.join(CSV_COLUMNS[2:])}"
        raise DataError(csv, "has a wrong or missing header", got=head, expected=expected, remedy="use this header")
    rows: dict[str, FolderRow] = {}
    beside = cache(_names_by_stem)  # many lines name files of one folder
    for number, line in lines:
        where = f"{csv}, line {number}"
        if None in line:
            raise DataError(where, "has more fields than the header", expected=len(head))
        row = _row_of_line(root, where, {name: (text or "").strip() for name, text in line.items()}, beside)
        if row.name in rows:
            raise DataError(where, "repeats a clip", got=row.name, remedy="remove one of the lines")
        rows[row.name] = row
    return list(rows.values())


def _row_of_line(root: Path, where: str, line: dict[str, str], beside: NamesByStem) -> FolderRow:
    path, label, side = line["path"], line["label"], line.get("split", "")
    if not path or not label or side not in SIDES:
        got = f"path {path!r}, label {label!r}, split {side!r}"
        expected = "a path and a label, split train, val, test or none"
        raise DataError(where, "is not a valid row", got=got, expected=expected)
    found, named = _existing(root, path, where), line.get("pose", "")
    clean = str(PurePosixPath(found or _forward(path)))
    pose = _existing(root, named, where) if named else _pose_beside(root, clean, beside)
    name = clean.removesuffix(PurePosixPath(clean).name) + _stem(PurePosixPath(clean).name)
    return FolderRow(
        name=normalize("NFC", name),
        label=normalize("NFC", label),
        subject=normalize("NFC", line.get("subject", "")),
        side=side,
        video=clean if found else "",
        pose=pose,
    )


def _forward(path: str) -> str:
    return path.replace("\\", "/")


def _existing(root: Path, path: str, where: str) -> str:
    """The path below `root` that exists: as written, with forward slashes, or in another Unicode form; or ""."""
    for spelled in (path, _forward(path)):
        for form in (spelled, normalize("NFC", spelled), normalize("NFD", spelled)):
            parts = PurePosixPath(form)
            if parts.is_absolute() or _forward(path)[1:2] == ":":
                raise DataError(where, "names an absolute path", got=path, expected="a path below the root")
            if ".." in parts.parts:
                raise DataError(where, "points outside the root", got=path, expected="a path below it, forward slashes")
            if (root / form).exists():
                return str(parts)
    return ""


def _pose_beside(root: Path, video: str, beside: NamesByStem) -> str:
    """The pose of the same stem, whatever the Unicode form of its name; a folder last."""
    folder, name = PurePosixPath(video).parent, PurePosixPath(video).name
    names = [other for other in beside(root / folder).get(normalize("NFC", _stem(name)), []) if other != name]
    names += beside(root / folder).get(normalize("NFC", name), [])  # some tools write walk.mp4.json for walk.mp4
    poses = [n for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES or (root / folder / n).is_dir()]
    return str(folder / poses[0]) if poses else ""


def _names_by_stem(folder: Path) -> dict[str, list[str]]:
    """The names in a folder, poses in their order, by stem."""
    found: dict[str, list[str]] = {}
    for name in sorted((entry.name for entry in entries(folder)) if folder.is_dir() else (), key=_pose_order):
        found.setdefault(normalize("NFC", _stem(name)), []).append(name)
    return found

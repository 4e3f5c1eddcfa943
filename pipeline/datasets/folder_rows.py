"""The clips of a user's folder: by folders of classes, or by the lines of a CSV.

In: the folder, and perhaps the CSV. Out: rows of names, not yet numbered, split or excluded. No video and no pose file
is opened.
"""

from __future__ import annotations

import csv as csv_module
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.datasets.walk import entries
from pipeline.errors import DataError
from pipeline.skeletons.read import SUFFIXES

VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
CSV_COLUMNS = ("path", "label", "subject", "split", "pose")


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


def rows_of_folders(root: Path) -> list[FolderRow]:
    """Rows of root/<class>/<video> and root/<class>/<subject>/<video>, with the pose of the same stem, if any.

    A folder of pictures is a video, a folder of .json files a pose, any other folder of a class a subject. Of several
    poses of one stem the first by the order of `SUFFIXES` is used, a folder last.

    Raises DataError: two videos of one stem, or a folder that cannot be read.
    """
    rows: list[FolderRow] = []
    for folder in entries(root):
        if not folder.is_dir():
            continue
        here = list(entries(folder.path))
        roles = {entry.name: _role(entry) for entry in here}
        rows += _rows(roles, folder.name, label=folder.name)
        for subject in (entry for entry in here if roles[entry.name] == "folder"):
            inside = {entry.name: _role(entry) for entry in entries(subject.path)}
            rows += _rows(inside, f"{folder.name}/{subject.name}", label=folder.name, subject=subject.name)
    return rows


def _role(entry: os.DirEntry[str]) -> str:
    """The role of an entry: "video", "pose", "folder" (of neither), or "" for another file."""
    if not entry.is_dir():
        suffix = PurePosixPath(entry.name).suffix.lower()
        return "video" if suffix in VIDEOS else "pose" if suffix in SUFFIXES else ""
    suffixes = {PurePosixPath(file.name).suffix.lower() for file in entries(entry.path) if not file.is_dir()}
    if suffixes & {*VIDEOS}:
        return "folder"
    return "video" if suffixes & {*PICTURES} else "pose" if ".json" in suffixes else "folder"


def _rows(roles: dict[str, str], where: str, *, label: str, subject: str = "") -> Iterator[FolderRow]:
    videos: dict[str, str] = {}
    poses: dict[str, str] = {}
    for name in sorted(roles, key=_pose_order):
        stem = PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in VIDEOS + SUFFIXES else name
        if roles[name] == "video":
            if stem in videos:
                problem = "has the stem of another video"
                raise DataError(f"{where}/{name}", problem, got=videos[stem], remedy="rename one")
            videos[stem] = name
        elif roles[name] == "pose":
            poses.setdefault(stem, name)
    for stem in sorted(videos.keys() | poses.keys()):
        video, pose = (f"{where}/{found[stem]}" if stem in found else "" for found in (videos, poses))
        yield FolderRow(name=f"{where}/{stem}", label=label, subject=subject, video=video, pose=pose)


def _pose_order(name: str) -> tuple[int, str]:
    suffix = PurePosixPath(name).suffix.lower()
    return (SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)), name


def rows_of_csv(root: Path, csv: Path) -> list[FolderRow]:
    """Rows of a CSV with a header: path and label, and optionally subject, split (train, test or empty) and pose.

    A pose that is not named is searched beside the video, as in `rows_of_folders`.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a line (it is named) without a path or label, with
            another side, with a path outside the root, or of a clip that another line has.
    """
    try:
        with open(csv, newline="", encoding="utf-8-sig") as file:
            reader = csv_module.DictReader(file)
            head, lines = list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, csv_module.Error) as error:
        raise DataError(csv, "cannot be read as a CSV", got=error, remedy="save it as comma-separated UTF-8") from error
    if not {"path", "label"} <= {*head} <= {*CSV_COLUMNS}:
        expected = f"path,label and perhaps {','.join(CSV_COLUMNS[2:])}"
        raise DataError(csv, "has a wrong or missing header", got=head, expected=expected, remedy="use this header")
    rows: dict[str, FolderRow] = {}
    for number, line in enumerate(lines, start=2):
        if None in line:
            raise DataError(f"{csv}, line {number}", "has more fields than the header", expected=len(head))
        row = _row_of_line(root, f"{csv}, line {number}", {name: (text or "").strip() for name, text in line.items()})
        if row.name in rows:
            raise DataError(f"{csv}, line {number}", "repeats a clip", got=row.name, remedy="remove one of the lines")
        rows[row.name] = row
    return list(rows.values())


def _row_of_line(root: Path, where: str, line: dict[str, str]) -> FolderRow:
    path, label, side = line["path"], line["label"], line.get("split", "")
    if not path or not label or side not in ("train", "test", ""):
        got = f"path {path!r}, label {label!r}, split {side!r}"
        raise DataError(where, "is not a valid row", got=got, expected="a path and a label, split train, test or none")
    for below in (path, line.get("pose", "")):
        if PurePosixPath(below).is_absolute() or ".." in PurePosixPath(below).parts:
            raise DataError(where, "points outside the root", got=below, expected="a path below it, forward slashes")
    clean = PurePosixPath(path)
    name = str(clean.with_suffix("") if clean.suffix.lower() in VIDEOS else clean)
    pose = line.get("pose", "")
    beside = [f"{name}{suffix}" for suffix in SUFFIXES if (root / f"{name}{suffix}").is_file()]
    if clean.suffix and (root / name).is_dir():
        beside.append(name)
    pose = (pose if (root / pose).exists() else "") if pose else next(iter(beside), "")
    video = str(clean) if (root / clean).exists() else ""
    return FolderRow(name=name, label=label, subject=line.get("subject", ""), side=side, video=video, pose=pose)

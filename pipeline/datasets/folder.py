"""A user's own data: videos in one folder a class, or listed in a CSV, with pose files beside them -> records.

    root/<class>/<video>              walk.mp4, or a folder walk/ of numbered pictures
    root/<class>/<subject>/<video>    the same, where the subjects are known
    beside it, of the same stem       walk.skeleton, walk.mat, walk.npz, walk.json, or a folder walk/ of JSON files

    path,label,subject,split,pose     a CSV instead: path and pose below root; the last three are optional

Out: a Listing whose records name their split: train, val or test. Some pose files are opened, in a child process,
for the topology.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.child.process import ChildProcess
from pipeline.datasets.folder_rows import FolderRow, rows_of_csv, rows_of_folders
from pipeline.datasets.walk import require_folder
from pipeline.errors import DataError, SkeletonError
from pipeline.manifest import TOPOLOGIES, protocols
from pipeline.records import UNKNOWN, Listing, VideoRecord, evenly_spread, keyed_rng
from pipeline.skeletons.read import SUFFIXES

TEST_SHARE = 0.3
POSES_ASKED = 15  # pose files that are opened for the topology


def listing(root: Path, *, csv: Path | None = None, seed: int = 0) -> Listing:
    """All clips of a folder, sorted by name; one without its video or its pose is missing.

    Classes are numbered by name, in order of numbers where all names are numbers; subjects likewise, from 1, unless
    they are numbers themselves. The splits are the CSV's, if it has any. Otherwise they are drawn from the seed: where
    every clip has a subject, and there are two or more, 0.3 of the subjects test and the others train; otherwise 0.3 of
    the clips of each class. A clip's split depends neither on the names of classes nor on any order.

    `csv` lists the clips; without it, each folder below `root` is a class.

    Raises:
        DataError: the folder or CSV is missing, holds no clip, or is invalid (the error names the line).
        SkeletonError: no pose file can be read, so that the topology is unknown.
    """
    root = Path(root)
    require_folder(root, what="<class>/<video>")
    found, unread = rows_of_folders(root) if csv is None else (rows_of_csv(root, csv), [])
    rows = sorted(found, key=lambda row: row.name)
    if not any(row.video for row in rows):
        remedy = "put each video into a folder named after its class, its pose file beside it" if csv is None else ""
        got = f"{len(rows)} clips" + (f"; {_counted(unread)}" if unread else "")
        raise DataError(csv or root, "lists no existing video", got=got, remedy=remedy or None)
    for row, following in itertools.pairwise(rows):
        if row.name == following.name:
            raise DataError(root / row.name, "is the name of two clips", remedy="rename one")
    names = _ordered({row.label for row in rows})
    subjects = _subject_numbers({row.subject for row in rows} - {""})
    sides = {row.name: row.side for row in rows}
    if not any(sides.values()):
        sides = _drawn_sides(rows, seed)
    records = tuple(
        VideoRecord(
            clip_id=row.name,
            key=_key(row),
            label=names.index(row.label),
            subject=subjects.get(row.subject, UNKNOWN),
            split=sides.get(row.name, ""),
            video=row.video,
            skeleton=row.pose,
            missing="no video file" if not row.video else "" if row.pose else "no pose file",
        )
        for row in rows
    )
    topology, guess = _topology(root, [record.skeleton for record in records if record.usable], unread)
    return Listing(
        dataset="folder",
        class_names=names,
        topology=topology,
        protocols=protocols("folder"),
        records=records,
        roots={"videos": os.path.abspath(root), "skeletons": os.path.abspath(root)},
        notes=tuple(filter(None, (guess, f"not read: {_counted(unread)}" if unread else ""))),
    )


def _key(row: FolderRow) -> str:
    """The name without the folder of its class, so that nothing keyed by it can depend on the class."""
    first, _, rest = row.name.partition("/")
    return rest if first == row.label and rest else row.name


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Names in order, numbers by size where all are numbers."""
    names = sorted(names)
    return tuple(sorted(names, key=int) if all(map(_is_number, names)) else names)


def _is_number(name: str) -> bool:
    """Whether a name is a number that a store's columns hold."""
    return name.isdecimal() and len(name) < 10


def _subject_numbers(names: set[str]) -> dict[str, int]:
    """A number for each subject: its own, where all names are different numbers; else 1, 2, … by name."""
    ordered = _ordered(names)
    if all(map(_is_number, ordered)) and len({int(name) for name in ordered}) == len(ordered):
        return {name: int(name) for name in ordered}
    return {name: number for number, name in enumerate(ordered, start=1)}


def _drawn_sides(rows: list[FolderRow], seed: int) -> dict[str, str]:
    """By clip name "train" or "test", drawn by subject where all are known, otherwise by clip within each class."""
    subjects = {row.subject for row in rows}
    if "" not in subjects and len(subjects) > 1:
        testing = _drawn(subjects, seed)
        return {row.name: "test" if row.subject in testing else "train" for row in rows}
    sides: dict[str, str] = {}
    for label in {row.label for row in rows}:
        own = {_key(row): row.name for row in rows if row.label == label}
        testing = _drawn(set(own), seed)
        sides |= {name: "test" if key in testing else "train" for key, name in own.items()}
    return sides


def _drawn(keys: set[str], seed: int) -> set[str]:
    """`TEST_SHARE` of the keys, of two or more at least one and never all: those with the lowest draws."""
    count = min(max(round(TEST_SHARE * len(keys)), 1), len(keys) - 1)
    draws = {key: keyed_rng(seed, key, "side").random() for key in keys}
    return set(sorted(keys, key=lambda key: (draws[key], key))[:count])


def _counted(unread: list[str]) -> str:
    """Files by suffix, with an example each: "48 .txt (walk/v0/v0_1.txt, …)"."""
    by_kind: dict[str, list[str]] = {}
    for path in unread:
        kind = "folders" if path.endswith("/") else PurePosixPath(path).suffix.lower() or "files without a suffix"
        by_kind.setdefault(kind, []).append(path)
    return ", ".join(
        f"{len(paths)} {kind} ({paths[0]}{', …' if len(paths) > 1 else ''})" for kind, paths in sorted(by_kind.items())
    )


def _topology(root: Path, poses: list[str], unread: list[str]) -> tuple[str, str]:
    """The topology of most of some poses, so that a stray one decides nothing; and a note where their number of joints
    alone tells it."""
    spread = evenly_spread(len(poses), POSES_ASKED).tolist()
    others = sorted({*range(len(poses))} - {*spread})  # in case none of those can be read
    votes, example, errors = Counter[str](), dict[str, str](), list[DataError]()
    with ChildProcess() as child:
        for row in itertools.chain(spread, others):
            if votes and row not in spread:
                break
            try:
                name: str = child.call("pipeline.skeletons.read:topology_of", path=root / poses[row])
            except DataError as error:
                errors.append(error)
                continue
            if name in TOPOLOGIES:
                votes[name] += 1
                example.setdefault(name, poses[row])
            else:
                problem, expected = "names an unknown topology", " | ".join(TOPOLOGIES)
                errors.insert(0, SkeletonError(root / poses[row], problem, got=name, expected=expected))
        for name, _ in votes.most_common(1):
            stated = child.call("pipeline.skeletons.read:states_topology", path=root / example[name])
            told = f"the joints are taken for those of {name}, by their number alone; an .npz can name its `topology`"
            return name, "" if stated else told
    if errors:
        raise errors[0]
    raise DataError(
        root,
        "holds no video that has a pose file",
        got=f"files that are not read: {_counted(unread)}" if unread else None,
        expected=f"poses as {' '.join(SUFFIXES)}, or a folder of OpenPose's .json files",
        remedy="put a pose file of the same stem beside each video",
    )

"""Penn Action: frames/0001/000001.jpg … and labels/0001.mat -> records.

In: the folder that holds `frames` and `labels`. Out: a Listing, one row an id, with the class and split of its label.
The labels are opened, in a child process, since only they name the class; the pictures are not.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from pipeline.child.process import ChildProcess
from pipeline.datasets.walk import entries, require_folder
from pipeline.errors import DataError, SkeletonError
from pipeline.manifest import class_names, protocols
from pipeline.records import UNKNOWN, Listing, VideoRecord

_ID = re.compile("[0-9]{4}")


def listing(root: Path) -> Listing:
    """All videos with frames or a label, sorted by id.

    An id without a folder of frames or without a label is missing. Where the label is absent, unreadable or of an
    unknown class, the row's label is -1: such a row fails when it is prepared.

    Raises DataError: one of the folders is missing, there are no frames, or no label can be used.
    """
    frames, labels = Path(root) / "frames", Path(root) / "labels"
    require_folder(frames, what="frames 0001/000001.jpg")
    require_folder(labels, what="labels 0001.mat")
    videos = {entry.name for entry in entries(frames) if _ID.fullmatch(entry.name) and entry.is_dir()}
    poses = {entry.name[:-4] for entry in entries(labels) if re.fullmatch(rf"{_ID.pattern}\.mat", entry.name)}
    with ChildProcess() as child:
        records = tuple(
            _record(name, labels, child, video=name in videos, pose=name in poses) for name in sorted(videos | poses)
        )
    if not videos or all(record.label == UNKNOWN for record in records):
        got = f"{len(videos)} folders of frames, {len(poses)} labels"
        raise DataError(root, "holds no frames, or no label that can be read", got=got, remedy="check the path")
    return Listing(
        dataset="penn-action",
        class_names=class_names("penn-action"),
        topology="penn13",
        protocols=protocols("penn-action"),
        records=records,
        roots={"videos": os.path.abspath(frames), "skeletons": os.path.abspath(labels)},
    )


def _record(name: str, labels: Path, child: ChildProcess, *, video: bool, pose: bool) -> VideoRecord:
    """One row. Its key is its id, which does not name the class."""
    action, side = "", ""
    with suppress(SkeletonError):  # it is told when the row is prepared
        if pose:
            action, train = child.call("pipeline.skeletons.mat:read_penn_facts", path=str(labels / f"{name}.mat"))
            side = "train" if train else "test"
    known = action in class_names("penn-action")
    return VideoRecord(
        clip_id=name,
        key=name,
        label=class_names("penn-action").index(action) if known else UNKNOWN,
        split=side,
        video=name if video else "",
        skeleton=f"{name}.mat" if pose else "",
        missing="" if pose and video else "no folder of frames" if pose else "no label file",
    )

"""NTU RGB+D 60 and 120, and data in their layout: file names -> records.

In: a folder of videos `SsssCcccPpppRrrrAaaa_rgb.avi` and one of skeletons `SsssCcccPpppRrrrAaaa.skeleton`, either of
them nested as in its archives (nturgbd_rgb_s001/...). Out: a Listing, one row a name. No file is opened.

Files outside the data set are ignored: names of another form, and actions and setups beyond its own, so that a folder
with all of NTU RGB+D 120 lists as ntu60 exactly as the smaller archives do.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.datasets.walk import files_below, require_folder
from pipeline.decode.containers import VIDEO_SUFFIXES
from pipeline.errors import DataError
from pipeline.manifest import class_names, missing, protocols
from pipeline.records import Listing, VideoRecord

_NAME = re.compile(r"(S([0-9]{3})C([0-9]{3})P([0-9]{3})R([0-9]{3}))A([0-9]{3})")
_VIDEO = re.compile(rf"({_NAME.pattern})_rgb(\.\w+)", re.IGNORECASE)
_SKELETON = re.compile(rf"({_NAME.pattern})(\.skeleton)", re.IGNORECASE)
_LAST_SETUP = {"ntu60": 17, "ntu120": 32, "synthetic": 999}


def record_from_name(name: str) -> VideoRecord:
    """The record of a name like S001C002P003R002A013: setup, camera, performer (subject), replication, action.

    The key is the name without its action field, "S001C002P003R002": the clips of one performer, camera and
    replication share it on purpose, so that nothing keyed by it can depend on the label.

    Raises DataError: the name has another form, or a field that is 000.
    """
    match = _NAME.fullmatch(name)
    if match is None or "000" in match.groups()[1:]:
        raise DataError(name, "is not an NTU clip name", expected="SsssCcccPpppRrrrAaaa, each field 001 to 999")
    key, setup, camera, subject, replication, action = match.groups()
    return VideoRecord(
        clip_id=name,
        key=key,
        label=int(action) - 1,
        subject=int(subject),
        camera=int(camera),
        setup=int(setup),
        replication=int(replication),
    )


def listing(videos: Path, skeletons: Path, *, dataset: str, exclude_missing: bool = True) -> Listing:
    """All clips with a video or a skeleton, sorted by name.

    A row on the data set's list of missing skeletons is excluded (unless `exclude_missing` is false); one without its
    video or skeleton is missing. Of several files of one name, the one in the fewest folders, then the first by path,
    is used.

    Args:
        videos: folder of `<name>_rgb.avi` (or another suffix of videos).
        skeletons: folder of `<name>.skeleton`; may be the same one.
        dataset: "ntu60", "ntu120" or "synthetic".

    Raises:
        DataError: a folder is missing, empty, or holds no clip of the data set.
        ConfigError: an unknown data set.
    """
    names = class_names(dataset)
    spare: list[str] = []
    find = partial(_find, spare, dataset=dataset, classes=len(names))
    video_paths = find(videos, _VIDEO, what="videos <name>_rgb.avi")
    pose_paths = find(skeletons, _SKELETON, what="skeletons <name>.skeleton")
    unusable = missing(dataset) if exclude_missing else frozenset()
    records = []
    for name in sorted(video_paths.keys() | pose_paths.keys()):
        video, skeleton = video_paths.get(name, ""), pose_paths.get(name, "")
        excluded = "on the data set's list of missing skeletons" if name in unusable else ""
        missing_file = "" if excluded else "no skeleton file" if not skeleton else "" if video else "no video file"
        known = record_from_name(name)
        records.append(replace(known, video=video, skeleton=skeleton, excluded=excluded, missing=missing_file))
    return Listing(
        dataset=dataset,
        class_names=names,
        topology="ntu25",
        protocols=protocols(dataset),
        records=tuple(records),
        roots={"videos": os.path.abspath(videos), "skeletons": os.path.abspath(skeletons)},
        notes=(f"not used: {len(spare)} more files of the same clips ({spare[0]}, …)",) if spare else (),
    )


def _find(
    spare: list[str], root: Path, pattern: re.Pattern[str], *, dataset: str, classes: int, what: str
) -> dict[str, str]:
    """The files of the data set below a folder: name -> path relative to it, with forward slashes. Further files of the
    same names are added to `spare`."""
    require_folder(root, what=what)
    found: dict[str, str] = {}
    others = 0
    for path in sorted(files_below(root), key=lambda path: (path.count("/"), path)):
        match = pattern.fullmatch(path.rpartition("/")[2])
        if match is None or (pattern is _VIDEO and os.path.splitext(path)[1].lower() not in VIDEO_SUFFIXES):
            others += 1
            continue
        name, setup, action = match.group(1).upper(), int(match.group(3)), int(match.group(7))
        if 0 < setup <= _LAST_SETUP[dataset] and 0 < action <= classes and "000" not in name:
            if found.setdefault(name, path) != path:
                spare.append(path)
        else:
            others += 1
    if not found:
        got = f"{others} other files" if others else "an empty folder"
        raise DataError(root, f"holds no {what} of {dataset}", got=got, remedy="check the path and the data set's name")
    return found

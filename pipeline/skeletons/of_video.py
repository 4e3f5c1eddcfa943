"""The persons of a video: a pose file and the video it belongs to -> the Skeleton of its actors.

In: a path, and the video's frames and size. Out: at most a few persons, axes (M, T, V, ...), T the video's frames, in
its pixels, and the facts of how the file was understood. Numbers whose meaning is not known, or that make no sense in
this video, are refused. Only the persons chosen become arrays over all frames.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SkeletonError
from pipeline.skeletons.assemble import Rows, rows_by_body, skeleton_of_rows
from pipeline.skeletons.person_choice import Body, body_of, ranked
from pipeline.skeletons.pose_file import PoseFile
from pipeline.skeletons.read import on_frames, read_pose_file
from pipeline.skeletons.skeleton import Skeleton
from pipeline.skeletons.tracking import track_people
from pipeline.skeletons.units import SMALLEST, in_pixels

_MOST_BODIES = 1000  # that are looked at, those in most frames; the others are counted as left out
_IN_PICTURE = 0.98  # the share of joints in a picture that they are of, at least: a few reach beyond its edge
_APART = "prepare videos whose skeletons differ apart from each other"


def persons_of_video(
    path: str | Path,
    *,
    frames: int,
    height: int,
    width: int,
    num_joints: int,
    first_frame: int | None = None,
    min_score: float = 0.0,
    persons_by: str = "motion",
    max_persons: int = 2,
    topology: str = "",
    turned: bool = False,
    pictures: str | None = None,
    first_picture: int | None = None,
) -> tuple[Skeleton, dict[str, Any]]:
    """The persons in a pose file of any known format, frame by frame of its video.

    Args:
        frames, height, width: of the video.
        num_joints: V, which the file must have.
        first_frame: the number that the file gives to the video's first frame, 0 or 1, where the file does not tell.
        min_score: joints of a lower score are absent.
        persons_by, max_persons: the choice, as `person_choice.ranked` explains it.
        topology: the topology that the file must have, if it or its format states one: 25 joints are not always NTU's.
        turned: the video is shown turned by a quarter, as the file asks; some pose tools see it unturned.
        pictures, first_picture: the folder, and the number in its first picture's name, where the video is a folder of
            pictures: a file that names those pictures counts as they do.

    Returns:
        The Skeleton (M, T, V, ...), M at most `max_persons` and 0 where no joint is to be used in any frame, T the
        video's `frames`, in pixels of the video; and the facts, which JSON holds: "pose_frames", the number of frames
        that the file covers; "outside", the share of used joints outside the picture; "first_pose", "last_pose", the
        first and the last frame with a person, None if there is none; "frames_without_pose"; "bodies", those found, and
        "bodies_left_out" of them; "units", as in `units`; "first_frame", the number of the first frame in the file;
        "topology", if the format or file states it, or "".

    Raises:
        SkeletonError: the file cannot be read, has another number of joints or of frames or another topology, places or
            frames whose meaning is not known, no body of 8 pixels or more, or fewer than half of the used joints in the
            picture.
        ConfigError: an argument is out of its range.
    """
    if first_frame not in (None, 0, 1):
        raise ConfigError("first_frame", "is out of range", got=first_frame, expected="0 or 1")
    if not 0 <= min_score <= 1:
        raise ConfigError("min_score", "is out of range", got=min_score, expected="a number from 0 to 1")
    poses = read_pose_file(path)
    if poses.num_joints not in (num_joints, 0):
        raise SkeletonError(
            path, "has the wrong number of joints", got=poses.num_joints, expected=num_joints, remedy=_APART
        )
    if topology and poses.topology not in (topology, ""):
        raise SkeletonError(path, "has another topology", got=poses.topology, expected=topology, remedy=_APART)
    if not _names_pictures(poses, pictures):
        first_picture = None
    poses, covered, first = on_frames(path, poses, frames=frames, first_frame=first_frame, first_picture=first_picture)
    poses = replace(poses, values=_used(path, poses.values, min_score).reshape(-1, num_joints, 3))
    values, units = in_pixels(path, poses.values, stated=poses.picture, size=(height, width))
    poses = replace(poses, values=values)
    named = track_people(path, poses.frames, values) if poses.bodies is None else poses.bodies
    named = np.where((values[..., 2] > 0).any(axis=1), named, -1)
    rows, bodies = rows_by_body(named, poses.frames, most=_MOST_BODIES)
    chosen = _choice(path, poses, named, rows, by=persons_by, most=max_persons, size=(height, width))
    persons = skeleton_of_rows(poses, named, chosen, frames)
    outside = _share_outside(path, persons, height, width, turned=turned and units.startswith("pixels"))
    there = np.flatnonzero((persons.scores > 0).any(axis=(0, 2)))
    return persons, {
        "pose_frames": covered,
        "outside": round(outside, 3),
        "first_pose": int(there[0]) if there.size else None,
        "last_pose": int(there[-1]) if there.size else None,
        "frames_without_pose": frames - there.size,
        "bodies": bodies,
        "bodies_left_out": bodies - len(chosen),
        "units": units,
        "first_frame": first,
        "topology": poses.topology,
    }


def _names_pictures(poses: PoseFile, pictures: str | None) -> bool:
    """Whether the first picture that the file names lies in a folder."""
    if not (pictures and poses.first_name):
        return False
    return any(picture.stem == poses.first_name for picture in Path(pictures).iterdir())


def _used(path: str | Path, values: NDArray[np.float32], min_score: float) -> NDArray[np.float32]:
    """Values (B, V, 3) with score 0 for joints that are not to be used. SkeletonError where `min_score` leaves none."""
    scores = values[..., 2]
    found = np.isfinite(values).all(axis=-1) & (scores > 0)
    used = found & (scores >= np.float32(min_score))
    if found.any() and not used.any():
        got = f"{float(scores[found].max()):.3g} at most"
        raise SkeletonError(path, f"has no joint scored {min_score:g} or more", got=got, remedy="lower `min_score`")
    return np.concatenate([values[..., :2], np.where(used, scores, 0)[..., None]], axis=-1)


def _choice(
    path: str | Path,
    poses: PoseFile,
    named: NDArray[np.int64],
    rows: list[Rows],
    *,
    by: str,
    most: int,
    size: tuple[int, int],
) -> list[Rows]:
    """The rows of the persons, the first person first, of bodies of at least `SMALLEST` pixels."""
    bodies: list[Body] = []
    for own in rows:
        values = poses.values[own]
        bodies.append(body_of(int(named[own[0]]), values[..., :2], np.minimum(values[..., 2], 1)))
    kept = [slot for slot, body in enumerate(bodies) if body.size >= SMALLEST]
    if bodies and not kept:
        got = f"one of {max(body.size for body in bodies):.1f} pixels in a picture of {size[1]} x {size[0]}"
        remedy = "check that the places are pixels of this video, or shares of its picture"
        raise SkeletonError(
            path, "holds no body that is large enough", got=got, expected=f"{SMALLEST:g} pixels", remedy=remedy
        )
    order = ranked([bodies[slot] for slot in kept], by=by, most=most)
    return [rows[kept[index]] for index in order]


def _share_outside(path: str | Path, persons: Skeleton, height: int, width: int, *, turned: bool) -> float:
    """The share of used joints outside the picture.

    SkeletonError where it is more than half, or where a video that is shown `turned` holds them all unturned.
    """
    used = persons.joints[persons.scores > 0]  # (n, 2)
    if not len(used):
        return 0.0

    def inside(width: int, height: int) -> float:
        return float(((used >= -0.5) & (used <= [width - 0.5, height - 0.5])).all(axis=1).mean())

    share = inside(width, height)
    if turned and share < _IN_PICTURE <= inside(height, width):
        got, expected = f"joints in {height} x {width}", f"{width} x {height}, as it is shown"
        remedy = "make the poses from a copy of the video whose pixels are turned, and prepare that copy"
        raise SkeletonError(path, "is of the video before it is turned", got=got, expected=expected, remedy=remedy)
    if share < 0.5:
        problem = f"of {len(used)} joints only {share:.0%} lie in the picture ({width} x {height})"
        remedy = "the poses are of another video, or of a copy of another size: use those of this video"
        raise SkeletonError(path, problem, remedy=remedy)
    return 1 - share

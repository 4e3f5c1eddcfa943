"""What a pose file says, before any of it is taken to mean something: detections, and how it counts its frames.

In: the detections of a reader. Out: `PoseFile`, the same for every format. B detections, each one person in one frame,
V joints. Memory grows with the detections, never with persons times frames. Units, frame numbers and identity are given
their meaning in `units`, `frame_numbers` and `of_video`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError
from pipeline.skeletons.files import OWN_FORM, shown

Size = tuple[int, int]  # (height, width) in pixels
Listing = Literal["array", "folder", "list"]


class Detection(NamedTuple):
    """One person in one frame: the file's own frame number, the body ID or track if it has one, (V, 3) x, y, score."""

    frame: int
    body: int | None
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PoseFile:
    """The content of a pose file.

    Attributes:
        frames: (B,) int64, the file's own frame number of each detection.
        values: (B, V, 3) float32: x, y, score, in the file's own units; score 0 or NaN where not found.
        bodies: (B,) int64, the body ID or track of each detection; None where the file names no persons.
        xyz: (B, V, 3) float32 metres, or None.
        listing: how the file counts frames. "array": by index, every frame from 0 to `length` - 1. "folder": a file for
            each frame, whoever is in it, under its number. "list": numbers, of which frames without people may be left
            out, so that it has no length of its own.
        numbers: (n,) int64, the frame numbers of a folder or list, sorted; they include frames without people.
        length: the number of frames that the file claims; 0 if it claims none.
        first_name: the name that the file gives to the picture of its lowest number, without suffix; or "".
        base: the number that the format gives to the first frame, if it gives one.
        picture: the size of the picture whose pixels these are, if the file or format states it.
        topology: the topology that the file or format states, or "".
    """

    frames: NDArray[np.int64]
    values: NDArray[np.float32]
    bodies: NDArray[np.int64] | None
    listing: Listing
    numbers: NDArray[np.int64]
    xyz: NDArray[np.float32] | None = None
    length: int = 0
    base: int | None = None
    picture: Size | None = None
    topology: str = ""
    first_name: str = ""

    @property
    def num_joints(self) -> int:
        """V; 0 where nobody was found and the format has no V of its own."""
        return self.values.shape[1]


def pose_file(
    path: str | Path,
    found: Iterable[Detection],
    numbers: Iterable[int],
    *,
    listing: Listing,
    length: int = 0,
    base: int | None = None,
    picture: Size | None = None,
) -> PoseFile:
    """A PoseFile from detections in the order of the file; those without any joint are nobody.

    Raises SkeletonError: people differ in their numbers of joints, a frame number is negative or beyond 64 bits, or a
    body is twice in one frame. Where one detection has no body, all are taken to have none.
    """
    found = [one for one in found if len(one.values)]
    counts: dict[int, int] = {len(one.values): one.frame for one in found}
    if len(counts) > 1:
        (few, at), (many, there) = sorted(counts.items())[:2]
        got = f"{few} in frame {at}, {many} in frame {there}"
        raise SkeletonError(path, "holds people of different numbers of joints", got=got, remedy=OWN_FORM)
    named = sorted(set(numbers))
    if named and not 0 <= named[0] <= named[-1] < 1 << 62:
        got = f"frame {shown(named[0] if named[0] < 0 else named[-1])}"
        raise SkeletonError(path, "has an impossible frame number", got=got, expected="0 or more")
    bodies = [one.body for one in found]
    ids = None if None in bodies or not bodies else np.array(bodies, dtype=np.int64)
    frames = np.array([one.frame for one in found], dtype=np.int64)
    if ids is not None:
        require_once(path, ids, frames)
    values = np.stack([one.values for one in found]) if found else np.zeros((0, 0, 3), dtype=np.float32)
    return PoseFile(
        frames, values, ids, listing, np.array(named, dtype=np.int64), length=length, base=base, picture=picture
    )


def require_once(path: str | Path, bodies: NDArray[np.int64], frames: NDArray[np.int64]) -> None:
    """SkeletonError where a body is twice in one frame. Args: (B,) each."""
    order = np.lexsort((frames, bodies))
    twice = np.flatnonzero((np.diff(bodies[order]) == 0) & (np.diff(frames[order]) == 0))
    if twice.size:
        at = order[twice[0]]
        remedy = "the file names persons wrongly; make it again, or leave their names out"
        raise SkeletonError(path, f"has body {bodies[at]} twice in frame {frames[at]}", remedy=remedy)

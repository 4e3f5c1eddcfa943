"""Skeletons of videos: any pose file -> Skeleton, and the choice of the persons in it.

In: a path. Out: `Skeleton`, axes (M, T, V, ...), of all bodies the source holds; `choose_persons` keeps at most two.
Each format has its own module (`skeletons_ntu` and its neighbours); this one only tells them apart.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import SkeletonError
from pipeline.skeletons_choice import choose_persons
from pipeline.skeletons_ntu import read_ntu_skeleton
from pipeline.skeletons_value import Skeleton

__all__ = ["Skeleton", "choose_persons", "read_ntu_skeleton", "read_skeleton"]


def read_skeleton(path: str | Path) -> Skeleton:
    """The skeleton in a file of any known format, told by its suffix.

    Raises:
        SkeletonError: an unknown suffix, or the reader's own complaint.
    """
    if Path(path).suffix.lower() == ".skeleton":
        return read_ntu_skeleton(path)
    raise SkeletonError(path, "is of an unknown pose format", expected="*.skeleton")

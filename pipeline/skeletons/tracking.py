"""Tracking: detections without identity -> persons, as pose estimators list people in each frame in any order.

In: for each frame the people found in it, each (V, 3) as x, y, score. Out: a Skeleton in which a slot is one person
over time. It uses coordinates alone, frame after frame; it fills no gap and invents no joint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.skeletons.skeleton import Skeleton, make_skeleton

Person = NDArray[np.float32]  # (V, 3): x, y, score; score 0 where the joint was not found

PATIENCE = 30  # frames that a person may be lost and still be recognised: a second of video
REACH = 0.5  # how far a joint may have moved since it was last seen, in diagonals of the person's box


@dataclass
class _Track:
    """One person so far: the detections by frame, and the latest position of each joint."""

    latest: Person
    found: dict[int, Person] = field(default_factory=dict)

    def add(self, time: int, person: Person) -> None:
        self.found[time] = person
        self.latest = np.where(_usable(person)[:, None], person, self.latest)


def track_persons(frames: Sequence[Sequence[Person]], *, num_joints: int) -> Skeleton:
    """Persons over T = len(frames) frames, numbered in the order of their first appearance, then from left to right.

    In each frame, people are matched with the persons seen within the last `PATIENCE` frames so that they agree best in
    all: a joint that both have agrees by 1 where it was last seen, falling to 0 at `REACH` from there. Hence a body
    half hidden is not lost to a passing fragment. People without a match are new persons. The order of people within a
    frame does not matter; people without a usable joint are ignored.

    Args:
        frames: for each frame its people, (V, 3) as x, y in pixels and score; not found: score 0 or NaN coordinates.
        num_joints: V.
    """
    tracks: list[_Track] = []
    for time, people in enumerate(frames):
        found = sorted((person for person in people if _usable(person).any()), key=_left_to_right)
        alive = [track for track in tracks if time - max(track.found) <= PATIENCE]
        matches = _match([track.latest for track in alive], found)
        for index, person in enumerate(found):
            if index not in matches:
                tracks.append(_Track(latest=np.full((num_joints, 3), np.nan, dtype=np.float32)))
            (alive[matches[index]] if index in matches else tracks[-1]).add(time, person)
    table = np.full((len(tracks), len(frames), num_joints, 3), np.nan, dtype=np.float32)
    present = np.zeros(table.shape[:2], dtype=bool)
    for slot, track in enumerate(tracks):
        for time, person in track.found.items():
            table[slot, time], present[slot, time] = person, True
    joints = np.where(table[..., 2:] > 0, table[..., :2], np.nan).astype(np.float32)
    return make_skeleton(joints, table[..., 2], present)


def _match(known: list[Person], found: list[Person]) -> dict[int, int]:
    """The best assignment of detections to persons: index into `found` -> index into `known`."""
    from scipy.optimize import linear_sum_assignment  # not at the top: a slow import that NTU files do not need

    agreements = np.array([[_agreement(person, other) for other in found] for person in known])
    if not agreements.size:
        return {}
    rows, columns = linear_sum_assignment(agreements, maximize=True)
    return {int(j): int(i) for i, j in zip(rows, columns, strict=True) if agreements[i, j] > 0}


def _agreement(person: Person, other: Person) -> float:
    """The number of joints of `other` near those of `person`, each weighted by its distance."""
    own = person[_usable(person), :2]
    reach = REACH * float(np.hypot(*(own.max(axis=0) - own.min(axis=0))))
    both = _usable(person) & _usable(other)
    distances = np.hypot(*(person[both, :2] - other[both, :2]).T)
    return float(np.maximum(reach - distances, 0).sum()) / reach if reach > 0 else 0.0


def _usable(person: Person) -> NDArray[np.bool_]:
    return (person[:, 2] > 0) & np.isfinite(person[:, :2]).all(axis=1)


def _left_to_right(person: Person) -> tuple[float, ...]:
    """A sort key that does not depend on the order in the file."""
    joints = person[_usable(person), :2]
    return (*joints.mean(axis=0).tolist(), *joints.ravel().tolist())

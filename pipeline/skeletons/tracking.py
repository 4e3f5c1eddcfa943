"""Tracking: detections without names -> persons, as pose estimators list people in each frame in any order.

In: people by frame, (V, 3) each as x, y, score. Out: a number for each of them, the same for one person over time. It
uses coordinates alone, frame after frame; it fills no gap and invents no joint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError

Person = NDArray[np.float32]  # (V, 3): x, y, score; score 0 where the joint was not found

PATIENCE = 30  # frames that a person may be lost and still be recognised: a second of video
REACH = 0.5  # how far a joint may have moved since it was last seen, in diagonals of the person's box
MOST_PEOPLE = 200  # in a frame, since matching takes the square of it
_MOST_LOST = 400  # persons, the latest, who may still be recognised


@dataclass
class _Track:
    """One person so far: a number, the frame last seen in, and the latest position of each joint."""

    number: int
    seen: int
    latest: Person


def track_people(path: str | Path, frames: NDArray[np.int64], people: NDArray[np.float32]) -> NDArray[np.int64]:
    """The person that each detection is, numbered from 0 in the order of first appearance, then from left to right.

    In each frame, people are matched with the persons seen within the last `PATIENCE` frames so that they agree best in
    all: a joint that both have agrees by 1 where it was last seen, falling to 0 at `REACH` from there. Hence a body
    half hidden is not lost to a passing fragment. People without a match are new persons. The order of people within a
    frame does not matter; people without a usable joint are nobody, -1.

    Args:
        frames: (B,) the frame of each detection.
        people: (B, V, 3) as x, y in pixels and score; not found: score 0 or NaN coordinates.

    Raises SkeletonError: more than `MOST_PEOPLE` people in a frame.
    """
    numbers = np.full(len(frames), -1, dtype=np.int64)
    seen = np.flatnonzero(_usable(people).any(axis=1))
    seen = seen[np.argsort(frames[seen], kind="stable")]
    alive: list[_Track] = []
    count = 0
    for rows in np.split(seen, np.flatnonzero(np.diff(frames[seen])) + 1) if len(seen) else []:
        if len(rows) > MOST_PEOPLE:
            got, expected = f"{len(rows)} in frame {frames[rows[0]]}", f"at most {MOST_PEOPLE}"
            remedy = "leave out people of low score, or name persons by `idx` or `track_id`"
            raise SkeletonError(path, "has too many people in a frame", got=got, expected=expected, remedy=remedy)
        time = int(frames[rows[0]])
        found = sorted((int(row) for row in rows), key=lambda row: _left_to_right(people[row]))
        alive = [track for track in alive if time - track.seen <= PATIENCE]
        matches = _match(alive, people[found])
        for index, row in enumerate(found):
            if index not in matches:
                track, count = _Track(count, time, np.full(people.shape[1:], np.nan, dtype=np.float32)), count + 1
                alive.append(track)
            else:
                track = alive[matches[index]]
            usable = _usable(people[row])[:, None]
            track.seen, track.latest = time, np.where(usable, people[row], track.latest)
            numbers[row] = track.number
        if len(alive) > _MOST_LOST:
            alive = sorted(alive, key=lambda track: track.seen)[-_MOST_LOST:]
            alive.sort(key=lambda track: track.number)
    return numbers


def _match(known: list[_Track], found: NDArray[np.float32]) -> dict[int, int]:
    """The best assignment of detections (n, V, 3) to persons: index into `found` -> index into `known`."""
    from scipy.optimize import linear_sum_assignment  # not at the top: a slow import that NTU files do not need

    if not known:
        return {}
    agreements = np.stack([_agreement(track.latest, found) for track in known])
    rows, columns = linear_sum_assignment(agreements, maximize=True)
    return {int(j): int(i) for i, j in zip(rows, columns, strict=True) if agreements[i, j] > 0}


def _agreement(person: Person, found: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) the number of joints of each of `found` (n, V, 3) near those of `person`, each weighted by its distance."""
    usable = _usable(person)
    own = person[usable, :2].astype(np.float64)
    reach = REACH * float(np.hypot(*(own.max(axis=0) - own.min(axis=0))))
    if reach == 0:
        return np.zeros(len(found))
    both = _usable(found)[:, usable]  # (n, joints of the person)
    distances = np.hypot(*np.moveaxis(found[:, usable, :2] - own, -1, 0))
    return np.where(both, np.maximum(reach - distances, 0), 0).sum(axis=1) / reach


def _usable(people: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (people[..., 2] > 0) & np.isfinite(people[..., :2]).all(axis=-1)


def _left_to_right(person: Person) -> tuple[float, ...]:
    """A sort key that does not depend on the order in the file."""
    joints = person[_usable(person), :2].astype(np.float64)
    return (*joints.mean(axis=0).tolist(), *joints.ravel().tolist())

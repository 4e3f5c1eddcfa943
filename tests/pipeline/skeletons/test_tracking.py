"""People without names, followed over time, against the people who were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SkeletonError
from pipeline.skeletons.assemble import MOST_BODIES, all_bodies
from pipeline.skeletons.pose_file import PoseFile
from pipeline.skeletons.skeleton import Skeleton
from pipeline.skeletons.tracking import MOST_PEOPLE, PATIENCE, track_people

V = 17
FIGURE = np.random.default_rng(0).uniform([-40, -160], [40, 160], size=(V, 2))


def walk(start: float, speed: float, frames: int) -> np.ndarray:
    """(T, V, 3) of a person who walks through the picture, all joints found."""
    places = FIGURE + np.stack([start + speed * np.arange(frames), np.full(frames, 300)], axis=-1)[:, None]
    return np.concatenate([places, np.ones((frames, V, 1))], axis=-1).astype(np.float32)


def track_persons(frames: list[list[np.ndarray]]) -> Skeleton:
    """The persons over T = len(frames) frames, from the people found in each."""
    numbers = np.array([t for t, people in enumerate(frames) for _ in people], dtype=np.int64)
    people = np.array([person for found in frames for person in found], dtype=np.float32).reshape(-1, V, 3)
    poses = PoseFile(numbers, people, None, "list", numbers)
    return all_bodies("made up", poses, track_people("made up", numbers, people), len(frames))


def shuffled(people: list[np.ndarray], there: np.ndarray, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """For each frame those who are there, in any order."""
    return [[people[m][t] for m in rng.permutation(np.flatnonzero(there[:, t]))] for t in range(there.shape[1])]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_people_are_followed_through_any_order_and_short_absence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = [walk(200 * m, rng.uniform(-2, 2), 25) for m in range(4)]
    for person in people:
        person[rng.random((25, V)) < 0.3, 2] = 0  # joints that were not found
    there = rng.random((4, 25)) < 0.8
    there[:, 0] = True
    skeleton = track_persons(shuffled(people, there, rng))
    assert skeleton.body_ids.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(skeleton.present, there)
    for m in range(4):
        seen = there[m][:, None] & (people[m][..., 2] > 0)
        np.testing.assert_array_equal(skeleton.scores[m], seen)
        np.testing.assert_array_equal(skeleton.joints[m][seen], people[m][seen][:, :2])
        assert np.isnan(skeleton.joints[m][~seen]).all()


def test_a_fragment_does_not_take_the_place_of_a_body() -> None:
    body = walk(300, 3, 3)
    fragment = body[1].copy()
    fragment[4:, 2] = 0  # four joints, exactly where they were
    skeleton = track_persons([[body[0]], [fragment + np.float32([-3, 0, 0]), body[1]], [body[2]]])
    np.testing.assert_array_equal(skeleton.joints[0], body[..., :2])
    assert skeleton.present.tolist() == [[True, True, True], [False, True, False]]


def test_far_away_or_long_ago_is_somebody_else() -> None:
    person = walk(100, 0, 1)[0]
    far = person + np.float32([400, 0, 0])
    assert track_persons([[person], [far]]).present.tolist() == [[True, False], [False, True]]
    for gap, persons in ((PATIENCE - 1, 1), (PATIENCE, 2)):
        frames = [[person], *[[] for _ in range(gap)], [person]]
        assert len(track_persons(frames).body_ids) == persons


def test_nobody_and_no_frames() -> None:
    invisible = np.zeros((V, 3), np.float32)
    assert track_persons([[], [invisible]]).joints.shape == (0, 2, V, 2)
    assert track_persons([]).joints.shape == (0, 0, V, 2)


def test_too_many_people_in_a_frame_are_refused() -> None:
    crowd = [walk(50 * m, 0, 1)[0] for m in range(MOST_PEOPLE + 1)]
    assert len(track_persons([crowd[1:]]).body_ids) == MOST_BODIES
    with pytest.raises(SkeletonError, match=r"too many people in a frame \(got 201 in frame 0"):
        track_persons([crowd])

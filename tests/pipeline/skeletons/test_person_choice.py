"""The choice of persons: the plausible who move most, whatever the order of bodies, whatever the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.skeletons.ntu import read_ntu_skeleton
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.skeleton import Skeleton, make_skeleton

FRAMES = 60
FIGURE = np.random.default_rng(0).uniform([-40, -160], [40, 160], size=(25, 2))  # a completeness person, in pixels


def body(
    *, sway: float, at: float = 500, width: float = 1.0, frames: tuple[int, int] = (0, FRAMES), seed: int = 0
) -> np.ndarray:
    """Joints (T, 25, 2) of a figure that sways with an amplitude in pixels, NaN where it is absent."""
    rng = np.random.default_rng(seed)
    time = np.arange(FRAMES)[:, None]
    shift = sway * np.sin(time / 7 + rng.uniform(0, 6, 25))[..., None]
    joints = FIGURE * [width, 1] + [at, 540] + shift + rng.normal(0, 0.3, (FRAMES, 25, 2))
    outside = (time[:, 0] < frames[0]) | (time[:, 0] >= frames[1])
    joints[outside] = np.nan
    return joints


def skeleton(*bodies: np.ndarray, ids: list[int] | None = None) -> Skeleton:
    joints = np.stack(bodies).astype(np.float32)
    present = np.isfinite(joints).all(axis=(2, 3))
    body_ids = np.array(ids or [1000 + k for k in range(len(bodies))], dtype=np.int64)
    return make_skeleton(joints, np.ones(joints.shape[:3], np.float32), present, body_ids=body_ids)


PERSON, PARTNER = body(sway=30, seed=1), body(sway=8, at=900, seed=2)
CHAIR = body(sway=0, at=1200, seed=3)
COAT_RACK_ON_ITS_SIDE = body(sway=40, at=1200, width=6, seed=4)
FLICKER = body(sway=60, at=1500, frames=(20, 28), seed=5)
PASSER_BY = body(sway=20, at=300, frames=(0, 20), seed=6)


@pytest.mark.parametrize(
    ("bodies", "kept"),
    [
        ([PERSON], [0]),
        ([PERSON, PARTNER], [0, 1]),
        ([PARTNER, PERSON], [1, 0]),
        ([PERSON, CHAIR], [0]),
        ([COAT_RACK_ON_ITS_SIDE, PERSON], [1]),
        ([FLICKER, PERSON, CHAIR, PARTNER], [1, 3]),
        ([PASSER_BY, PARTNER, PERSON], [2, 1]),
        ([CHAIR], [0]),
        ([COAT_RACK_ON_ITS_SIDE], [0]),
        ([CHAIR, FLICKER, COAT_RACK_ON_ITS_SIDE], [2]),
        ([PERSON, body(sway=30, frames=(30, 60), seed=7), CHAIR], [0, 1]),
    ],
)
def test_ghosts_go_and_both_people_stay(bodies: list[np.ndarray], kept: list[int]) -> None:
    chosen = choose_persons(skeleton(*bodies))
    assert chosen.body_ids.tolist() == [1000 + slot for slot in kept]
    np.testing.assert_array_equal(chosen.joints, skeleton(*bodies).joints[kept])


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(5)))
def test_the_order_of_bodies_does_not_matter(order: list[int]) -> None:
    bodies = [PERSON, PARTNER, CHAIR, FLICKER, PASSER_BY]
    chosen = choose_persons(skeleton(*(bodies[k] for k in order), ids=[1000 + k for k in order]))
    assert chosen.body_ids.tolist() == [1000, 1001]
    np.testing.assert_array_equal(chosen.joints, skeleton(PERSON, PARTNER).joints)


def test_equals_are_ordered_by_body_id() -> None:
    assert choose_persons(skeleton(PERSON, PERSON, PERSON, ids=[9, 7, 8])).body_ids.tolist() == [7, 8]


def test_most_is_obeyed_and_nothing_is_edited() -> None:
    source = skeleton(PARTNER, PERSON, PASSER_BY)
    before = source.joints.copy()
    assert choose_persons(source, most=1).body_ids.tolist() == [1001]
    assert choose_persons(source, most=3).body_ids.tolist() == [1001, 1000, 1002]
    np.testing.assert_array_equal(source.joints, before)
    with pytest.raises(ConfigError, match="max_persons"):
        choose_persons(source, most=0)


def test_bodies_without_a_usable_joint_never_stay() -> None:
    nobody = skeleton(body(sway=3, frames=(0, 0)))
    assert choose_persons(nobody).joints.shape == (0, FRAMES, 25, 2)
    assert choose_persons(choose_persons(nobody)).joints.shape == (0, FRAMES, 25, 2)
    assert choose_persons(skeleton(body(sway=3, frames=(0, 0)), CHAIR)).body_ids.tolist() == [1001]


def test_joints_that_are_not_to_be_used_do_not_count() -> None:
    wild = PERSON.copy()
    wild[:, 3] = np.random.default_rng(8).uniform(-5000, 5000, (FRAMES, 2))
    scores = np.ones((1, FRAMES, 25), np.float32)
    scores[:, :, 3] = 0
    odd = make_skeleton(wild[None].astype(np.float32), scores, np.ones((1, FRAMES), bool))
    both = make_skeleton(
        np.stack([wild, PERSON * 1.0]).astype(np.float32), np.concatenate([scores, scores]), np.ones((2, FRAMES), bool)
    )
    assert choose_persons(odd).body_ids.tolist() == [0]
    assert choose_persons(both).body_ids.tolist() == [0, 1]  # equal in all that counts


@pytest.mark.parametrize(
    ("name", "persons"),
    [
        ("skeletons/S001C001P001R001A001", [72057594037931101]),
        ("skeletons/S001C001P001R001A011", [72057594037931648]),
        ("skeletons/S001C001P001R001A050", [72057594037932127, 72057594037932185]),
        ("skeletons/S001C002P006R001A008", []),
        ("skeletons/S003C001P015R001A034", [72057594037939480]),
        ("skeletons_derived/S001C001P001R001A051", [72057594037932127, 72057594037932185]),
        ("skeletons_derived/S002C001P003R001A006", [72057594037932033, 72057594037932999]),
        ("skeletons_derived/S014C002P007R001A002", [72057594037932127, 72057594037932185]),
    ],
)
def test_real_files(test_data: Path, name: str, persons: list[int]) -> None:
    chosen = choose_persons(read_ntu_skeleton(test_data / "ntu" / f"{name}.skeleton"))
    assert chosen.body_ids.tolist() == persons

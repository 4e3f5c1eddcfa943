"""The contract of every pose format: the joints come back where and when they were, or SkeletonError; never otherwise.

In: a `Writer` of `pose_files`. Out: assertions about `persons_of_video`. The oracle is what was written, in pixels of
the video. Damage and hostile files are not tested here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import PIXELS, Detections, Writer, wanderers

from pipeline.errors import SkeletonError
from pipeline.skeletons.of_video import persons_of_video
from pipeline.skeletons.skeleton import Skeleton

FRAMES, SIZE = 24, (180, 320)


def read(path: Path, people: Detections, *, frames: int = FRAMES, **options: Any) -> tuple[Skeleton, dict[str, Any]]:
    """As the product reads a folder's pose files: by size, scores of 0.2 and more."""
    height, width = people.size
    options = {"persons_by": "size", "min_score": 0.2, "max_persons": len(people.joints)} | options
    return persons_of_video(
        path, frames=frames, height=height, width=width, num_joints=people.joints.shape[2], **options
    )


def assert_are(persons: Skeleton, people: Detections, *, frames: int = FRAMES) -> None:
    """The persons are those who were written: in the same frames, places within 1e-3 pixels, in any order."""
    expected = np.full((len(people.joints), frames, *people.joints.shape[2:]), np.nan)
    shown = min(frames, people.joints.shape[1])
    expected[:, :shown] = people.joints[:, :shown]
    expected = expected[np.isfinite(expected).any(axis=(1, 2, 3))]
    assert persons.joints.shape == expected.shape
    order = [np.argsort(np.nanmean(joints[..., 1], axis=(1, 2))) for joints in (persons.joints, expected)]
    joints, expected = persons.joints[order[0]], expected[order[1]]
    np.testing.assert_array_equal(np.isnan(joints), np.isnan(expected))
    np.testing.assert_allclose(joints, expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(persons.scores > 0, np.isfinite(persons.joints).all(axis=-1))


class PoseContract:
    """Tests of one format; subclass it or parametrise the fixture `writer`."""

    @pytest.fixture
    def stem(self, tmp_path: Path) -> Path:
        return tmp_path / "walk"

    def test_every_unit_of_the_format(self, writer: Writer, stem: Path) -> None:
        people = wanderers(FRAMES, writer.joints, SIZE)
        for unit in writer.units:
            persons, facts = read(writer(stem.with_name(f"walk{writer.units.index(unit)}"), people, unit=unit), people)
            assert_are(persons, people)
            stated = isinstance(writer.picture, tuple)
            assert facts["units"] == ("pixels of 1920 x 1080" if stated else unit)
            assert (facts["bodies"], facts["bodies_left_out"], facts["pose_frames"]) == (1, 0, FRAMES)

    def test_a_picture_of_another_size_is_scaled_and_of_another_shape_refused(self, writer: Writer, stem: Path) -> None:
        if not writer.picture:
            pytest.skip("states no size")
        sizes = [writer.picture] if isinstance(writer.picture, tuple) else [(360, 640), (90, 160), SIZE, (1080, 1920)]
        people = wanderers(FRAMES, writer.joints, SIZE)
        for size in sizes:
            path = writer(stem.with_name(f"walk{size[0]}"), people, picture=size)
            persons, facts = read(path, people)
            assert_are(persons, people)
            assert facts["units"] == ("pixels" if size == SIZE else f"pixels of {size[1]} x {size[0]}")
            height, width = people.size
            for wrong in ((width, height), (240, 320), (180, 340)):
                video = Detections(people.joints, wrong, people.scores, people.bodies)
                with pytest.raises(SkeletonError, match=f"{size[1]} x {size[0]}.*{wrong[1]} x {wrong[0]}"):
                    read(path, video)

    def test_a_full_size_video_leaves_places_as_they_are(self, writer: Writer, stem: Path) -> None:
        people = wanderers(FRAMES, writer.joints, (1080, 1920))
        persons, facts = read(writer(stem, people), people)
        assert facts["units"] == "pixels"
        np.testing.assert_array_equal(persons.joints, people.joints.round(7).astype(np.float32))

    @pytest.mark.parametrize("gap", ["none", "first", "leading", "middle", "last", "trailing", "both ends"])
    def test_gaps_never_move_a_joint_in_time(self, writer: Writer, stem: Path, gap: str) -> None:
        lost = {"none": [], "first": [0], "leading": range(5), "middle": range(9, 12), "last": [FRAMES - 1]}
        lost |= {"trailing": range(16, FRAMES), "both ends": [0, 1, FRAMES - 2, FRAMES - 1]}
        people = wanderers(FRAMES, writer.joints, SIZE).only(~np.isin(np.arange(FRAMES), list(lost[gap])))
        there = np.flatnonzero(people.found[0])
        for base in writer.bases:
            path = writer(stem.with_name(f"walk{base}"), people, base=base)
            persons, facts = read(path, people, first_frame=base)
            assert_are(persons, people)
            span = (facts["first_pose"], facts["last_pose"], facts["frames_without_pose"])
            assert span == (there[0], there[-1], FRAMES - len(there))
            refusal = ""
            try:
                assert_are(read(path, people)[0], people)
            except SkeletonError as error:
                refusal = str(error)
            assert not refusal or (writer.listing == "list" and "set `first_frame`" in refusal)  # a cure that exists

    def test_another_rate_is_refused(self, writer: Writer, stem: Path) -> None:
        twice = wanderers(2 * FRAMES, writer.joints, SIZE)
        with pytest.raises(SkeletonError, match=f"{2 * FRAMES} frames of poses, expected {FRAMES}"):
            read(writer(stem.with_name("double"), twice), twice)
        half = twice.take(np.arange(0, 2 * FRAMES, 4))
        path = writer(stem.with_name("half"), half)
        if writer.listing == "list":
            pytest.skip("a list may end early: nobody may be there")
        with pytest.raises(SkeletonError, match=f"{FRAMES // 2} frames of poses, expected {FRAMES}"):
            read(path, half)

    @pytest.mark.parametrize(("frames", "allowed"), [(24, 2), (100, 5)])
    def test_a_few_frames_more_or_fewer_are_borne(self, writer: Writer, stem: Path, frames: int, allowed: int) -> None:
        for more in (-allowed - 1, -allowed, -1, 1, allowed, allowed + 1):
            people = wanderers(frames + more, writer.joints, SIZE)
            path = writer(stem.with_name(f"walk{more}"), people)
            if abs(more) > allowed and (more > 0 or writer.listing != "list"):
                with pytest.raises(SkeletonError, match="another number of frames than the video"):
                    read(path, people, frames=frames)
            else:
                assert_are(read(path, people, frames=frames)[0], people, frames=frames)

    def test_persons_keep_their_slots(self, writer: Writer, stem: Path) -> None:
        if writer.most < 3:
            pytest.skip("holds one person")
        people = wanderers(FRAMES, writer.joints, SIZE, persons=3)
        people = Detections(people.joints.copy(), people.size, people.scores, people.bodies)
        people.joints[0, 7:9] = people.joints[2, 12:] = np.nan
        path = writer(stem, people)
        persons, facts = read(path, people)
        assert_are(persons, people)
        assert (facts["bodies"], facts["bodies_left_out"]) == (3, 0)
        assert read(path, people, max_persons=2)[1]["bodies_left_out"] == 1
        if writer.names:
            assert sorted(int(number) % 1000 for number in persons.body_ids) == sorted(people.bodies)

    def test_joints_of_low_scores_are_absent(self, writer: Writer, stem: Path) -> None:
        if not writer.scores:
            pytest.skip("has no confidences")
        people = wanderers(FRAMES, writer.joints, SIZE)
        people.joints[:, :, 5], people.scores[:, :, 5] = (3.0, 3.0), 0.02
        persons, _ = read(writer(stem, people), people)
        assert not persons.scores[:, :, 5].any()
        assert np.isnan(persons.joints[:, :, 5]).all()
        kept = np.arange(writer.joints) != 5
        np.testing.assert_allclose(persons.joints[:, :, kept], people.joints[:, :, kept], atol=1e-3)
        every, _ = read(writer(stem.with_name("every"), people), people, min_score=0.0)
        np.testing.assert_allclose(every.scores[:, :, 5], 0.02, rtol=1e-6)

    def test_poses_of_another_picture_are_refused(self, writer: Writer, stem: Path) -> None:
        people = wanderers(FRAMES, writer.joints, SIZE)
        outside = Detections(people.joints * 6 + 400, people.size, people.scores, people.bodies)
        with pytest.raises(SkeletonError, match=r"of \d+ joints only 0% lie in the picture \(320 x 180\)"):
            read(writer(stem.with_name("outside"), outside), people)
        tiny = Detections(people.joints * 0.01 + 50, people.size, people.scores, people.bodies)
        with pytest.raises(SkeletonError, match="holds no body that is large enough"):
            read(writer(stem.with_name("tiny"), tiny), people)

    def test_nobody_in_any_frame(self, writer: Writer, stem: Path) -> None:
        people = wanderers(FRAMES, writer.joints, SIZE).only(np.zeros(FRAMES, dtype=bool))
        persons, facts = read(writer(stem, people), people)
        assert persons.joints.shape == (0, FRAMES, writer.joints, 2)
        assert (facts["bodies"], facts["first_pose"], facts["frames_without_pose"]) == (0, None, FRAMES)

    def test_another_number_of_joints_is_refused(self, writer: Writer, stem: Path) -> None:
        people = wanderers(FRAMES, writer.joints, SIZE)
        path = writer(stem, people)
        with pytest.raises(SkeletonError, match=f"got {writer.joints}, expected 21"):
            persons_of_video(path, frames=FRAMES, height=SIZE[0], width=SIZE[1], num_joints=21)

    def test_right_or_refused_in_any_combination(self, writer: Writer, stem: Path) -> None:
        rng = np.random.default_rng(writer.joints)
        right = sum(is_right_or_refused(writer, stem.with_name(f"walk{case}"), rng) for case in range(40))
        assert right >= 15

    @pytest.mark.soak
    def test_right_or_refused_in_many_combinations(self, writer: Writer, stem: Path) -> None:
        cases, seed = 40 * int(os.environ.get("N", "50")), int(os.environ.get("SEED", "0"))
        right = 0
        for case in range(cases):
            right += is_right_or_refused(writer, stem.with_name(f"walk{case}"), np.random.default_rng([seed, case]))
        print(f"{cases} files, {right} right, {cases - right} refused, 0 wrong")


def is_right_or_refused(writer: Writer, stem: Path, rng: np.random.Generator) -> bool:
    """Whether a file in a drawn unit, numbering and picture is read; AssertionError if it is read wrongly."""
    people = _drawn(writer, rng)
    unit, base = str(rng.choice(writer.units)), int(rng.choice(writer.bases))
    sizes = [None, (360, 640), (720, 1280)] if writer.picture is True and unit == PIXELS else [None]
    path = writer(stem, people, unit=unit, base=base, picture=sizes[int(rng.integers(len(sizes)))])
    try:
        persons, facts = read(path, people, first_frame=base if rng.random() < 0.5 else None)
    except SkeletonError:
        return False
    assert_are(persons, people)
    assert facts["first_frame"] == (base if writer.listing != "array" and people.found.any() else 0)
    return True


def _drawn(writer: Writer, rng: np.random.Generator) -> Detections:
    """Persons who come and go, who may leave the picture at a side, and who may be lost at both ends."""
    count = int(rng.integers(1, min(writer.most, 3) + 1))
    people = wanderers(FRAMES, writer.joints, SIZE, persons=count, seed=int(rng.integers(1 << 30)))
    shift = np.array(SIZE[::-1]) * rng.choice([0.0, -0.25, 0.25], 2, p=[0.7, 0.15, 0.15])
    head, tail = (int(rng.choice([0, 0, 1, 5])) for _ in range(2))
    kept = (np.arange(FRAMES) >= head) & (np.arange(FRAMES) < FRAMES - tail)
    people = Detections(people.joints + shift, SIZE, people.scores, people.bodies).only(kept)
    for one in people.joints:
        start = int(rng.integers(FRAMES))
        one[start : start + int(rng.integers(0, 4 if writer.names else 2))] = np.nan  # not lost by their places
    return people

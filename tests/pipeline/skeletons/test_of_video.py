"""What a number in a pose file means: units, frame numbers and persons where the formats' contract does not reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_files import PIXELS, SHARES, SIGNED, WRITERS, Detections, wanderers

from pipeline.errors import ConfigError, SkeletonError
from pipeline.skeletons.frame_numbers import first_number, frames_covered, tolerance
from pipeline.skeletons.ntu import read_ntu_skeleton
from pipeline.skeletons.of_video import persons_of_video
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.pose_file import PoseFile
from pipeline.skeletons.read import topology_of
from pipeline.skeletons.skeleton import Skeleton
from pipeline.skeletons.units import in_pixels

FRAMES, SIZE = 24, (180, 320)


def read(path: Path, *, joints: int = 17, frames: int = FRAMES, **options: Any) -> tuple[Skeleton, dict[str, Any]]:
    return persons_of_video(path, frames=frames, height=SIZE[0], width=SIZE[1], num_joints=joints, **options)


def results(path: Path, *found: tuple[int, np.ndarray, Any]) -> Path:
    """AlphaPose's list of (frame, joints (V, 2), idx)."""
    path.write_text(
        json.dumps(
            [
                {"image_id": f"{t}.jpg", "keypoints": np.column_stack([j, np.full(len(j), 0.9)]).ravel().tolist()}
                | ({} if idx is None else {"idx": idx})
                for t, j, idx in found
            ]
        )
    )
    return path


# --- frame numbers ---------------------------------------------------------------------------------------------------


def numbered(listing: Any, numbers: Any, *, base: int | None = None, length: int = 0) -> PoseFile:
    numbers = np.array(sorted(numbers), dtype=np.int64)
    return PoseFile(
        numbers, np.ones((len(numbers), 17, 3), np.float32), None, listing, numbers, length=length, base=base
    )


REFUSED = "does not tell whether its frames count from 0 or from 1"


@pytest.mark.parametrize("listing", ["folder", "list"])
@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        (range(24), 0),
        (range(1, 25), 1),  # as many as the video has
        ([0, 5, 23], 0),
        ([5, 24], None),  # frame 24 from 1, or that of a frame more, counted from 0
        (range(100, 124), 100),
        (range(1, 24), None),  # nobody in the first frame, or in the last
        ([5, 12], None),
        ([1, 25], None),
        (range(2, 25), None),
        (range(101, 124), None),
    ],
)
def test_the_first_number(listing: Any, numbers: Any, first: int | None) -> None:
    poses = numbered(listing, numbers)
    if first is None:
        with pytest.raises(SkeletonError, match=REFUSED):
            first_number("x", poses, frames=24, first_frame=None)
    else:
        assert first_number("x", poses, frames=24, first_frame=None) == first
    for told in (0, 1):
        if min(numbers) >= told:
            assert first_number("x", poses, frames=24, first_frame=told) == told
        else:
            with pytest.raises(SkeletonError, match=r"has a frame 0 .*as `first_frame` says"):
                first_number("x", poses, frames=24, first_frame=told)


@pytest.mark.parametrize(
    ("numbers", "first"),
    [([1, 23], 0), ([5, 20], 0), ([1, 24], None), (range(1, 25), 1), ([1, 25], None), (range(2, 26), None), ([0, 25], 0)],
)
def test_a_format_that_counts_from_0(numbers: Any, first: int | None) -> None:
    poses = numbered("list", numbers, base=0)
    if first is None:
        with pytest.raises(SkeletonError, match=REFUSED):
            first_number("x", poses, frames=24, first_frame=None)
    else:
        assert first_number("x", poses, frames=24, first_frame=None) == first


def test_a_folder_may_have_lost_a_file_in_the_middle() -> None:
    assert first_number("x", numbered("folder", [1, 24]), frames=24, first_frame=None) == 1
    with pytest.raises(SkeletonError, match=REFUSED):
        first_number("x", numbered("list", [1, 24]), frames=24, first_frame=None)


def test_no_numbers_can_be_a_frame_off() -> None:
    """The true detections of a video in any true counting: the number of the first frame is found, or asked for."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(3000):
        frames, true = int(rng.integers(4, 40)), int(rng.integers(0, 2))
        listing = str(rng.choice(["folder", "list"]))
        seen = (
            np.flatnonzero(rng.random(frames) < rng.choice([0.3, 0.9, 1.0])) if listing == "list" else np.arange(frames)
        )
        if not seen.size:
            continue
        poses = numbered(listing, seen + true)
        try:
            first = first_number("x", poses, frames=frames, first_frame=None)
        except SkeletonError:
            assert listing == "list"
        else:
            assert first == true
            found += 1
    assert found > 1500


def test_without_a_video_a_first_number_of_0_or_1_is_the_first_frame() -> None:
    assert [first_number("x", numbered("list", n), frames=None, first_frame=None) for n in ([0, 3], [1, 3])] == [0, 1]
    assert first_number("x", numbered("list", [5], base=0), frames=None, first_frame=None) == 0
    with pytest.raises(SkeletonError, match=REFUSED):
        first_number("x", numbered("list", [2, 3]), frames=None, first_frame=None)


def test_how_many_frames_may_differ() -> None:
    assert [tolerance(n) for n in (1, 24, 40, 59, 60, 100, 1000)] == [2, 2, 2, 2, 3, 5, 50]
    claimed = numbered("list", [0, 3], length=12)
    with pytest.raises(SkeletonError, match="got 12 frames of poses, expected 24"):
        frames_covered("x", claimed, first=0, frames=24)
    assert frames_covered("x", claimed, first=0, frames=13) == 12
    assert frames_covered("x", numbered("list", [0, 3]), first=0, frames=24) == 4
    with pytest.raises(SkeletonError, match="claims too many frames"):
        frames_covered("x", numbered("list", [0, 1 << 40]), first=0, frames=None)


def test_padded_names_are_a_users_own_and_count_from_where_they_will(tmp_path: Path) -> None:
    people = wanderers(FRAMES, 17, SIZE).only(np.arange(FRAMES) > 0)
    path = WRITERS["alphapose"](tmp_path / "walk", people)
    assert read(path)[1]["first_frame"] == 0  # 1.jpg to 23.jpg, as AlphaPose names the frames of a video
    renamed = json.loads(path.read_text())
    for note in renamed:
        note["image_id"] = f"{int(note['image_id'][:-4]):06d}.jpg"
    path.write_text(json.dumps(renamed))
    with pytest.raises(SkeletonError, match=REFUSED):
        read(path)


# --- units -----------------------------------------------------------------------------------------------------------


def places(joints: np.ndarray) -> np.ndarray:
    """Joints (B, V, 2) as values."""
    return np.concatenate([joints, np.ones((*joints.shape[:2], 1))], axis=-1).astype(np.float32)


@pytest.mark.parametrize("unit", [SHARES, SIGNED, PIXELS])
def test_a_few_joints_anywhere_change_no_unit(unit: str) -> None:
    people = wanderers(FRAMES, 17, SIZE)
    extent = np.array(SIZE[::-1])
    joints = people.joints[0]
    values = places({PIXELS: joints, SHARES: joints / extent, SIGNED: joints / extent * 2 - 1}[unit])
    values[3, 2:5, :2] = -30.0, 5000.0
    values[5, 7, :2] = np.nan
    values[:, 9, :2], values[:, 9, 2] = 12345.0, 0  # not found, wherever it is said to be
    got, told = in_pixels("x", values, stated=None, size=SIZE)
    assert told == unit
    kept = np.ones((FRAMES, 17), dtype=bool)
    kept[3, 2:5] = kept[5, 7] = kept[:, 9] = False
    np.testing.assert_allclose(got[kept][:, :2], joints[kept], atol=1e-3)


def test_units_that_both_fit_are_refused() -> None:
    people = wanderers(FRAMES, 17, SIZE).joints[0] / np.array(SIZE[::-1])
    for shift in (-0.3, -0.4):  # shares that leave the picture at the left, or [-1, 1] a little right of the middle
        with pytest.raises(SkeletonError, match=r"holds shares of the picture or numbers from -1 to 1"):
            in_pixels("x", places(people + np.array([shift, 0])), stated=None, size=SIZE)
    with pytest.raises(SkeletonError, match="shares of the picture or numbers"):
        in_pixels("x", places(people - 0.5), stated=None, size=SIZE)  # shares, counted from the middle
    mixed = places(people)
    mixed[:2, :, :2] *= 300
    with pytest.raises(SkeletonError, match="mixes pixels with shares"):
        in_pixels("x", mixed, stated=None, size=SIZE)


def test_shares_may_leave_the_picture_at_its_right_and_a_little_at_its_left() -> None:
    people = wanderers(FRAMES, 17, SIZE).joints[0] / np.array(SIZE[::-1])
    for shift in (0.3, -people[..., 0].min() - 0.019):
        got, unit = in_pixels("x", places(people + np.array([shift, 0])), stated=None, size=SIZE)
        assert unit == SHARES
        np.testing.assert_allclose(got[..., 0], (people[..., 0] + shift) * 320, atol=1e-3)


@pytest.mark.parametrize("size", [(540, 960), (480, 854), (480, 852), (256, 456), (360, 640), (1080, 1920)])
def test_sides_rounded_to_even_numbers_are_the_same_shape(size: tuple[int, int]) -> None:
    values = places(np.array([[[959.5, 539.5]]]))  # the middle of the picture
    got, _ = in_pixels("x", values, stated=(1080, 1920), size=size)
    np.testing.assert_allclose(got[0, 0, :2], [(size[1] - 1) / 2, (size[0] - 1) / 2], atol=1e-4)


@pytest.mark.parametrize("size", [(256, 340), (1920, 1080), (1088, 1920), (540, 950), (240, 320)])
def test_another_shape_is_refused_with_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(SkeletonError, match=rf"1920 x 1080, expected the video's {size[1]} x {size[0]}"):
        in_pixels("x", places(np.full((1, 17, 2), 500.0)), stated=(1080, 1920), size=size)


# --- persons ---------------------------------------------------------------------------------------------------------

BODY = np.random.default_rng(0).uniform([-0.18, -0.5], [0.18, 0.5], (17, 2))


def crowd(t: int) -> list[np.ndarray]:
    """A large person who moves little, and two small ones who walk by."""
    sway = np.array([2 * np.sin(t / 3), 0])
    return [BODY * 150 + [160, 95] + sway, BODY * 30 + [20 + 8 * t, 50], BODY * 30 + [300 - 8 * t, 55]]


def test_the_large_one_is_the_actor_by_size_and_the_walkers_by_motion(tmp_path: Path) -> None:
    path = results(tmp_path / "crowd.json", *((t, j, [m + 7]) for t in range(FRAMES) for m, j in enumerate(crowd(t))))
    by_size, facts = read(path, persons_by="size")
    assert by_size.body_ids[0] == 7
    assert (facts["bodies"], facts["bodies_left_out"]) == (3, 1)
    assert read(path, persons_by="motion")[0].body_ids.tolist() != by_size.body_ids.tolist()
    alone, facts = read(path, persons_by="size", max_persons=1)
    assert (alone.body_ids.tolist(), facts["bodies_left_out"]) == ([7], 2)
    assert sorted(read(path, persons_by="size", max_persons=3)[0].body_ids.tolist()) == [7, 8, 9]


def test_a_person_is_an_idx_where_the_list_has_it(tmp_path: Path) -> None:
    left, right = BODY * 100 + [80, 100], BODY * 100 + [235, 102]  # two who change sides from frame to frame
    found = [(t, side, idx) for t in range(FRAMES) for side, idx in ((left, [7 + t % 2]), (right, [8 - t % 2]))]
    persons, _ = read(results(tmp_path / "named.json", *found))
    assert sorted(persons.body_ids.tolist()) == [7, 8]
    one = persons.joints[persons.body_ids == 7][0]
    np.testing.assert_allclose(one, np.stack([(right if t % 2 else left) for t in range(FRAMES)]), atol=1e-3)
    for idx in (None, 0, [0.0]):  # as AlphaPose writes it without its tracker: people are followed by their places
        persons, _ = read(results(tmp_path / "unnamed.json", *((t, side, idx) for t, side, _ in found)))
        np.testing.assert_allclose(np.ptp(persons.joints, axis=1), 0, atol=1e-3)


def test_openpose_person_ids_are_persons_where_all_have_one(tmp_path: Path) -> None:
    path = WRITERS["openpose folder"](tmp_path / "walk", wanderers(FRAMES, 25, SIZE, persons=2))
    for t, file in enumerate(sorted(path.iterdir())):
        frame = json.loads(file.read_text())
        for number, person in enumerate(frame["people"]):
            person["person_id"] = [number if t % 2 else 1 - number]  # change from frame to frame
        file.write_text(json.dumps(frame))
    persons, _ = read(path, joints=25, persons_by="size")
    assert sorted(persons.body_ids.tolist()) == [0, 1]
    assert np.abs(np.diff(persons.joints[..., 1].mean(axis=-1), axis=1)).min() > 50


def test_by_score_and_what_is_brief(tmp_path: Path) -> None:
    frames = 60
    sure, unsure = wanderers(frames, 17, SIZE, persons=2).joints
    scores = np.stack([np.full((frames, 17), 0.9), np.full((frames, 17), 0.4)])
    people = Detections(np.stack([sure, unsure]), SIZE, scores, (4, 5))
    path = WRITERS["own npz"](tmp_path / "walk", people)
    assert read(path, frames=frames, persons_by="score", max_persons=1)[0].body_ids.tolist() == [4]
    assert read(path, frames=frames, persons_by="score", min_score=0.5)[1]["bodies"] == 1
    flicker = Detections(people.joints.copy(), SIZE, scores, (4, 5))
    flicker.joints[1, 8:] = np.nan
    path = WRITERS["own npz"](tmp_path / "flicker", flicker)
    for by in ("size", "score", "motion"):
        persons, facts = read(path, frames=frames, persons_by=by)
        assert (persons.body_ids.tolist(), facts["bodies_left_out"]) == ([4], 1)


def test_a_new_body_in_each_frame_takes_no_square(tmp_path: Path) -> None:
    frames, places = 3000, np.random.default_rng(0).uniform((400, 200), (1500, 900), (25, 2))
    joints = "\n".join(f"0.1 0.2 3 0 0 {x:.4f} {y:.4f} 0 0 0 0 2" for x, y in places)
    text = [f"1\n{10**16 + t} 0 1 1 1 1 0 0 0 2\n25\n{joints}" for t in range(frames)]
    path = tmp_path / "many.skeleton"
    path.write_text("\n".join([str(frames), *text]) + "\n")
    persons, facts = persons_of_video(path, frames=frames, height=1080, width=1920, num_joints=25)
    assert (len(persons.joints), facts["bodies"], facts["bodies_left_out"]) == (1, frames, frames - 1)
    every = read_ntu_skeleton(path)
    assert every.body_ids.tolist() == [10**16 + t for t in range(64)]  # of equals those with the smaller IDs


def test_arguments_out_of_range(tmp_path: Path) -> None:
    path = WRITERS["own npz"](tmp_path / "walk", wanderers(FRAMES, 17, SIZE))
    wrong: list[tuple[str, Any]] = [("first_frame", 2), ("min_score", 1.5), ("persons_by", "name"), ("max_persons", 0)]
    for name, value in wrong:
        with pytest.raises(ConfigError, match=f"^{name}: .*got {value}"):
            read(path, **{name: value})


# --- real files ------------------------------------------------------------------------------------------------------


def test_real_ntu_files_give_the_joints_they_always_gave(test_data: Path) -> None:
    read_files = 0
    for path in sorted((test_data / "ntu").glob("skeletons*/**/*.skeleton")):
        if path.name == "S002C001P003R001A005.skeleton":  # the one that is cut off
            continue
        every = read_ntu_skeleton(path)
        persons, facts = persons_of_video(path, frames=every.num_frames, height=1080, width=1920, num_joints=25)
        chosen = choose_persons(every)
        for name in ("joints", "xyz", "scores", "body_ids"):
            np.testing.assert_array_equal(getattr(persons, name), getattr(chosen, name), err_msg=str(path))
        assert facts["units"] == PIXELS
        assert facts["bodies_left_out"] == len(every.body_ids) - len(chosen.body_ids)
        read_files += 1
    assert read_files == 10


def test_real_penn_labels_lie_in_their_picture_but_for_two(test_data: Path) -> None:
    """1021 and 1024 are labelled in pixels of a larger picture than their frames have."""
    told = []
    for path in sorted((test_data / "penn" / "labels").glob("*.mat")):
        from scipy.io import loadmat

        height, width, frames = (int(side) for side in loadmat(path)["dimensions"][0])
        try:
            persons_of_video(path, frames=frames, height=height, width=width, num_joints=13)
        except SkeletonError as error:
            told.append((path.stem, "lie in the picture (480 x 393)" in str(error)))
    assert told == [("1021", True), ("1024", True)]


def test_real_openpose_in_both_forms(test_data: Path) -> None:
    folder = test_data / "paired" / "openpose_S004C002P003R001A055"
    facts = []
    for path in (folder, folder / f"{folder.name[9:]}_rgb.json"):
        persons, fact = persons_of_video(
            path, frames=76, height=1080, width=1920, num_joints=18, persons_by="size", min_score=0.2
        )
        assert topology_of(path) == "openpose18"
        assert persons.joints.shape == (2, 76, 18, 2)
        facts.append([fact[name] for name in ("units", "first_frame", "bodies", "bodies_left_out", "pose_frames")])
    assert facts == [["shares", 0, 4, 2, 76], ["shares", 1, 4, 2, 76]]


@pytest.mark.parametrize(("joints", "name"), [(26, "Halpe"), (33, "MediaPipe"), (133, "COCO-WholeBody"), (16, "MPII")])
def test_other_topologies_are_named(joints: int, name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "walk.npz", joints=wanderers(FRAMES, joints, SIZE).joints)
    with pytest.raises(SkeletonError, match=rf"got {joints} joints, perhaps {name}'s, expected 13 \(penn13\)"):
        topology_of(tmp_path / "walk.npz")


def test_the_same_number_of_joints_in_another_order_is_refused(tmp_path: Path) -> None:
    path = WRITERS["openpose folder"](tmp_path / "walk", wanderers(FRAMES, 25, SIZE))
    assert read(path, joints=25, persons_by="size", topology="openpose25")[1]["topology"] == "openpose25"
    with pytest.raises(SkeletonError, match=r"has another topology \(got openpose25, expected ntu25\)"):
        read(path, joints=25, topology="ntu25")
    unnamed = WRITERS["own npz"](tmp_path / "own", wanderers(FRAMES, 17, SIZE))
    assert read(unnamed, topology="coco17")[1]["topology"] == ""


def test_an_array_of_pyskl_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "walk.npz", keypoint=np.ones((1, 24, 17, 2)), keypoint_score=np.ones(3), total_frames=24)
    with pytest.raises(SkeletonError, match="looks like a sample of PYSKL or MMAction2"):
        topology_of(tmp_path / "walk.npz")

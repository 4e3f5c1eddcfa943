"""OpenPose, COCO and one's own files against the numbers written into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SkeletonError
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.read import read_skeleton, topology_of

V = 18


def person(seed: int, at: float = 300.0) -> list[list[float]]:
    """x, y, score of 18 joints, of which one was not found."""
    rng = np.random.default_rng(seed)
    joints = np.column_stack([rng.uniform(at, at + 80, V), rng.uniform(100, 400, V), rng.uniform(0.1, 1, V)]).round(3)
    joints[seed % V] = 0
    return joints.tolist()


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def openpose(people: list[list[list[float]]], *, key: str = "pose_keypoints_2d") -> dict[str, Any]:
    return {"version": 1.3, "people": [{"person_id": [-1], key: [x for joint in one for x in joint]} for one in people]}


def assert_joints(skeleton: Any, slot: int, frame: int, expected: list[list[float]]) -> None:
    for joint, (x, y, score) in enumerate(expected):
        got = skeleton.joints[slot, frame, joint]
        assert skeleton.scores[slot, frame, joint] == np.float32(score)
        assert np.isnan(got).all() if score == 0 else got.tolist() == [np.float32(x), np.float32(y)]


@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
@pytest.mark.parametrize("first", [0, 1])
def test_openpose_folder(tmp_path: Path, key: str, first: int) -> None:
    left, right = person(1), person(2, at=900)
    for frame, people in {0: [right, left], 1: [], 3: [left], 10: [left, right]}.items():
        write(tmp_path / "clip" / f"clip_7_{frame + first:012}_keypoints.json", openpose(people, key=key))
    (tmp_path / "clip" / "notes.txt").write_text("not a frame")
    skeleton = read_skeleton(tmp_path / "clip")
    assert skeleton.present.tolist() == [[t in (0, 3, 10) for t in range(11)], [t in (0, 10) for t in range(11)]]
    assert_joints(skeleton, 0, 3, left)
    assert_joints(skeleton, 1, 10, right)
    assert topology_of(tmp_path / "clip") == "openpose18"


def test_real_openpose_in_both_forms(test_data: Path) -> None:
    folder = test_data / "paired" / "openpose_S004C002P003R001A055"
    combined = folder / "S004C002P003R001A055_rgb.json"
    frames, video = (read_skeleton(path, size=(1080, 1920)) for path in (folder, combined))
    assert frames.joints.shape == video.joints.shape == (4, 76, 18, 2)
    np.testing.assert_array_equal(frames.present, video.present)
    assert frames.present.sum() == 69 * 2 + 6 * 3 + 4
    both = (frames.scores > 0) & (video.scores > 0)
    assert both.sum() >= 0.999 * (frames.scores > 0).sum()
    np.testing.assert_allclose(frames.joints[both], video.joints[both], atol=1.0)  # the one is rounded to 1/1000
    first = json.loads((folder / "S004C002P003R001A055_rgb_0.json").read_text())
    for slot in (0, 1):  # the first frame lists them from left to right
        found = np.array(first[slot]["joints"])
        places = np.where(found < 0, np.nan, found * [1920, 1080])
        np.testing.assert_allclose(frames.joints[slot, 0], places, rtol=1e-6)
    people = choose_persons(frames)
    assert people.body_ids.tolist() == [0, 1]
    assert people.present.sum(axis=1).tolist() == [76, 74]


def test_shares_of_the_picture_need_its_size(test_data: Path) -> None:
    with pytest.raises(SkeletonError, match="shares of the picture"):
        read_skeleton(test_data / "paired" / "openpose_S004C002P003R001A055")


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SkeletonError, match="holds no pose files"):
        read_skeleton(tmp_path / "empty")
    write(tmp_path / "late" / "5.json", openpose([person(1)]))
    with pytest.raises(SkeletonError, match="does not tell whether its frames count from 0 or from 1"):
        read_skeleton(tmp_path / "late")
    write(tmp_path / "mixed" / "0.json", openpose([person(1), person(2)[:-1]]))
    with pytest.raises(SkeletonError, match=r"different numbers of joints \(got 17 in frame 0, 18 in frame 0"):
        read_skeleton(tmp_path / "mixed")
    for number, content in enumerate(
        [{}, 3, {"people": 3}, {"people": [{}]}, [[1]], {"people": [{"joints": [["a", 1]]}]}]
    ):
        folder = tmp_path / f"odd{number}"
        write(folder / "x_0.json", content)
        with pytest.raises(SkeletonError, match=r"x_0\.json: is of another form"):
            read_skeleton(folder)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "0.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2')
    with pytest.raises(SkeletonError, match=r"0\.json: cannot be read as JSON"):
        read_skeleton(tmp_path / "cut")


def test_one_frame_of_openpose_is_not_a_video(tmp_path: Path) -> None:
    with pytest.raises(SkeletonError, match="is a single frame"):
        read_skeleton(write(tmp_path / "clip.json", openpose([person(1)])))


def test_openpose_with_25_joints(tmp_path: Path) -> None:
    body = [[10.0 * k, 5.0 * k, 0.5] for k in range(25)]
    write(tmp_path / "clip" / "0.json", openpose([body]))
    assert read_skeleton(tmp_path / "clip").num_joints == 25
    assert topology_of(tmp_path / "clip") == "openpose25"


def coco(*, tracks: bool = False, flags: bool = False) -> dict[str, Any]:
    """Two people over frames 1, 2 and 4 of 5, the right one listed first."""
    notes = []
    for image, (frame, people) in enumerate({1: (2, 1), 2: (1,), 4: (1, 2)}.items()):
        for seed in people:
            joints = person(seed, at=300.0 * seed)[:17]
            if flags:
                joints = [[x, y, float(k % 3)] for k, (x, y, _) in enumerate(joints)]
            note = {"image_id": image, "category_id": 1, "keypoints": [x for joint in joints for x in joint]}
            notes.append(note | ({"track_id": 40 + seed} if tracks else {}) | {"frame": frame})
    images = [
        {"id": image, "file_name": f"walk_9/{frame:05}.png", "nframes": 5} for image, frame in enumerate((1, 2, 4))
    ]
    return {"images": images, "annotations": notes, "categories": []}


@pytest.mark.parametrize("tracks", [False, True])
def test_coco(tmp_path: Path, tracks: bool) -> None:
    path = write(tmp_path / "walk_9.json", coco(tracks=tracks))
    skeleton = read_skeleton(path)
    assert skeleton.body_ids.tolist() == ([41, 42] if tracks else [0, 1])
    assert skeleton.present.tolist() == [[True, True, False, True, False], [True, False, False, True, False]]
    assert_joints(skeleton, 0, 1, person(1, at=300)[:17])
    assert_joints(skeleton, 1, 3, person(2, at=600)[:17])
    assert topology_of(path) == "coco17"


def test_coco_flags_are_scores_of_0_half_and_1(tmp_path: Path) -> None:
    skeleton = read_skeleton(write(tmp_path / "walk.json", coco(flags=True)))
    assert skeleton.scores[0, 0].tolist() == [k % 3 / 2 for k in range(17)]


def test_coco_results(tmp_path: Path) -> None:
    results = [
        {"image_id": f"{frame}.jpg", "keypoints": np.ravel(person(1)[:17]).tolist(), "score": 2.9}
        for frame in (0, 1, 2)
    ]
    skeleton = read_skeleton(write(tmp_path / "results.json", results))
    assert skeleton.present.tolist() == [[True, True, True]]
    assert_joints(skeleton, 0, 2, person(1)[:17])


def test_real_coco_of_several_videos_is_refused_and_of_one_is_read(tmp_path: Path, test_data: Path) -> None:
    path = test_data / "paired" / "mmpose_jhmdb" / "test_jhmdb_sub1.json"
    with pytest.raises(SkeletonError, match="holds 3 videos"):
        read_skeleton(path)
    content = json.loads(path.read_text())
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:1]
    own = write(tmp_path / "one.json", content)
    skeleton = read_skeleton(own)
    assert skeleton.joints.shape == (1, 37, 15, 2)
    assert skeleton.present[0].tolist() == [True] + [False] * 36
    keypoints = np.array(content["annotations"][0]["keypoints"], dtype=np.float32).reshape(15, 3)
    np.testing.assert_array_equal(skeleton.joints[0, 0], keypoints[:, :2])
    assert (skeleton.scores[0, 0] == 1).all()
    assert topology_of(own) == "jhmdb15"


def test_coco_that_does_not_fit(tmp_path: Path) -> None:
    twice = coco(tracks=True)
    twice["annotations"][0]["track_id"] = 41
    with pytest.raises(SkeletonError, match="body 41 twice in frame 1"):
        read_skeleton(write(tmp_path / "twice.json", twice))
    stray = coco()
    stray["annotations"][0]["image_id"] = 99
    with pytest.raises(SkeletonError, match="another form"):
        read_skeleton(write(tmp_path / "stray.json", stray))
    nameless = coco()
    nameless["images"][0]["file_name"] = "frame.png"
    with pytest.raises(SkeletonError, match="no frame number"):
        read_skeleton(write(tmp_path / "nameless.json", nameless))

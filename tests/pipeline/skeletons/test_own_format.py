"""The .npz and .json form for one's own skeletons: what was saved is what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SkeletonError
from pipeline.skeletons.read import read_skeleton, topology_of

RNG = np.random.default_rng(0)
JOINTS = RNG.uniform(0, 500, (2, 3, 17, 2)).astype(np.float32)
JOINTS[0, 1] = np.nan
JOINTS[1, 2, 5, 0] = np.nan


def save(folder: Path, suffix: str, **arrays: Any) -> Path:
    path = folder / f"clip{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
        return path

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return plain(value.tolist())
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and np.isnan(value) else value

    path.write_text(json.dumps({name: plain(value) for name, value in arrays.items()}))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_joints_alone(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path, suffix, joints=JOINTS)
    skeleton = read_skeleton(path)
    np.testing.assert_array_equal(skeleton.scores, np.isfinite(JOINTS).all(axis=-1))
    usable = skeleton.scores > 0
    np.testing.assert_array_equal(skeleton.joints[usable], JOINTS[usable])
    assert skeleton.present.tolist() == [[True, False, True], [True, True, True]]
    assert skeleton.body_ids.tolist() == [0, 1]
    assert topology_of(path) == "coco17"


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_everything_a_file_may_hold(tmp_path: Path, suffix: str) -> None:
    scores = RNG.uniform(0.1, 1, (2, 3, 17)).astype(np.float32)
    xyz = RNG.normal(size=(2, 3, 17, 3)).astype(np.float32)
    ids = [72057594037931101, 72057594037931102]
    present = np.array([[1, 1, 1], [1, 1, 0]])
    path = save(
        tmp_path, suffix, joints=JOINTS, scores=scores, xyz=xyz, present=present, body_ids=ids, topology="penn13"
    )
    skeleton = read_skeleton(path)
    assert skeleton.body_ids.tolist() == ids
    np.testing.assert_array_equal(skeleton.present, present > 0)
    there = np.isfinite(JOINTS).all(axis=-1) & (present > 0)[..., None]
    np.testing.assert_array_equal(skeleton.scores, np.where(there, scores, 0))
    np.testing.assert_array_equal(skeleton.xyz[1, :2], xyz[1, :2])
    assert np.isnan(skeleton.xyz[1, 2]).all()
    assert topology_of(path) == "penn13"


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_one_person_needs_no_first_axis(tmp_path: Path, suffix: str) -> None:
    scores = RNG.uniform(0.1, 1, (3, 17)).astype(np.float32)
    skeleton = read_skeleton(save(tmp_path, suffix, joints=JOINTS[1], scores=scores, present=[True, False, True]))
    assert skeleton.present.tolist() == [[True, False, True]]
    np.testing.assert_array_equal(skeleton.joints[0, 0], JOINTS[1, 0])
    np.testing.assert_array_equal(skeleton.scores[0, 0], scores[0])


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"points": JOINTS}, "not a skeleton of known names"),
        ({"joints": JOINTS, "score": JOINTS}, "not a skeleton of known names"),
        ({"joints": JOINTS[..., 0, 0]}, "wrong joints"),
        ({"joints": np.zeros((3, 17, 3))}, "wrong joints"),
        ({"joints": JOINTS, "scores": np.ones((2, 3, 16))}, "wrong scores"),
        ({"joints": JOINTS, "xyz": np.ones((2, 3, 17, 2))}, "wrong xyz"),
        ({"joints": JOINTS, "present": np.ones((3, 2))}, "wrong present"),
        ({"joints": JOINTS, "body_ids": [1]}, "wrong body_ids"),
        ({"joints": JOINTS, "body_ids": [1, 1]}, "wrong body_ids"),
        ({"joints": JOINTS, "body_ids": [1.0, 2.0]}, "wrong body_ids"),
        ({"joints": JOINTS, "body_ids": [1, 1 << 63]}, "wrong body_ids"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_what_does_not_fit_is_named(tmp_path: Path, suffix: str, arrays: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SkeletonError, match=complaint):
        read_skeleton(save(tmp_path, suffix, **arrays))


def test_ragged_and_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "ragged.json").write_text('{"joints": [[[1, 2], [3]]]}')
    with pytest.raises(SkeletonError, match="not an array of numbers"):
        read_skeleton(tmp_path / "ragged.json")
    data = save(tmp_path, ".npz", joints=JOINTS).read_bytes()
    cut = tmp_path / "cut.npz"
    for end in range(0, len(data) - 1, 11):
        cut.write_bytes(data[:end])
        with pytest.raises(SkeletonError, match=r"cut\.npz"):
            read_skeleton(cut)
    np.save(tmp_path / "bare.npy", JOINTS)
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(SkeletonError, match=r"bare\.npz"):
        read_skeleton(tmp_path / "bare.npz")
    np.savez(tmp_path / "pickled.npz", joints=np.array([{}], dtype=object))
    with pytest.raises(SkeletonError, match="cannot be read as"):
        read_skeleton(tmp_path / "pickled.npz")


def test_unknown_suffix_and_joint_count(tmp_path: Path) -> None:
    with pytest.raises(SkeletonError, match="unknown pose format"):
        read_skeleton(tmp_path / "clip.pkl")
    with pytest.raises(SkeletonError, match=r"no known topology \(got 14 joints"):
        topology_of(save(tmp_path, ".npz", joints=np.ones((3, 14, 2))))

"""Penn Action and JHMDB labels against what scipy finds in them, joint by joint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pipeline.errors import SkeletonError
from pipeline.manifest import class_names
from pipeline.skeletons.mat import read_penn_facts, read_penn_label
from pipeline.skeletons.person_choice import choose_persons
from pipeline.skeletons.read import read_skeleton, topology_of


def label(**changes: Any) -> dict[str, Any]:
    """The variables of a made-up Penn Action label of four frames."""
    rng = np.random.default_rng(0)
    facts = {"action": "bowl", "train": 1, "nframes": 4, "dimensions": [[270, 480, 4]], "pose": "back"}
    facts |= {"x": rng.uniform(1, 480, (4, 13)), "y": rng.uniform(1, 270, (4, 13)), "visibility": np.ones((4, 13))}
    return facts | changes


def write(path: Path, facts: dict[str, Any]) -> Path:
    savemat(path, facts)
    return path


def test_every_real_penn_label_joint_by_joint(test_data: Path) -> None:
    paths = sorted((test_data / "penn" / "labels").glob("*.mat"))
    assert len(paths) == 33
    narrow = 0
    for path in paths:
        facts = loadmat(path)
        skeleton = read_penn_label(path)
        frames = int(facts["nframes"][0, 0])
        assert skeleton.joints.shape == (1, frames, 13, 2)
        assert skeleton.present.all()
        assert np.isnan(skeleton.xyz).all()
        narrow += facts["x"].dtype.kind == "u"
        for t in range(frames):
            for v in range(13):
                if facts["visibility"][t, v]:
                    expected = [float(facts["x"][t, v]), float(facts["y"][t, v])]
                    np.testing.assert_array_equal(skeleton.joints[0, t, v], np.float32(expected))
                else:
                    assert np.isnan(skeleton.joints[0, t, v]).all()
                assert skeleton.scores[0, t, v] == facts["visibility"][t, v]
    assert narrow > 3  # labels in 8 and 16 bits are among them


def test_penn_oddities(test_data: Path) -> None:
    labels = test_data / "penn" / "labels"
    hidden = read_penn_label(labels / "1516.mat")
    assert not hidden.scores.any()
    assert choose_persons(hidden).joints.shape == (0, 68, 13, 2)
    outside = read_penn_label(labels / "1021.mat")
    assert float(np.nanmax(outside.joints[..., 0])) > 480  # the picture ends there
    assert read_penn_label(labels / "1154.mat").num_frames == 72  # of which the box knows 71


def test_penn_facts(test_data: Path) -> None:
    labels = test_data / "penn" / "labels"
    assert read_penn_facts(labels / "0001.mat") == ("baseball_pitch", False)
    assert read_penn_facts(labels / "2191.mat") == ("tennis_serve", True)
    assert {read_penn_facts(path)[0] for path in labels.glob("*.mat")} <= set(class_names("penn-action"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"nframes": 5}, "has a wrong x"),
        ({"y": np.ones((4, 14))}, "has a wrong y"),
        ({"visibility": "yes"}, "has a wrong visibility"),
        ({"nframes": [1, 2]}, "has a wrong nframes"),
    ],
)
def test_penn_labels_that_disagree_are_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SkeletonError, match=complaint):
        read_penn_label(write(tmp_path / "0001.mat", label(**changes)))


def test_penn_facts_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SkeletonError, match="no class or no split"):
        read_penn_facts(write(tmp_path / "0001.mat", label(train=0)))
    with pytest.raises(SkeletonError, match="lacks variables"):
        read_penn_facts(write(tmp_path / "0002.mat", {"x": 1}))


def test_damaged_files_are_refused_wherever_they_end(tmp_path: Path, test_data: Path) -> None:
    data = (test_data / "penn" / "labels" / "1114.mat").read_bytes()
    path = tmp_path / "1114.mat"
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(SkeletonError, match=r"1114\.mat"):
            read_penn_label(path)
    with pytest.raises(SkeletonError, match="cannot be read"):
        read_penn_label(tmp_path / "absent.mat")


def test_jhmdb_joint_by_joint(test_data: Path) -> None:
    path = test_data / "paired" / "jhmdb_goalkeeper" / "joint_positions.mat"
    places = loadmat(path)["pos_img"]
    skeleton = read_skeleton(path)
    assert skeleton.joints.shape == (1, 40, 15, 2)
    for t in range(40):
        for v in range(15):
            np.testing.assert_array_equal(skeleton.joints[0, t, v], places[:, v, t].astype(np.float32))
    assert (skeleton.scores == 1).all()


def test_jhmdb_of_one_frame_and_of_another_shape(tmp_path: Path) -> None:
    single = read_skeleton(write(tmp_path / "one.mat", {"pos_img": np.arange(30.0).reshape(2, 15)}))
    np.testing.assert_array_equal(single.joints[0, 0, 14], [14, 29])
    with pytest.raises(SkeletonError, match="has a wrong pos_img"):
        read_skeleton(write(tmp_path / "two.mat", {"pos_img": np.zeros((15, 2, 3))}))


def test_the_two_are_told_apart(tmp_path: Path, test_data: Path) -> None:
    assert topology_of(test_data / "penn" / "labels" / "0001.mat") == "penn13"
    assert topology_of(test_data / "paired" / "jhmdb_goalkeeper" / "joint_positions.mat") == "jhmdb15"
    with pytest.raises(SkeletonError, match="is not a known label"):
        read_skeleton(write(tmp_path / "other.mat", {"q": 1}))

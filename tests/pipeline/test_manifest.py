"""Split rules against the published counts, topologies against their joint names, facts against their lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ntu_corpus import ntu_names

from pipeline.datasets.ntu import record_from_name
from pipeline.errors import ConfigError
from pipeline.manifest import DATASETS, TOPOLOGIES, class_names, missing, protocols, split, topology
from pipeline.records import VideoRecord
from pipeline.views import mirrored_order


@pytest.fixture(scope="module")
def records() -> list[VideoRecord]:
    return [record_from_name(name) for name in ntu_names()]


@pytest.mark.parametrize(
    ("dataset", "protocol", "everything", "without_missing"),
    [
        ("ntu60", "xsub", (40320, 16560), (40091, 16487)),
        ("ntu60", "xview", (37920, 18960), (37646, 18932)),
        ("ntu120", "xsub", (63360, 51120), (63026, 50919)),
        ("ntu120", "xset", (54720, 59760), (54468, 59477)),
    ],
)
def test_ntu_splits_have_the_published_counts(
    records: list[VideoRecord],
    dataset: str,
    protocol: str,
    everything: tuple[int, int],
    without_missing: tuple[int, int],
) -> None:
    own = [record for record in records if dataset == "ntu120" or record.setup <= 17]
    usable = [record for record in own if record.clip_id not in missing(dataset)]
    for chosen, counts in ((own, everything), (usable, without_missing)):
        sides = split(chosen, dataset, protocol)
        assert (len(sides["train"]), len(sides["test"])) == counts
        assert sorted(record.clip_id for side in sides.values() for record in side) == [r.clip_id for r in chosen]


def test_ntu_one_shot_has_one_exemplar_of_each_novel_class(records: list[VideoRecord]) -> None:
    sides = split(records, "ntu120", "oneshot")
    novel = {6 * k for k in range(20)}
    assert {record.label for record in sides["train"]} == set(range(120)) - novel
    assert {record.label for record in sides["test"]} == novel
    known = {record.clip_id for record in records}
    exemplars = json.loads((Path(__file__).resolve().parents[2] / "manifests/ntu120/splits.json").read_text())[
        "oneshot"
    ]["exemplars"]
    made = [record_from_name(name) for name in exemplars]
    assert [record.label for record in made] == sorted(novel)
    assert split(made, "ntu120", "oneshot") == {"train": [], "exemplars": made, "test": []}
    present = sum(record.clip_id in known for record in made)
    assert [len(side) for side in sides.values()] == [95400, present, 19080 - present]


def test_sides_keep_the_order_given(records: list[VideoRecord]) -> None:
    few = records[5000:0:-97]
    for side in split(few, "ntu60", "xsub").values():
        assert side == [record for record in few if record in side]


def test_facts_equal_the_official_lists(test_data: Path) -> None:
    lists = test_data / "ntu" / "lists"
    facts = json.loads((lists / "ntu_splits_and_fields.json").read_text())
    for dataset, name in (("ntu60", "NTU_RGBD_samples"), ("ntu120", "NTU_RGBD120_samples")):
        text = (lists / f"{name}_with_missing_skeletons.txt").read_text()
        assert missing(dataset) == {line for line in text.split() if line.startswith("S0")}
        assert len(missing(dataset)) == facts[dataset]["missing_skeletons"]
        rules = json.loads((Path(__file__).resolve().parents[2] / "manifests" / dataset / "splits.json").read_text())
        assert rules["xsub"]["train_subjects"] == facts[dataset]["xsub_train_subjects"]
    assert missing("ntu60") < missing("ntu120")
    assert class_names("ntu120") == tuple((lists / "label_map_ntu120_pyskl.txt").read_text().splitlines())
    assert class_names("ntu60") == tuple((lists / "label_map_ntu60_mmaction2.txt").read_text().splitlines())
    assert topology("ntu25").joint_names == tuple(facts["joint_names_1based"])


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_topologies_are_whole_and_mirror_left_and_right(name: str) -> None:
    figure = topology(name)
    joints = figure.joint_names
    assert len(joints) == len(set(joints)) == int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    named = {index for index, joint in enumerate(joints) if "left" in joint}
    assert {left for left, _ in figure.pairs} == named
    for left, right in figure.pairs:
        assert joints[right] == joints[left].replace("left", "right")
    mirror = mirrored_order(len(joints), figure.pairs).tolist()
    assert [mirror[mirror[joint]] for joint in range(len(joints))] == list(range(len(joints)))
    bones = {frozenset(bone) for bone in figure.bones}
    assert len(bones) == len(figure.bones)
    assert {frozenset((mirror[a], mirror[b])) for a, b in figure.bones} == bones
    reached = {0}
    for _ in joints:
        reached |= {joint for bone in bones if bone & reached for joint in bone}
    assert reached == set(range(len(joints)))


@pytest.mark.parametrize(("dataset", "count"), [("ntu60", 60), ("ntu120", 120), ("penn-action", 15)])
def test_classes(dataset: str, count: int) -> None:
    assert len(set(class_names(dataset))) == len(class_names(dataset)) == count


def test_assigned_sides_are_kept_and_missing_ones_left_out() -> None:
    made = [
        VideoRecord(clip_id=str(k), key=str(k), label=0, split=side) for k, side in enumerate(("test", "train", ""))
    ]
    assert split(made, "penn-action", "official") == {"train": [made[1]], "test": [made[0]]}
    assert split(made, "folder", "given") == {"train": [made[1]], "test": [made[0]]}


def test_unknown_names_are_refused_with_those_known() -> None:
    with pytest.raises(ConfigError, match=r"protocol: is not a protocol of ntu60 \(got xset, expected xsub \| xview"):
        split([], "ntu60", "xset")
    with pytest.raises(ConfigError, match=r"ntu60 \| ntu120"):
        protocols("ntu90")
    with pytest.raises(ConfigError, match="openpose18"):
        topology("ntu24")
    with pytest.raises(ConfigError, match="listing"):
        class_names("folder")


def test_every_data_set_has_protocols() -> None:
    assert {dataset: protocols(dataset) for dataset in DATASETS} == {
        "ntu60": ("xsub", "xview"),
        "ntu120": ("xsub", "xset", "oneshot"),
        "penn-action": ("official",),
        "folder": ("given",),
        "synthetic": ("xsub", "xview"),
    }

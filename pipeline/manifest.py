"""Facts about data sets: class names, topologies, missing lists, and the protocols that split them.

In: the files of the installed package `manifests`, and records. Out: names, frozen values, records on two sides.
It reads no data set; `pipeline.datasets` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pipeline.errors import ConfigError
from pipeline.records import VideoRecord

DATASETS = ("ntu60", "ntu120", "penn-action", "folder", "synthetic")
TOPOLOGIES = ("ntu25", "penn13", "coco17", "openpose18", "openpose25", "jhmdb15")


@dataclass(frozen=True, slots=True)
class Topology:
    """The joints of a skeleton: V names, pairs to swap under a mirror, and bones to draw.

    Attributes:
        joint_names: V names, in the order of the files.
        pairs: (left, right) joint indices; joints in no pair lie on the body's axis.
        bones: (from, to) joint indices; together they are one connected figure.
    """

    name: str
    joint_names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    bones: tuple[tuple[int, int], ...]


@cache
def topology(name: str) -> Topology:
    """The topology of that name. ConfigError, naming all topologies, if there is none."""
    if name not in TOPOLOGIES:
        raise ConfigError(name, "is not a known skeleton topology", expected=" | ".join(TOPOLOGIES))
    facts = _load("topologies", f"{name}.json")
    return Topology(
        name=name,
        joint_names=tuple(facts["joint_names"]),
        pairs=tuple((left, right) for left, right in facts["pairs"]),
        bones=tuple((start, end) for start, end in facts["bones"]),
    )


@cache
def class_names(dataset: str) -> tuple[str, ...]:
    """The class names of a data set, by label. ConfigError for "folder", whose classes are the user's."""
    _require_dataset(dataset)
    if not _has(dataset, "actions.json"):
        raise ConfigError(dataset, "has no class names of its own", remedy="use those of its listing")
    return tuple(_load(dataset, "actions.json"))


@cache
def missing(dataset: str) -> frozenset[str]:
    """Ids that the data set's authors list as having missing or incomplete skeletons (empty if they list none)."""
    _require_dataset(dataset)
    if not _has(dataset, "missing.txt"):
        return frozenset()
    return frozenset((files("manifests") / dataset / "missing.txt").read_text(encoding="utf-8").split())


def protocols(dataset: str) -> tuple[str, ...]:
    """The protocols that `split` knows for a data set; the first is its usual one."""
    return tuple(_rules(dataset))


def split(records: Iterable[VideoRecord], dataset: str, protocol: str) -> dict[str, list[VideoRecord]]:
    """The records of each side of a protocol, in the order given.

    Excluded records are split too: filter them first to get the published counts with or without the missing list. A
    record without a side of its own (`split == ""` under `official` and `given`) is on neither side.

    Returns:
        {"train": [...], "test": [...]}, and "val" where the data assigns records to it. `oneshot` (NTU RGB+D 120) has
        three: "train" holds the auxiliary classes, "exemplars" one clip of each novel class, "test" the other clips of
        the novel classes.

    Raises:
        ConfigError: an unknown data set or protocol, naming those known.
    """
    rules = _rules(dataset)
    if protocol not in rules:
        raise ConfigError("protocol", f"is not a protocol of {dataset}", got=protocol, expected=" | ".join(rules))
    rule = rules[protocol]
    names = ("train", "exemplars", "test") if "exemplars" in rule else ("train", "test")
    sides: dict[str, list[VideoRecord]] = {name: [] for name in names}
    for record in records:
        if side := _side(record, rule):
            sides.setdefault(side, []).append(record)
    return sides


def _side(record: VideoRecord, rule: dict[str, Any]) -> str:
    for field in ("subject", "camera", "setup"):
        if f"train_{field}s" in rule:
            return "train" if getattr(record, field) in rule[f"train_{field}s"] else "test"
    if "novel_actions" in rule:
        if record.label + 1 not in rule["novel_actions"]:
            return "train"
        return "exemplars" if record.clip_id in rule["exemplars"] else "test"
    assert rule == {"assigned": True}, rule
    return record.split


@cache
def _rules(dataset: str) -> dict[str, dict[str, Any]]:
    _require_dataset(dataset)
    rules: dict[str, dict[str, Any]] = _load(dataset, "splits.json")
    return rules


def _require_dataset(dataset: str) -> None:
    if dataset not in DATASETS:
        raise ConfigError(dataset, "is not a known data set", expected=" | ".join(DATASETS))


def _has(folder: str, name: str) -> bool:
    return (files("manifests") / folder / name).is_file()


def _load(folder: str, name: str) -> Any:
    return json.loads((files("manifests") / folder / name).read_text(encoding="utf-8"))

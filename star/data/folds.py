"""Training clips dealt into groups, one of which is held out of training to validate: `data.validation`, `data.fold`.

In: the records of a training side and a share. Out: for each record the number of its group. The groups are always the
same for a store and a protocol, whatever a run's seed, so that seeds and variants are compared on the same clips. A
subject is in one group alone; where subjects are unknown, a performance is. Reads no tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.errors import ConfigError
from pipeline.records import UNKNOWN, VideoRecord, keyed_rng

Unit = tuple[int] | tuple[int, str]  # a subject, or label and performance


def folds_of(records: Sequence[VideoRecord], validation: float) -> np.ndarray:
    """(n,) int64, the group of each record of a training side.

    There are round(1 / validation) groups, or as many as there are subjects (performances, where subjects are unknown).
    Subjects are dealt so that groups have about equal numbers of clips; performances class by class, so that groups
    have about equal numbers of each class.

    Raises:
        ConfigError: all clips are of one subject or performance, so that nothing would be left to train on.
    """
    assert 0 < validation < 1
    clips = Counter(unit_of(record) for record in records)
    groups = round(min(1 / validation, len(clips)))
    if groups < 2:
        raise ConfigError(
            "data.validation",
            "nothing would be left to train on: all training clips are of one subject",
            got=f"{len(records)} clips",
            expected="at least two subjects",
            remedy="train on all of them with `data.validation=0`",
        )
    numbers = _dealt(clips, groups)
    return np.asarray([numbers[unit_of(record)] for record in records], np.int64)


def unit_of(record: VideoRecord) -> Unit:
    """What is never divided: a subject; where that is unknown a performance, which several cameras may have seen."""
    if record.subject != UNKNOWN:
        return (record.subject,)
    seen_once = record.replication == UNKNOWN
    return record.label, record.clip_id if seen_once else f"{record.setup}/{record.replication}"


def _dealt(clips: Mapping[Unit, int], groups: int) -> dict[Unit, int]:
    """Subjects, those with most clips first, each to the group with the fewest clips so far; then the performances of
    one class after another, in random order, to the groups in turn."""
    numbers: dict[Unit, int] = {}
    filled = [0] * groups
    for subject in sorted((unit for unit in clips if len(unit) == 1), key=lambda unit: (-clips[unit], unit)):
        numbers[subject] = filled.index(min(filled))
        filled[numbers[subject]] += clips[subject]
    performances = sorted(unit for unit in clips if len(unit) == 2)
    turn = 0
    for label in sorted({unit[0] for unit in performances}):
        own = [unit for unit in performances if unit[0] == label]
        for i in keyed_rng(0, "validation", label).permutation(len(own)).tolist():
            numbers[own[i]] = turn % groups
            turn += 1
    return numbers

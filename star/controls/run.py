"""Controls: what simpler methods reach on the clips of a run. A model that they beat has not found what is there.

In: a store, a run's config. Out: `Control`s: chance, joint coordinates alone, one frame alone, linear models on pooled
and on all tokens, and those on shuffled labels. Strengths are chosen on the run's validation side or, where it has
none, by holding out training subjects in turn; the test side is read only after all choices, and only if asked for.
All frames of the store are seen, in one view, whatever the run does: this is about the data; one control sees the
tokens as the run's model reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.records import keyed_rng
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig
from star.controls.gru import SETTINGS, gru_probabilities, gru_settings
from star.controls.inputs import AS_STORED, Input, Pictures, Reading, coordinates, pixels, tokens, tokens_as_read
from star.controls.kept import Control, kept_controls, name_of, save_controls
from star.controls.linear import METHODS, Trial, validated
from star.controls.sides import Fold, Side, folds
from star.coordinates import CHANNELS, MOST_SIZES
from star.data.dataset import TokenDataset
from star.data.splits import open_splits, train_split
from star.runs.store_identity import clips_digest

# By the config's `model.tokens`.
KINDS: dict[str, list[tuple[str, ...]]] = {
    "jm": [("jm",)],
    "gg": [("gg",)],
    "both": [("jm",), ("gg",), ("gg", "jm")],
}
Progress = Callable[[str], None]
Only = Callable[[str, str], bool]  # of a method and what it sees
CHANCE, GRU = "most frequent class", "GRU"


@dataclass(frozen=True)
class Design:
    """Which clips are learnt from, and which decide.

    Attributes:
        held: scored for every choice: the validation side, or all training clips.
        folds: (indices into `train` to learn from, indices into `held` to score).
        test: None where it is not to be read.
    """

    train: Side
    held: Side
    folds: list[Fold]
    test: Side | None
    seed: int

    @property
    def how(self) -> str:
        """What the choices rest on."""
        if len(self.folds) == 1:
            return "on the validation side"
        return f"by {len(self.folds)} parts of the training clips, each held out in turn"


def controls(
    store: TokenStore | Path | str,
    config: TrainConfig,
    *,
    test: bool,
    only: Only | None = None,
    out: Path | None = None,
    frames: Pictures | None = None,
    progress: Progress | None = None,
) -> list[Control]:
    """All controls on the clips of a run of this config; see `controls_on`.

    Args:
        only: which are computed; None: all.
        out: a folder that keeps the results; where it holds those of the same clips and tokens they are returned, and
            only the others are computed.
        frames: gives a grey picture (n, h, w) uint8 of each row of the store; None: no control sees pixels.
        progress: called with each control's name before it is computed.

    Raises:
        As `star.data.splits.open_splits`; DataError: a token is not finite, or no clips can be held out.
    """
    every_frame = replace(config, data=replace(config.data, frame_step=1))
    splits = open_splits(store, every_frame, in_memory=False)
    design = design_of(splits.train, splits.val, splits.test, seed=config.seed)
    reading = Reading.of(config)
    work = _Work(frames=frames, kinds=config.model.tokens, reading=reading, only=only)
    inputs = _inputs(design)
    kept = {} if out is None else {(each.method, each.sees): each for each in kept_controls(out, inputs)}
    wanted = [(method, task.sees) for task in work.tasks(design.train) for method in task.methods]
    missing = {each for each in wanted if each not in kept or (test and kept[each].test is None)}
    if missing:
        some = replace(work, only=lambda method, sees: (method, sees) in missing)
        for control in _computed(design if test else replace(design, test=None), some, progress):
            if control.test is not None:  # its model learnt from all training clips
                scores = replace(control.test, trained_on=design.train.clip_ids)
                control = replace(control, test=scores)
            kept[control.method, control.sees] = control
        if out is not None:
            save_controls(out, inputs, list(kept.values()))
    return [kept[each] if test else replace(kept[each], test=None) for each in wanted]


def planned_controls(store: TokenStore | Path | str, config: TrainConfig, *, pictures: bool) -> list[str]:
    """The names of the controls that `controls` computes; `pictures`: whether it is given `frames`."""
    opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
    side = Side.of(train_split(opened, config, in_memory=False))
    blank = (lambda rows: np.zeros((len(rows), 1, 1), np.uint8)) if pictures else None
    work = _Work(kinds=config.model.tokens, reading=Reading.of(config), frames=blank)
    return [name_of(method, task.sees) for task in work.tasks(side) for method in task.methods]


def design_of(train: TokenDataset, validation: TokenDataset | None, test: TokenDataset | None, *, seed: int) -> Design:
    """Of data sets; None for `validation`: training clips are held out in turn."""
    learnt = Side.of(train)
    held = learnt if validation is None else Side.of(validation)
    parts = folds(learnt) if validation is None else [(np.arange(len(learnt)), np.arange(len(held)))]
    return Design(learnt, held, parts, None if test is None else Side.of(test), seed)


def controls_on(
    design: Design, kinds: str, *, frames: Pictures | None = None, progress: Progress | None = None
) -> list[Control]:
    """All controls, on the token kinds "gg", "jm" or "both" as they are stored."""
    return _computed(design, _Work(kinds=kinds, frames=frames), progress)


@dataclass(frozen=True)
class _Task:
    """Controls that share an input; None: they look at no clip."""

    methods: list[str]
    seen: Input | None
    shuffled: bool = False

    @property
    def sees(self) -> str:
        return "" if self.seen is None else self.seen.name + ", shuffled labels" * self.shuffled


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What decides which controls are computed."""

    kinds: str
    frames: Pictures | None = None
    reading: Reading = AS_STORED
    only: Only | None = None

    def tasks(self, train: Side) -> list[_Task]:
        """In order; each with the methods that are wanted."""
        linear, places = list(METHODS), coordinates(train)
        every = [_Task([CHANCE], None)]
        every += [_Task(linear + [GRU] * (seen is places[-1]), seen) for seen in places]
        every += [_Task(linear, pixels(self.frames, train))] if self.frames is not None else []
        every += [_Task(linear, seen) for some in KINDS[self.kinds] for seen in tokens(train, some)]
        own = KINDS[self.kinds][-1]
        every += [_Task(["ridge"], seen) for seen in tokens_as_read(train, own, self.reading)]
        every.append(_Task(["ridge"], tokens(train, own)[-1], shuffled=True))
        if self.only is None:
            return every
        some = [replace(task, methods=[each for each in task.methods if self.only(each, task.sees)]) for task in every]
        return [task for task in some if task.methods]


def _computed(design: Design, work: _Work, progress: Progress | None) -> list[Control]:
    found: list[Control] = []
    for task in work.tasks(design.train):
        if progress is not None:
            progress(name_of(" and ".join(task.methods), task.sees))
        if task.seen is None:
            found.append(_chance(design))
            continue
        own = design
        if task.shuffled:
            labels = keyed_rng(design.seed, "shuffled labels").permutation(design.train.labels)
            own = replace(design, train=replace(design.train, labels=labels))
        found += _linear(own, task)
        found += [_gru(own, task)] if GRU in task.methods else []
    return found


def _chance(design: Design) -> Control:
    """The class that most training clips have, for every clip."""

    def shares(train: Side, others: Side) -> np.ndarray:
        counts = np.bincount(train.labels, minlength=train.classes)
        return np.tile(counts / counts.sum(), (len(others), 1))

    held = np.zeros((len(design.held), design.held.classes))
    for learn, left in design.folds:
        held[left] = shares(design.train.take(learn), design.held.take(left))
    return Control(
        method=CHANCE,
        sees="",
        validation=design.held.scores(held, split="val"),
        test=None if design.test is None else design.test.scores(shares(design.train, design.test), split="test"),
        chosen=f"nothing; one of {design.train.classes} classes is {100 / design.train.classes:.1f} %",
    )


def _linear(design: Design, task: _Task) -> Iterator[Control]:
    """Ridge and logistic regression on one input; the test side is read after both have been chosen."""
    methods, seen = [each for each in task.methods if each in METHODS], task.seen
    assert seen is not None
    best = validated(seen, methods, design.train, design.held, design.folds) if methods else {}
    trial = None if design.test is None or not methods else Trial(design.train, seen)
    rows = None if trial is None or design.test is None else trial.of(design.test)
    for name, (strength, held) in best.items():
        tested = None
        if trial is not None and rows is not None and design.test is not None:
            tested = design.test.scores(trial.probabilities(name, strength, rows), split="test")
        yield Control(
            method=name,
            sees=task.sees,
            validation=design.held.scores(held, split="val"),
            test=tested,
            chosen=f"strength {strength:g} of {len(METHODS[name][1])}, {design.how}",
            part=_part(design, seen),
        )


def _part(design: Design, seen: Input) -> str:
    most, n = seen.most_clips, len(design.train)
    return "" if n <= most else f"{most} of {n} training clips"


def _gru(design: Design, task: _Task) -> Control:
    seen = task.seen
    assert seen is not None
    held, most = np.zeros((len(design.held), design.held.classes)), seen.most_clips
    for learn, left in design.folds:
        learnt, others = design.train.take(learn), design.held.take(left)
        held[left] = gru_probabilities(learnt, others, most=most, seed=design.seed)
    tested = None
    if design.test is not None:
        found = gru_probabilities(design.train, design.test, most=most, seed=design.seed)
        tested = design.test.scores(found, split="test")
    validation = design.held.scores(held, split="val")
    return Control(
        method=GRU,
        sees=task.sees,
        validation=validation,
        test=tested,
        chosen=f"fixed: {SETTINGS}",
        part=_part(design, seen),
    )


def _inputs(design: Design) -> dict[str, Any]:
    """All that the results depend on beside their names, as plain values."""
    assert design.test is not None
    return {
        "fingerprint": design.train.store.attrs["fingerprint"],
        "seed": design.seed,
        "train": _identity(design.train),
        "validation": _identity(design.held),
        "folds": len(design.folds),
        "test": _identity(design.test),
        # how, so that results of other settings are not taken for these
        "strengths": {name: list(strengths) for name, (_, strengths) in METHODS.items()},
        "gru": gru_settings(),
        "coordinates": [CHANNELS, MOST_SIZES],
    }


def _identity(side: Side) -> dict[str, Any]:
    content = hashlib.sha256(side.store.clip_digests(side.view)[side.rows].tobytes()).hexdigest()
    return {"view": side.view, "labels": clips_digest(side.clip_ids, side.labels), "content": content}

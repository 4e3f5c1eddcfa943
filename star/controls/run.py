"""Controls: what simpler methods reach on the clips of a run. A model that they beat has not found what is there.

In: a store, a run's config. Out: `Control`s: chance, joint coordinates alone, one frame alone, linear models on pooled
and on all tokens, and those on shuffled labels. Strengths are chosen on the run's validation side or, where it has
none, by holding out training subjects in turn; the test side is read only after all choices, and only if asked for.
All frames of the store are seen, in one view, whatever the run does: this is about the data.
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
from star.controls.gru import SETTINGS, gru_probabilities
from star.controls.inputs import Input, Pictures, coordinates, pixels, tokens
from star.controls.kept import Control, kept_controls, save_controls
from star.controls.linear import METHODS, Trial, validated
from star.controls.sides import Fold, Side, folds
from star.data.dataset import TokenDataset
from star.data.splits import open_splits
from star.runs.store_identity import clips_digest

# By the config's `model.tokens`.
KINDS: dict[str, list[tuple[str, ...]]] = {
    "jm": [("jm",)],
    "gg": [("gg",)],
    "both": [("jm",), ("gg",), ("gg", "jm")],
}
Progress = Callable[[str], None]


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
    out: Path | None = None,
    frames: Pictures | None = None,
    progress: Progress | None = None,
) -> list[Control]:
    """All controls on the clips of a run of this config; see `controls_on`.

    Args:
        out: a folder that keeps the results; where it holds those of the same clips and tokens they are returned.
        frames: gives a grey picture (n, h, w) uint8 of each row of the store; None: no control sees pixels.
        progress: called with each control's name before it is computed.

    Raises:
        As `star.data.splits.open_splits`; DataError: a token is not finite, or no clips can be held out.
    """
    every_frame = replace(config, data=replace(config.data, frame_step=1))
    splits = open_splits(store, every_frame, in_memory=False)
    design = design_of(splits.train, splits.val, splits.test if test else None, seed=config.seed)
    inputs = _inputs(design, config.model.tokens, pictures=frames is not None)
    kept = None if out is None else kept_controls(out, inputs)
    if kept is not None:
        return kept
    found = controls_on(design, config.model.tokens, frames=frames, progress=progress)
    if out is not None:
        save_controls(out, inputs, found)
    return found


def design_of(train: TokenDataset, validation: TokenDataset | None, test: TokenDataset | None, *, seed: int) -> Design:
    """Of data sets; None for `validation`: training clips are held out in turn."""
    learnt = Side.of(train)
    held = learnt if validation is None else Side.of(validation)
    parts = folds(learnt) if validation is None else [(np.arange(len(learnt)), np.arange(len(held)))]
    return Design(learnt, held, parts, None if test is None else Side.of(test), seed)


def controls_on(
    design: Design, kinds: str, *, frames: Pictures | None = None, progress: Progress | None = None
) -> list[Control]:
    """All controls, on the token kinds "gg", "jm" or "both"."""
    tell = progress if progress is not None else lambda name: None
    found = [_chance(design)]
    places = coordinates(design.train)
    for seen in places:
        found += _linear(design, seen, tell)
    if places:
        found.append(_gru(design, places[-1], tell))
    if frames is not None:
        found += _linear(design, pixels(frames, design.train), tell)
    for some in KINDS[kinds]:
        for seen in tokens(design.train, some):
            found += _linear(design, seen, tell)
    everything = tokens(design.train, KINDS[kinds][-1])[-1]
    labels = keyed_rng(design.seed, "shuffled labels").permutation(design.train.labels)
    shuffled = replace(design, train=replace(design.train, labels=labels))
    return [*found, *_linear(shuffled, everything, tell, methods=["ridge"], note=", shuffled labels")]


def _chance(design: Design) -> Control:
    """The class that most training clips have, for every clip."""

    def shares(train: Side, others: Side) -> np.ndarray:
        counts = np.bincount(train.labels, minlength=train.classes)
        return np.tile(counts / counts.sum(), (len(others), 1))

    held = np.zeros((len(design.held), design.held.classes))
    for learn, left in design.folds:
        held[left] = shares(design.train.take(learn), design.held.take(left))
    return Control(
        name="most frequent class",
        validation=design.held.scores(held, split="val"),
        test=None if design.test is None else design.test.scores(shares(design.train, design.test), split="test"),
        chosen=f"nothing; one of {design.train.classes} classes is {100 / design.train.classes:.1f} %",
    )


def _linear(
    design: Design, seen: Input, tell: Progress, *, methods: list[str] | None = None, note: str = ""
) -> Iterator[Control]:
    """Ridge and logistic regression on one input; the test side is read after both have been chosen."""
    names, part = list(METHODS) if methods is None else methods, _part(design, seen)
    tell(f"{' and '.join(names)} on {seen.name}{part}{note}")
    best = validated(seen, names, design.train, design.held, design.folds)
    trial = None if design.test is None else Trial(design.train, seen)
    rows = None if trial is None or design.test is None else trial.of(design.test)
    for name, (strength, held) in best.items():
        tested = None
        if trial is not None and rows is not None and design.test is not None:
            tested = design.test.scores(trial.probabilities(name, strength, rows), split="test")
        yield Control(
            name=f"{name} on {seen.name}{part}{note}",
            validation=design.held.scores(held, split="val"),
            test=tested,
            chosen=f"strength {strength:g} of {len(METHODS[name][1])}, {design.how}",
        )


def _part(design: Design, seen: Input) -> str:
    most, n = seen.most_clips, len(design.train)
    return "" if n <= most else f" ({most} of {n} training clips)"


def _gru(design: Design, seen: Input, tell: Progress) -> Control:
    name = f"GRU on {seen.name}{_part(design, seen)}"
    tell(name)
    held = np.zeros((len(design.held), design.held.classes))
    for learn, left in design.folds:
        learnt, others = design.train.take(learn), design.held.take(left)
        held[left] = gru_probabilities(learnt, others, most=seen.most_clips, seed=design.seed)
    tested = None
    if design.test is not None:
        found = gru_probabilities(design.train, design.test, most=seen.most_clips, seed=design.seed)
        tested = design.test.scores(found, split="test")
    validation = design.held.scores(held, split="val")
    return Control(name=name, validation=validation, test=tested, chosen=f"fixed: {SETTINGS}")


def _inputs(design: Design, kinds: str, *, pictures: bool) -> dict[str, Any]:
    """All that the results depend on, as plain values."""
    test = None if design.test is None else _identity(design.test)
    return {
        "fingerprint": design.train.store.attrs["fingerprint"],
        "tokens": kinds,
        "pictures": pictures,
        "seed": design.seed,
        "train": _identity(design.train),
        "validation": _identity(design.held),
        "folds": len(design.folds),
        "test": test,
    }


def _identity(side: Side) -> dict[str, Any]:
    content = hashlib.sha256(side.store.clip_digests(side.view)[side.rows].tobytes()).hexdigest()
    return {"view": side.view, "labels": clips_digest(side.clip_ids, side.labels), "content": content}

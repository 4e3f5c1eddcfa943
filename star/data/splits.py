"""The sides of a run: training, validation and test; and the model's config for them.

In: a store and a `TrainConfig`. Out: a data set for each side, no clip in two of them; the model's config with the
store's sizes. All that is computed from training clips (statistics, class checks, fraction, shuffled labels) comes from
the training side, without the validation clips. Reads tokens only if they are to be held in memory, and none of test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.store.token_store import TokenStore
from star.config.options import ModelConfig
from star.config.text import TrainConfig
from star.data.dataset import TokenDataset
from star.data.frames import frames_of
from star.data.selection import sides_of

CHOOSING = 0.25  # held out where choices are made and the settings hold nothing out: four groups


@dataclass(frozen=True)
class Splits:
    """The sides of a run, no clip in two of them; validation (None: there is none) and test in all their views."""

    train: TokenDataset
    val: TokenDataset | None
    test: TokenDataset

    def __post_init__(self) -> None:
        rows = np.concatenate([side.rows for side in self.all])
        assert len(np.unique(rows)) == len(rows), "a clip is on two sides"

    @property
    def all(self) -> list[TokenDataset]:
        return [self.train, *([self.val] if self.val is not None else []), self.test]

    def scored(self, split: str) -> TokenDataset:
        """The validation or the test side, by its name."""
        side = {"val": self.val, "test": self.test}[split]
        assert side is not None
        return side


def open_splits(
    store: TokenStore | Path | str,
    config: TrainConfig,
    *,
    views: Mapping[str, Sequence[int]] | None = None,
    in_memory: bool | None = None,
) -> Splits:
    """The sides of a run.

    Args:
        views: by split, the views with which the run began; None: all that are finished in the store.
        in_memory: of the training and the validation side, as in `TokenDataset`; the test side, which is read once,
            never is.

    Raises:
        ArtifactError, ConfigError: see `TokenDataset`.
        DataError: an empty split, or (unless the config allows it) a class without training clips.
    """
    opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
    among = None if views is None else views["test"]
    train = train_split(opened, config, among=None if views is None else views["train"], in_memory=in_memory)
    test = scored_split(opened, config, "test", among=among)
    if not config.data.allow_missing_classes:
        _require_every_class(train)
    validates = "val" in sides_of(opened, train.protocol, **train.held_out)
    val = scored_split(opened, config, "val", among=among, in_memory=in_memory) if validates else None
    return Splits(train, val, test)


def for_choosing(store: TokenStore, config: TrainConfig) -> TrainConfig:
    """The config of a run to choose by: with a validation side, and without a look at the test split.

    `CHOOSING` of the training subjects is held out where the config holds nothing out and the store has no validation
    clips of its own.
    """
    protocol = config.data.protocol or store.attrs["protocols"][0]
    has_one = config.data.validation > 0 or "val" in sides_of(store, protocol)
    data = config.data if has_one else replace(config.data, validation=CHOOSING)
    return replace(config, score_test=False, data=data)


def train_split(
    store: TokenStore, config: TrainConfig, *, among: Sequence[int] | None = None, in_memory: bool | None = None
) -> TokenDataset:
    """The training clips of a run, without its validation clips; `among` and `in_memory` as in `TokenDataset`."""
    data = config.data
    return TokenDataset(
        store,
        protocol=data.protocol,
        split="train",
        tokens=config.model.kinds,
        fields=config.model.fields,
        views=data.views,
        among=among,
        seed=config.seed,
        frame_step=data.frame_step,
        frame_mean=data.frame_mean,
        fraction=data.fraction,
        shuffled_labels=data.shuffled_labels,
        validation=data.validation,
        fold=data.fold,
        in_memory=in_memory,
    )


def scored_split(
    store: TokenStore,
    config: TrainConfig,
    split: str,
    *,
    protocol: str | None = None,
    views: str | int = "all",
    among: Sequence[int] | None = None,
    in_memory: bool | None = False,
) -> TokenDataset:
    """Clips of a side as a run scores them: all of it, with their own labels, in all views.

    `protocol`: None: the config's. `views`, `among`, `in_memory`: as in `TokenDataset`.
    """
    data = config.data
    return TokenDataset(
        store,
        protocol=data.protocol if protocol is None else protocol,
        split=split,
        tokens=config.model.kinds,
        fields=config.model.fields,
        views=views,
        among=among,
        frame_step=data.frame_step,
        frame_mean=data.frame_mean,
        validation=data.validation,
        fold=data.fold,
        in_memory=in_memory,
    )


def _require_every_class(dataset: TokenDataset) -> None:
    names = dataset.class_names
    absent = np.setdiff1d(np.arange(len(names)), dataset.labels)
    without, other = "", "choose another `protocol`"
    if dataset.held_out["validation"]:
        without, other = ", without the validation clips", "hold out others (data.validation, data.fold)"
    if len(absent):
        raise DataError(
            dataset.url,
            f"the training split of {dataset.protocol} has no clip of {len(absent)} of {len(names)} classes{without}",
            got="none of " + ", ".join(names[label] for label in absent[:3]) + (", ..." if len(absent) > 3 else ""),
            remedy=f"{other}, or train all the same with `data.allow_missing_classes=true`",
        )


def fitted(model: ModelConfig, dataset: TokenDataset) -> ModelConfig:
    """The model's config with the sizes of a store."""
    sizes = dataset.sizes
    return replace(
        model,
        frames=frames_of(sizes.frames, dataset.frame_step),
        cells=sizes.cells,
        gg_channels=sizes.gg_channels,
        joints=sizes.joints,
        jm_channels=sizes.jm_channels,
        persons=sizes.persons,
        classes=len(dataset.class_names),
    )

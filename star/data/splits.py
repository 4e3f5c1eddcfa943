"""The two splits of a run's protocol, and the model's config for them.

In: a store and a `TrainConfig`. Out: data sets for training and test; the model's config with the store's sizes. Reads
tokens only if they are to be held in memory.
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


@dataclass(frozen=True)
class Splits:
    """The two splits of a run's protocol; the test split in all its views."""

    train: TokenDataset
    test: TokenDataset


def open_splits(
    store: TokenStore | Path | str,
    config: TrainConfig,
    *,
    views: Mapping[str, Sequence[int]] | None = None,
    in_memory: bool | None = None,
) -> Splits:
    """Both splits of a run.

    Args:
        views: by split, the views with which the run began; None: all that are finished in the store.
        in_memory: as in `TokenDataset`.

    Raises:
        ArtifactError, ConfigError: see `TokenDataset`.
        DataError: an empty split, or (unless the config allows it) a class without training clips.
    """
    opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
    train = train_split(opened, config, among=None if views is None else views["train"], in_memory=in_memory)
    test = TokenDataset(
        opened,
        protocol=config.data.protocol,
        split="test",
        tokens=config.model.kinds,
        fields=config.model.fields,
        views="all",
        among=None if views is None else views["test"],
        frame_step=config.data.frame_step,
        in_memory=in_memory,
    )
    if not config.data.allow_missing_classes:
        _require_every_class(train)
    return Splits(train, test)


def train_split(
    store: TokenStore, config: TrainConfig, *, among: Sequence[int] | None = None, in_memory: bool | None = None
) -> TokenDataset:
    """The training clips of a run; `among` and `in_memory` as in `TokenDataset`."""
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
        fraction=data.fraction,
        shuffled_labels=data.shuffled_labels,
        in_memory=in_memory,
    )


def _require_every_class(dataset: TokenDataset) -> None:
    names = dataset.class_names
    absent = np.setdiff1d(np.arange(len(names)), dataset.labels)
    if len(absent):
        raise DataError(
            dataset.url,
            f"the training split of {dataset.protocol} has no clip of {len(absent)} of {len(names)} classes",
            got="none of " + ", ".join(names[label] for label in absent[:3]) + (", ..." if len(absent) > 3 else ""),
            remedy="choose another `protocol`, or train all the same with `data.allow_missing_classes=true`",
        )


def fitted(model: ModelConfig, dataset: TokenDataset) -> ModelConfig:
    """The model's config with the sizes of a store."""
    sizes = dataset.sizes
    return replace(
        model,
        frames=len(range(0, sizes.frames, dataset.frame_step)),
        cells=sizes.cells,
        gg_channels=sizes.gg_channels,
        joints=sizes.joints,
        jm_channels=sizes.jm_channels,
        persons=sizes.persons,
        classes=len(dataset.class_names),
    )

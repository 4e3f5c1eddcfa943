"""One config trained once for each group of training subjects, which is held out: rotated validation, for choosing.

In: a store, a config, a number of seeds. Out: a run in OUT/fold-N (with several seeds: OUT/fold-N/seed-K) and its
scores on its own held-out subjects. Each training clip is scored exactly once a seed, so the folds of a seed are one
result over all of them. The test split is never scored. Each is an ordinary run: the same call resumes a stopped one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError
from pipeline.records import UNKNOWN
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig
from star.data.selection import number_of_folds
from star.data.splits import for_choosing, open_splits
from star.distributed.world import join_world
from star.evaluate.scores import Scores, save_scores
from star.evaluate.scoring import final_scores
from star.study.folders import require_folder_of_folds
from star.study.seeds import SeedProgress, Spread, seed_folders, spread_of, train_seeds, views_begun_with
from star.train.progress import TrainEvent
from star.train.start import Stop, train

POOLED = "pooled-seed-{}.npz"  # scores of all training clips, each by the run that did not see it
FoldProgress = Callable[[str, int, int, TrainEvent], None]  # (run's name, runs done, runs in all, event)


@dataclass(frozen=True, kw_only=True)
class FoldsResult:
    """Accuracy on held-out training subjects.

    Attributes:
        folds: of each fold its scores, one for each seed.
        mean, spread: over the folds, each the mean over its seeds (sample standard deviation).
        pooled: over all clips, each scored by the run that did not train on it; over the seeds.
    """

    folds: tuple[tuple[Scores, ...], ...]
    mean: float
    spread: float
    pooled: Spread

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        each = [
            {"fold": number, "clips": len(seeds[0].labels), "top1": [scores.top1 for scores in seeds]}
            for number, seeds in enumerate(self.folds)
        ]
        return {
            "split": "val",
            "protocol": self.folds[0][0].protocol,
            "clips": sum(fold["clips"] for fold in each),
            "folds": each,
            "mean": self.mean,
            "spread": None if math.isnan(self.spread) else self.spread,
            "pooled": self.pooled.summary(),
        }


def fold_configs(store: TokenStore, config: TrainConfig) -> list[TrainConfig]:
    """The config of each fold, in order; none of them scores test.

    Raises:
        ConfigError: `config` names a fold, or there is nothing to rotate.
    """
    if config.data.fold:
        remedy = "leave it out, or train that fold alone"
        raise ConfigError("data.fold", "all folds are trained in turn", got=config.data.fold, remedy=remedy)
    config = for_choosing(store, config)
    protocol = config.data.protocol or store.attrs["protocols"][0]
    folds = number_of_folds(store, protocol, config.data.validation)
    return [replace(config, data=replace(config.data, fold=fold)) for fold in range(folds)]


def train_folds(
    store: TokenStore | Path | str,
    out: Path,
    *,
    config: TrainConfig,
    seeds: int = 1,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    progress: FoldProgress | None = None,
    stop: Stop | None = None,
) -> FoldsResult:
    """Train or resume the run of each fold (and seed), and score each on the clips that it did not train on.

    All use the views with which the first of them began, even if the store has more now.

    Raises:
        ConfigError: as `fold_configs`, or no seeds. ArtifactError: `out` holds something else. DataError: a fold leaves
            no training clip of a class. Else as `star.train.train`.
    """
    with join_world(device).agreed():
        opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
        configs = fold_configs(opened, config)
        for each in configs:
            open_splits(opened, each, in_memory=False)  # before the first is trained
        folders = [out / f"fold-{number}" for number in range(len(configs))]
        require_folder_of_folds(out, several_seeds=seeds > 1)
        runs = (
            folders
            if seeds == 1
            else [run for folder in folders for run in seed_folders(folder, config=config, seeds=seeds).values()]
        )
        among = views_begun_with(runs)
    options: dict[str, Any] = {"device": device, "workers": workers, "tensorboard": tensorboard, "stop": stop}
    found = []
    for number, (folder, each) in enumerate(zip(folders, configs, strict=True)):
        report = _named(progress, number, config.seed, seeds, len(configs))
        if seeds > 1:
            found.append(train_seeds(opened, folder, config=each, seeds=seeds, among=among, progress=report, **options))
            continue
        single = None if report is None else partial(report, 0)
        run = train(opened, folder, config=each, among=among, progress=single, **options)
        found.append([final_scores(run, split="val", store=opened, device=device, workers=workers)])
    if join_world(device).leads:  # for `star evaluate A --against B`
        for k in range(seeds):
            of_seed = pooled([scores[k] for scores in found])
            save_scores(of_seed, out / POOLED.format(config.seed + k))
    return result_of(found)


def result_of(folds: Sequence[Sequence[Scores]]) -> FoldsResult:
    """From the scores of each fold's seeds."""
    means = [float(np.mean([scores.top1 for scores in seeds])) for seeds in folds]
    return FoldsResult(
        folds=tuple(tuple(seeds) for seeds in folds),
        mean=float(np.mean(means)),
        spread=float(np.std(means, ddof=1)),
        pooled=spread_of([pooled(of_seed) for of_seed in zip(*folds, strict=True)]),
    )


def pooled(folds: Sequence[Scores]) -> Scores:
    """The scores of several runs, each on other clips, as one result over all of them, in order of their ids."""
    ids = np.concatenate([scores.clip_ids for scores in folds])
    assert len(np.unique(ids)) == len(ids), "a clip is in two folds"
    order = np.argsort(ids)
    performances, first = [], 0  # each fold numbers its own from 0
    for scores in folds:
        performances.append(np.where(scores.performances == UNKNOWN, UNKNOWN, scores.performances + first))
        first += int(scores.performances.max()) + 1
    by_clip = {
        name: np.concatenate([getattr(scores, name) for scores in folds])[order]
        for name in ("clip_ids", "labels", "probabilities", "subjects")
    }
    by_clip["performances"] = np.concatenate(performances)[order]
    first_fold = folds[0]
    return Scores(
        **by_clip, class_names=first_fold.class_names, split=first_fold.split, protocol=first_fold.protocol
    )  # of no one model, so that `trained_on` is unknown


def _named(progress: FoldProgress | None, fold: int, first: int, seeds: int, folds: int) -> SeedProgress | None:
    if progress is None:
        return None

    def report(done: int, event: TrainEvent) -> None:
        name = f"fold {fold}" + (f", seed {first + done}" if seeds > 1 else "")
        progress(name, fold * seeds + done, folds * seeds, event)

    return report

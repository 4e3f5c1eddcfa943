"""One config trained with several seeds, and their mean and spread.

In: a store, a config, a number of seeds. Out: a run and its scores for each, in OUT/seed-N; mean, spread over the
seeds, intervals over the clips and over what belongs together. Each is an ordinary run: the same call resumes a stopped
one and does not train a finished one again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import at_least
from pipeline.errors import ConfigError
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig, with_overrides
from star.data.splits import open_splits
from star.distributed.world import join_world
from star.evaluate.clusters import Clusters, cluster_interval
from star.evaluate.metrics import wilson_interval
from star.evaluate.scores import Scores
from star.evaluate.scoring import final_scores
from star.runs.run import has_begun, open_run
from star.study.folders import require_folder_of_seeds
from star.train.progress import TrainEvent
from star.train.start import Stop, train

SeedProgress = Callable[[int, TrainEvent], None]  # (seeds done, event)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Accuracy over several seeds.

    Attributes:
        top1: of each seed.
        mean, spread: over the seeds (sample standard deviation; NaN for one seed).
        interval: 95 % Wilson interval of the mean over the clips; it does not include the seeds' spread.
        clusters: which clips belong together. cluster_interval: that of the mean over them, as `interval`.
        mean_class_accuracy: the mean over the seeds.
    """

    top1: tuple[float, ...]
    mean: float
    spread: float
    interval: tuple[float, float]
    clusters: Clusters
    cluster_interval: tuple[float, float]
    mean_class_accuracy: float

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON, which has no NaN."""
        return {
            "top1": list(self.top1),
            "mean": self.mean,
            "spread": None if math.isnan(self.spread) else self.spread,
            "interval95": list(self.interval),
            "over": self.clusters.over,
            "clusters": self.clusters.count,
            "cluster_interval95": list(self.cluster_interval),
            "mean_class_accuracy": self.mean_class_accuracy,
        }


def spread_of(scores: Sequence[Scores]) -> Spread:
    top1 = [each.top1 for each in scores]
    clips, mean, clusters = len(scores[0].labels), float(np.mean(top1)), scores[0].clusters
    return Spread(
        top1=tuple(top1),
        mean=mean,
        spread=float(np.std(top1, ddof=1)) if len(top1) > 1 else math.nan,
        interval=wilson_interval(mean * clips, clips),
        clusters=clusters,
        cluster_interval=cluster_interval(mean_right(scores), clusters),
        mean_class_accuracy=float(np.mean([each.mean_class_accuracy for each in scores])),
    )


def mean_right(scores: Sequence[Scores]) -> np.ndarray:
    """(N,) the share of seeds that get each clip right."""
    return np.mean([each.right for each in scores], axis=0)


def seed_folders(out: Path, *, config: TrainConfig, seeds: int) -> dict[int, Path]:
    """{seed: its run's folder} for the seeds config.seed, config.seed + 1, ...; ConfigError without seeds."""
    at_least("seeds", seeds, 1)
    return {seed: out / f"seed-{seed}" for seed in range(config.seed, config.seed + seeds)}


def views_begun_with(folders: Iterable[Path]) -> list[int] | None:
    """The views with which the first of these runs began; None if none has begun."""
    begun = (open_run(folder) for folder in folders if has_begun(folder))
    return next((list(run.store["views"]["test"]) for run in begun), None)


def train_seeds(
    store: TokenStore | Path | str,
    out: Path,
    *,
    config: TrainConfig,
    seeds: int,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    progress: SeedProgress | None = None,
    stop: Stop | None = None,
    among: Sequence[int] | None = None,
) -> list[Scores]:
    """Train or resume `seed_folders`; scores of each on the test split, or (without `config.score_test`) on its
    validation side.

    All use the views with which the first of them began, even if the store has more now; or those of `among`.

    Raises:
        ConfigError: no seeds, or nothing to score them on. ArtifactError: `out` holds something else. Else as
            `star.train.train`.
    """
    with join_world(device).agreed():
        folders = seed_folders(out, config=config, seeds=seeds)
        require_folder_of_seeds(out)
        split = "test" if config.score_test else "val"
        if split == "val" and open_splits(store, config, in_memory=False).val is None:
            remedy = "hold clips out of training with `data.validation=0.25`"
            raise ConfigError("score_test", "is off, and there is no validation side to compare on", remedy=remedy)
        among = views_begun_with(folders.values()) if among is None else among
    scores = []
    for done, (seed, folder) in enumerate(folders.items()):
        run = train(
            store,
            folder,
            config=with_overrides(config, [f"seed={seed}"]),
            among=among,
            device=device,
            workers=workers,
            tensorboard=tensorboard,
            progress=None if progress is None else partial(progress, done),
            stop=stop,
        )
        scores.append(final_scores(run, split=split, store=store, device=device, workers=workers))
    return scores

"""Ablation: variants of a config, each trained with several seeds and compared.

In: a store, a study (`star.study.studies`), a config. Out: a folder with a run for each variant and seed, table.md,
table.csv, pairs.csv (`star.study.table`) and figure.png. Each is an ordinary run, so the same call resumes a stopped
study. Reports every variant, in the study's order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.files import write_atomic
from pipeline.errors import StarError
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig, with_overrides
from star.data.splits import open_splits
from star.distributed.world import World, join_world
from star.evaluate.scores import Scores
from star.report.figures import comparison_figure, png
from star.runs.run import CONFIG
from star.study.folders import require_folder_of_seeds, require_folder_of_studies, require_folder_of_variants
from star.study.seeds import SeedProgress, seed_folders, train_seeds, views_begun_with
from star.study.studies import pairs, variants
from star.study.table import Table, markdown, pairs_csv, rows_csv, table_of
from star.train.plan import fitting_model
from star.train.progress import TrainEvent
from star.train.start import Stop

StudyProgress = Callable[[str, int, int, TrainEvent], None]  # (run's name, runs done, runs in all, event)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant of a study, before it is trained.

    Attributes:
        label, settings: see `star.study.studies.variants`.
        config: the study's with these settings. folder: of its seeds.
        runs: {a run's folder: its config}, one for each seed.
    """

    label: str
    settings: list[str]
    config: TrainConfig
    folder: Path
    runs: dict[Path, TrainConfig]


def planned(
    store: TokenStore | Path | str, out: Path | str, *, study: str, config: TrainConfig, seeds: int
) -> list[Variant]:
    """All variants that `ablate` would train, in order.

    Raises:
        ConfigError: no such study, no seeds, or conflicting settings.
        Else as `star.data.splits.open_splits`.
    """
    splits = open_splits(store, with_overrides(config, ["data.fraction=1.0"]), in_memory=False)
    views, items = len(splits.test.views), len(splits.train)
    found = []
    for label, settings in variants(study, config, views=views, items=items).items():
        variant, folder = with_overrides(config, settings), Path(out) / study / file_name(label)
        folders = seed_folders(folder, config=variant, seeds=seeds)
        runs = {path: with_overrides(variant, [f"seed={seed}"]) for seed, path in folders.items()}
        found.append(Variant(label=label, settings=settings, config=variant, folder=folder, runs=runs))
    return found


def require_all_fit(store: TokenStore, found: Sequence[Variant], *, world: World) -> None:
    """Refuse a study if any variant would be refused, before the first is trained.

    A variant whose runs have all begun was checked then.

    Raises:
        ArtifactError, ConfigError, DataError: as `star.train.train` before its first step.
    """
    for variant in found:
        if all((path / CONFIG).exists() for path in variant.runs):
            continue
        try:
            fitting_model(open_splits(store, variant.config, in_memory=False), variant.config, world)
        except StarError as error:
            raise type(error)(
                f"variant {variant.label!r}: {error.item}",
                error.problem,
                got=error.got,
                expected=error.expected,
                remedy=error.remedy,
            ) from error


def ablate(
    store: TokenStore | Path | str,
    out: Path | str,
    *,
    study: str,
    config: TrainConfig,
    seeds: int = 3,
    device: str = "auto",
    workers: int | None = None,
    progress: StudyProgress | None = None,
    stop: Stop | None = None,
) -> Table:
    """Train every variant with seeds config.seed, config.seed + 1, ... and write the study's table and figure.

    All use the views with which the first of them began, even if the store has more now.

    Raises:
        ConfigError: no such study, or no seeds. ArtifactError: `out` holds something else. Else as `star.train.train`,
            for whichever variant, before the first is trained.
    """
    world, folder = join_world(device), Path(out) / study
    with world.agreed():
        opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
        chosen = planned(opened, out, study=study, config=config, seeds=seeds)
        require_folder_of_studies(Path(out))
        require_folder_of_variants(folder)
        for variant in chosen:
            require_folder_of_seeds(variant.folder)
        require_all_fit(opened, chosen, world=world)
        among = views_begun_with(run for variant in chosen for run in variant.runs)
    found: dict[str, list[Scores]] = {}
    for i, variant in enumerate(chosen):
        found[variant.label] = train_seeds(
            opened,
            variant.folder,
            config=variant.config,
            seeds=seeds,
            device=device,
            workers=workers,
            progress=_named(progress, variant.label, first=config.seed, done=i * seeds, total=len(chosen) * seeds),
            stop=stop,
            among=among,
        )
    table = table_of(study, found, pairs(study, list(found)))
    if world.leads:
        write_atomic(folder / "table.md", markdown(table).encode())
        write_atomic(folder / "table.csv", rows_csv(table).encode())
        write_atomic(folder / "pairs.csv", pairs_csv(table).encode())
        figure = comparison_figure(list(found), [row.top1 for row in table.rows], title=f"Study: {study}")
        write_atomic(folder / "figure.png", png(figure))
    return table


def file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _named(progress: StudyProgress | None, label: str, *, first: int, done: int, total: int) -> SeedProgress | None:
    if progress is None:
        return None
    return lambda seeds, event: progress(f"{label}, seed {first + seeds}", done + seeds, total, event)

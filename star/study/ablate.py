"""Ablation: variants of a config, each trained with several seeds and compared.

In: a store, a study (`star.study.studies`), a config. Out: a folder with a run for each variant and seed, table.md,
table.csv, pairs.csv (`star.study.table`) and figure.png. Each is an ordinary run, so the same call resumes a stopped
study. Variants are compared, and the best is chosen, on the validation side; the chosen ones are then scored on the
test split, once each. Reports every variant, in the study's order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts.files import write_atomic
from pipeline.config import one_of
from pipeline.errors import StarError
from pipeline.store.token_store import TokenStore
from star.config.text import TrainConfig, with_overrides
from star.controls.inputs import Pictures
from star.controls.kept import Control
from star.controls.run import planned_controls as control_names
from star.controls.shown import whole
from star.data.splits import for_choosing, open_splits
from star.distributed.world import World, join_world
from star.evaluate.scores import Scores
from star.report.figures import comparison_figure, png
from star.runs.run import CONFIG, open_run
from star.study.beside import study_controls, with_tokens_of
from star.study.folders import require_folder_of_seeds, require_folder_of_studies, require_folder_of_variants
from star.study.held_back import look_at_test, looked_at, was_looked_at
from star.study.seeds import SeedProgress, seed_folders, train_seeds, views_begun_with
from star.study.studies import against_controls, pairs, variants
from star.study.table import Table, markdown, pairs_csv, rows_csv, table_of, with_test
from star.train.plan import fitting_model
from star.train.progress import TrainEvent
from star.train.start import Stop

TESTED = ("best", "all", "none")
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
    """All variants that `ablate` would train, in order, each with a validation side and without a look at test.

    Raises:
        ConfigError: no such study, no seeds, or conflicting settings.
        Else as `star.data.splits.open_splits`.
    """
    opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
    config = for_choosing(opened, config)
    splits = open_splits(opened, with_overrides(config, ["data.fraction=1.0"]), in_memory=False)
    views, items = len(splits.test.views), len(splits.train)
    found = []
    for label, settings in variants(study, config, views=views, items=items).items():
        variant, folder = with_overrides(config, settings), Path(out) / study / file_name(label)
        folders = seed_folders(folder, config=variant, seeds=seeds)
        runs = {path: with_overrides(variant, [f"seed={seed}"]) for seed, path in folders.items()}
        found.append(Variant(label=label, settings=settings, config=variant, folder=folder, runs=runs))
    return found


def planned_controls(store: TokenStore, config: TrainConfig, found: Sequence[Variant], *, pictures: bool) -> list[str]:
    """The names of the controls that `ablate` would compute below these variants, the trained one first."""
    own = with_tokens_of(for_choosing(store, config), [variant.config for variant in found])
    return [_shuffled(found[0]).label, *control_names(store, own, pictures=pictures)]


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
    test: str = "best",
    controls: bool = True,
    frames: Pictures | None = None,
    progress: StudyProgress | None = None,
    control_progress: Callable[[str], None] | None = None,
    stop: Stop | None = None,
) -> Table:
    """Train every variant with seeds config.seed, config.seed + 1, ... and write the study's table and figure.

    All use the views with which the first of them began, even if the store has more now. Where neither the config nor
    the store has a validation side, `star.data.splits.CHOOSING` of the training subjects is held out.

    Args:
        test: which variants are scored on the test split, after all are trained: "best" (by the mean on validation),
            "all" or "none". What an earlier call scored is not scored again, and is shown, too.
        controls: whether simpler methods stand below the variants (`star.study.beside`), and the first variant trained
            on shuffled labels; on the test split if any variant is.
        frames, control_progress: for them, see `star.controls.run.controls`.

    Raises:
        ConfigError: no such study, or no seeds. ArtifactError: `out` holds something else. Else as `star.train.train`,
            for whichever variant, before the first is trained.
    """
    world, folder = join_world(device), Path(out) / study
    with world.agreed():
        one_of("test", test, TESTED)
        opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
        chosen = planned(opened, out, study=study, config=config, seeds=seeds)
        require_folder_of_studies(Path(out))
        require_folder_of_variants(folder)
        for variant in chosen:
            require_folder_of_seeds(variant.folder)
        require_all_fit(opened, chosen, world=world)
        among = views_begun_with(run for variant in chosen for run in variant.runs)
    shuffled = [_shuffled(chosen[0])] if controls else []
    total = len(chosen) * seeds + len(shuffled)

    def trained(variant: Variant, done: int) -> list[Scores]:
        return train_seeds(
            opened,
            variant.folder,
            config=variant.config,
            seeds=len(variant.runs),
            device=device,
            workers=workers,
            progress=_named(progress, variant.label, first=config.seed, done=done, total=total),
            stop=stop,
            among=among,
        )

    found = {variant.label: trained(variant, i * seeds) for i, variant in enumerate(chosen)}
    beside = {variant.label: trained(variant, total - 1) for variant in shuffled}
    best = table_of(study, found, []).best
    runs = {each.label: [open_run(path) for path in each.runs] for each in [*chosen, *shuffled]}
    for label in {"best": [best], "all": list(found), "none": []}[test]:
        look_at_test(runs[label], opened, device=device, workers=workers)
    tested, looks = looked_at(runs), sum(was_looked_at(runs[label]) for label in found)
    shown: list[Control] = []
    own = with_tokens_of(for_choosing(opened, config), [variant.config for variant in chosen])
    if controls:
        for variant in shuffled if tested else []:
            tested[variant.label] = look_at_test(runs[variant.label], opened, device=device, workers=workers)
        how: dict[str, Any] = {"frames": frames, "progress": control_progress, "world": world}
        shown = study_controls(opened, Path(out), own, test=bool(tested), **how)
    strongest = [each.name for each in shown if each.sees == whole(own.model.tokens)]
    compared = [*pairs(study, list(found)), *((against_controls(study, list(found)), name) for name in strongest)]
    table = table_of(study, found, compared, {each.name: [each.validation] for each in shown} | beside)
    tested |= {each.name: [each.test] for each in shown if each.test is not None}
    table = with_test(table, tested, looks=looks)
    if world.leads:
        _write(table, folder)
    return table


def _write(table: Table, folder: Path) -> None:
    write_atomic(folder / "table.md", markdown(table).encode())
    write_atomic(folder / "table.csv", rows_csv(table).encode())
    write_atomic(folder / "pairs.csv", pairs_csv(table).encode())
    labels, values = [row.label for row in table.rows], [row.top1 for row in table.rows]
    write_atomic(folder / "figure.png", png(comparison_figure(labels, values, title=f"Study: {table.title}")))


def _shuffled(first: Variant) -> Variant:
    """A control: the first variant, trained with one seed on labels that tell nothing."""
    settings = [*first.settings, "data.shuffled_labels=true"]
    config, folder = with_overrides(first.config, settings[-1:]), first.folder.parent / "shuffled-labels"
    (folder_of_seed,) = seed_folders(folder, config=config, seeds=1).values()
    label = f"{first.label}, shuffled labels"
    return Variant(label=label, settings=settings, config=config, folder=folder, runs={folder_of_seed: config})


def file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _named(progress: StudyProgress | None, label: str, *, first: int, done: int, total: int) -> SeedProgress | None:
    if progress is None:
        return None
    return lambda seeds, event: progress(f"{label}, seed {first + seeds}", done + seeds, total, event)

"""`star ablate`: a study of `star.study.studies`: trainings that differ in one choice, and their table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Debug, Json, Quiet
from cli.training import (
    ConfigFile,
    Device,
    FirstSeed,
    LoaderWorkers,
    Preset,
    Protocol,
    Settings,
    StopOnSignal,
    TrainProgress,
    config_of,
    leads,
    note_held_out,
    pictures_of,
)

if TYPE_CHECKING:
    from star.config.text import TrainConfig

STUDIES = "tokens | layers | modules | attention | positions | sampling | data-fraction | baselines."


def ablate(
    store: Annotated[str, typer.Argument(help="A store made by `star extract-tokens`.", show_default=False)],
    study: Annotated[str, typer.Option(help=STUDIES, show_default=False)],
    out: Annotated[Path, typer.Option(help="The runs, table and figure go to OUT/STUDY.", show_default=False)],
    seeds: Annotated[int, typer.Option(help="Runs of each variant, from --seed on.", min=1)] = 3,
    protocol: Protocol = None,
    preset: Preset = "fast",
    config: ConfigFile = None,
    settings: Settings = None,
    seed: FirstSeed = None,
    device: Device = "auto",
    loader_workers: LoaderWorkers = None,
    test: Annotated[
        str, typer.Option(help="Variants to score on the test split, once: best (on validation) | all | none.")
    ] = "best",
    controls: Annotated[
        bool, typer.Option(help="Simpler methods on the same clips, kept in OUT/controls, below the variants.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List variants and runs; `star train --dry-run` estimates one.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the variants of a study and compare them on clips held out of training; the same command resumes it."""
    train_config = config_of(preset, config, settings, protocol=protocol, seed=seed)
    if dry_run:
        print(json.dumps(_plan(store, out, study, train_config, seeds, device, controls), indent=1))
        return
    from star.study.ablate import ablate as run_study
    from star.study.table import markdown

    frames = pictures_of(store) if controls and study in STUDIES.rstrip(".").split(" | ") else None
    with TrainProgress(f"ablate {study}", quiet=quiet) as progress:
        table = run_study(
            store,
            out,
            study=study,
            config=train_config,
            seeds=seeds,
            device=device,
            workers=loader_workers,
            test=test,
            controls=controls,
            frames=frames,
            progress=progress.of_run,
            control_progress=progress.of_control,
            stop=StopOnSignal(),
        )
    if not leads():
        return
    note_held_out(store, train_config)
    if as_json:
        variants = [row.summary() for row in table.rows]
        compared = [each.summary() for each in table.comparisons]
        facts = {"study": study, "path": str(out / study), "split": "val", "clips": table.clips, "looks": table.looks}
        beside = [row.summary() for row in table.controls]
        print(json.dumps({**facts, "variants": variants, "controls": beside, "pairs": compared}))
        return
    print(out / study)
    print(markdown(table), end="")


def _plan(
    store: str, out: Path, study: str, config: TrainConfig, seeds: int, device: str, controls: bool
) -> dict[str, Any]:
    """Variants and runs, checked to fit the store and the device, but not timed: that would take minutes."""
    from pipeline.store.token_store import TokenStore
    from star.data.splits import for_choosing, open_splits
    from star.distributed.machine import choose_device
    from star.distributed.world import World
    from star.study.ablate import planned, planned_controls, require_all_fit

    opened = TokenStore.open(store)
    found = planned(opened, out, study=study, config=config, seeds=seeds)
    require_all_fit(opened, found, world=World(device=choose_device(device)))
    splits = open_splits(opened, for_choosing(opened, config), in_memory=False)
    assert splits.val is not None
    names = planned_controls(opened, config, found, pictures=pictures_of(store) is not None) if controls else []
    return {
        "study": study,
        "train_clips": len(splits.train.rows),
        "validation_clips": len(splits.val.rows),
        "test_clips": len(splits.test.rows),
        "runs": sum(len(variant.runs) for variant in found) + bool(names),
        "variants": [
            {"label": variant.label, "settings": variant.settings, "runs": [str(folder) for folder in variant.runs]}
            for variant in found
        ],
        "controls": names,
    }

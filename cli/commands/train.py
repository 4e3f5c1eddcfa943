"""`star train`: train from a token store, with one seed or several, or rotating the clips that validate; under
`torchrun` on several devices."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Debug, DryRun, Json, Quiet
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
    note_steps,
    print_folds,
    print_result,
    print_seeds,
)

if TYPE_CHECKING:
    from star.config.text import TrainConfig


def train(
    from_cache: Annotated[str, typer.Option(help="A store made by `star extract-tokens`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command resumes it.", show_default=False)],
    protocol: Protocol = None,
    preset: Preset = "fast",
    config: ConfigFile = None,
    settings: Settings = None,
    seed: FirstSeed = None,
    seeds: Annotated[int, typer.Option(help="More than 1: as many runs OUT/seed-N, from --seed on.", min=1)] = 1,
    folds: Annotated[
        bool,
        typer.Option(
            "--folds",
            help="Runs OUT/fold-N, each with other training subjects held out and scored on these, never on test.",
        ),
    ] = False,
    device: Device = "auto",
    loader_workers: LoaderWorkers = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the STAR-Transformer from a token store, in minutes; the same command resumes it."""
    train_config = config_of(preset, config, settings, protocol=protocol, seed=seed)
    if dry_run:
        if not leads():
            return  # the plan is of one process, and the same in all
        print(json.dumps(_plan(from_cache, train_config, seeds, folds, device), indent=1))
        return
    from star.evaluate.scoring import final_scores
    from star.study.folds import train_folds
    from star.study.seeds import spread_of, train_seeds
    from star.train.start import train as train_one

    run_options: dict[str, Any] = {
        "device": device,
        "workers": loader_workers,
        "tensorboard": tensorboard,
        "stop": StopOnSignal(),
    }
    notes = partial(note_steps, from_cache, train_config)  # once a step has been made, so that no refusal follows them
    if folds:
        with TrainProgress("train", quiet=quiet, first=notes) as progress:
            rotated = train_folds(
                from_cache, out, config=train_config, seeds=seeds, progress=progress.of_run, **run_options
            )
        if leads():
            note_held_out(from_cache, train_config)
            print_folds(rotated, str(out), first=train_config.seed, as_json=as_json)
        return
    with TrainProgress("train", quiet=quiet, first=notes) as progress:
        if seeds == 1:
            run = train_one(from_cache, out, config=train_config, progress=progress, **run_options)
        else:
            several = train_seeds(
                from_cache,
                out,
                config=train_config,
                seeds=seeds,
                progress=lambda done, event: progress.of_run(f"seed {train_config.seed + done}", done, seeds, event),
                **run_options,
            )
    if seeds == 1:
        if run.reports is None:
            if leads():
                print(json.dumps({"run": str(out)}) if as_json else out)
            return
        scores = final_scores(run, split=run.reports, store=from_cache, device=device, workers=loader_workers)
        if leads():
            print_result(scores, str(out), as_json=as_json)
    elif leads():
        print_seeds(spread_of(several), str(out), first=train_config.seed, as_json=as_json)


def _plan(store: str, config: TrainConfig, seeds: int, folds: bool, device: str) -> dict[str, Any]:
    from pipeline.store.token_store import TokenStore
    from star.study.folds import fold_configs
    from star.train.plan import plan_training

    configs = fold_configs(TokenStore.open(store), config) if folds else [config]
    runs = len(configs) * seeds
    return vars(plan_training(store, config=configs[0], device=device)) | ({"runs": runs} if runs > 1 else {})

"""`star train`: the STAR-Transformer from a token store; under `torchrun` on several devices."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from cli.options import Debug, DryRun, Json, Quiet
from cli.training import TrainProgress, print_result


def train(
    from_cache: Annotated[str, typer.Option(help="A store made by `star extract-tokens`.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command goes on.", show_default=False)],
    protocol: Annotated[
        str | None, typer.Option(help="xsub | xview | xset | … ; default: the first that the store names.")
    ] = None,
    preset: Annotated[str, typer.Option(help="paper | fast | smoke.")] = "fast",
    config: Annotated[Path | None, typer.Option(help="A JSON file of settings, instead of a preset.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over preset or file, for instance optim.lr=1e-3.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.", min=0)] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1.")] = "auto",
    loader_workers: Annotated[
        int | None, typer.Option(help="Threads that read tokens ahead; default: none where the tokens fit into memory.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the STAR-Transformer from a token store, in minutes; the same command goes on after a stop."""
    from star.config import load_config, with_overrides
    from star.evaluate import evaluate_run
    from star.presets import preset as preset_of
    from star.train import train as run_training

    chosen = load_config(config) if config is not None else preset_of(preset)
    given = [*(settings or [])]
    given += [f"data.protocol={protocol}"] if protocol is not None else []
    given += [f"seed={seed}"] if seed is not None else []
    whole = with_overrides(chosen, given)
    if dry_run:
        from star.plan import plan_training

        print(json.dumps(plan_training(from_cache, config=whole, device=device).summary(), indent=1))
        return
    with TrainProgress("train", quiet=quiet) as progress:
        run = run_training(
            from_cache,
            out,
            config=whole,
            device=device,
            workers=loader_workers,
            progress=progress,
        )
    scores = evaluate_run(run, device=device, workers=loader_workers)
    if os.environ.get("RANK", "0") == "0":  # torchrun: one process speaks
        print_result(scores, str(out), as_json=as_json)

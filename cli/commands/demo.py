"""`star demo`: every stage on the synthetic set: videos, prepared clips, tokens, training, accuracy, a picture.

Calls what the other commands call, in their order; every step resumes where a stopped demo ended.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Debug, Quiet, Seed
from cli.progress import ClipProgress
from cli.training import SIDES, StopOnSignal, TrainProgress
from pipeline.config import ExtractOptions, PrepareOptions

if TYPE_CHECKING:
    from star.runs.run import Run

JM_LAYER = "layer1"  # the best of the three with random weights, not with Kinetics ones
Workers = Annotated[int, typer.Option(help="Processes that draw and prepare; 0: one for each core, at most 8.", min=0)]


def demo(
    out: Annotated[Path, typer.Option(help="The folder for everything.")] = Path("demo"),
    clips_per_class: Annotated[int, typer.Option(help="Videos of each of the 14 actions.", min=3)] = 24,
    epochs: Annotated[int | None, typer.Option(help="Training epochs; default: the preset's.", min=1)] = None,
    seed: Seed = 0,
    workers: Workers = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Every stage on the synthetic set, in minutes; ends with an accuracy on unseen subjects and a picture."""
    start = time.monotonic()
    workers = workers or min(os.cpu_count() or 1, 8)
    prepared, store, run_path = out / "prepared", out / "tokens.zarr", out / "run"
    _prepare(prepared, clips_per_class, seed, workers, quiet)
    _extract(prepared, store, seed, quiet)
    run = _train(store, run_path, epochs, seed, quiet)

    from cli.pictures.demo import demo_picture
    from star.evaluate.scoring import final_scores

    beside = _controls(run, prepared, out / "controls", quiet)
    scores = final_scores(run)
    picture = out / "demo.png"
    demo_picture(picture, run=run, scores=scores, prepared=prepared)
    low, high = scores.interval
    model, last = run.config.model, run.metrics()[-1]
    print(f"videos    {prepared / 'raw'}")
    print(f"prepared  {prepared}")
    print(f"tokens    {store}")
    print(f"run       {run_path}")
    print(f"picture   {picture}")
    print(
        f"{model.tokens.upper()} tokens of {JM_LAYER} of a random-weight MC3-18; STAR-Transformer of width "
        f"{model.width}, {model.encoder_depth} + {model.decoder_depth} layers, {model.heads} heads; "
        f"{last['step']} steps, {last['epoch']} epochs"
    )
    print(f"{len(scores.labels)} test clips of subjects that training never saw; 95 % interval {low:.3f} to {high:.3f}")
    sides = {
        side: final_scores(run, split=side).top1 for side in (["val"] if "val" in run.store["clips"] else []) + ["test"]
    }
    _print_table({"STAR-Transformer": sides, **beside})
    print(f"{time.monotonic() - start:.0f} s in all")
    print(f"test accuracy {scores.top1:.3f}")


def _prepare(prepared: Path, clips_per_class: int, seed: int, workers: int, quiet: bool) -> None:
    from pipeline.datasets.synthetic import recipe
    from pipeline.datasets.synthetic.write_all import write_set
    from pipeline.prepare.coordinator import prepare

    with ClipProgress("1/4 draw videos", unit="videos", quiet=quiet) as progress:
        write_set(prepared / "raw", clips_per_class=clips_per_class, seed=seed, workers=workers, progress=progress)
    listing, options = recipe.listing(prepared / "raw"), PrepareOptions(seed=seed)
    with ClipProgress("2/4 prepare", quiet=quiet) as progress:
        prepare(listing, options, prepared, workers=workers, progress=progress)


def _extract(prepared: Path, store: Path, seed: int, quiet: bool) -> None:
    from pipeline.extract.coordinator import extract

    options = ExtractOptions(weights="random", jm_layer=JM_LAYER, seed=seed)
    with ClipProgress("3/4 extract tokens", quiet=quiet) as progress:
        extract(prepared, store, options, progress=progress)


def _train(store: Path, run_path: Path, epochs: int | None, seed: int, quiet: bool) -> Run:
    from star.config.presets import preset
    from star.config.text import with_overrides
    from star.train.start import train

    settings = ["data.protocol=xsub", f"seed={seed}"]
    settings += [f"optim.epochs={epochs}", "optim.min_steps=0"] if epochs is not None else []
    with TrainProgress("4/4 train", quiet=quiet) as progress:
        config = with_overrides(preset("smoke"), settings)
        return train(store, run_path, config=config, progress=progress, stop=StopOnSignal())


def _controls(run: Run, prepared: Path, out: Path, quiet: bool) -> dict[str, dict[str, float]]:
    """{name: {"val": top-1, "test": top-1}} of simpler methods on the same clips, as far as they take seconds."""
    from cli.pictures.frames import middle_pictures, prepared_of
    from pipeline.store.token_store import TokenStore
    from star.controls.inputs import COORDINATES, PIXELS
    from star.controls.linear import METHODS
    from star.controls.run import CHANCE, controls
    from star.controls.shown import handful, whole

    kinds = run.config.model.tokens
    seen = {whole(kind) for kind in ((kinds, "gg", "jm") if kinds == "both" else (kinds,))}

    def quick(method: str, sees: str) -> bool:
        linear = method in METHODS and (sees == PIXELS or sees.startswith(COORDINATES))
        return linear or method == CHANCE or (method == "ridge" and sees in seen)

    store = TokenStore.open(run.store["url"])
    frames = middle_pictures(store, prepared_of(store, prepared))
    tell = TrainProgress("controls", quiet=quiet).of_control
    found = controls(store, run.config, test=True, only=quick, out=out, frames=frames, progress=tell)
    return {
        each.name: {"val": each.validation.top1, **({} if each.test is None else {"test": each.test.top1})}
        for each in handful(found, kinds)
    }


def _print_table(rows: dict[str, dict[str, float]]) -> None:
    """Accuracies by name, aligned; without validation where the model has none."""
    sides = list(next(iter(rows.values())))
    width = max(map(len, rows))
    print(" " * width, *(f"{SIDES[side]:>10}" for side in sides))
    for name, top1 in rows.items():
        print(f"{name:{width}}", *(f"{top1[side]:>10.3f}" for side in sides))

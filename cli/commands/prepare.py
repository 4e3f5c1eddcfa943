"""`star prepare`: one command for each data set, which lists its clips by a recipe and passes them to stage 1."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import (
    AllowMissing,
    Debug,
    DryRun,
    ErrorReportingGroup,
    MaxFailures,
    Out,
    Quiet,
    Scheduler,
    Seed,
    Workers,
    require_local_dry_run,
    sharing,
)
from cli.progress import ClipProgress
from pipeline.config import PrepareOptions

if TYPE_CHECKING:
    from pipeline.records import Listing

app = typer.Typer(cls=ErrorReportingGroup, no_args_is_help=True)


@dataclass(frozen=True)
class Stage:
    """The options that all recipes share: how to prepare, and where to run it.

    `given` holds those of the options whose default depends on the recipe, where the user has set them.
    """

    options: PrepareOptions
    given: dict[str, Any]
    workers: int
    scheduler: str | None
    dry_run: bool
    max_failures: int
    allow_missing: bool
    quiet: bool


def stage_options(
    sampling: Annotated[
        str, typer.Option(help="Frames of draw 0: uniform | random | first | middle | last.")
    ] = "uniform",
    draws: Annotated[int, typer.Option(help="Index sets kept for each video; the first by --sampling.", min=1)] = 1,
    geometry: Annotated[str, typer.Option(help="person | center | full.")] = "person",
    frame_codec: Annotated[str, typer.Option(help="jpeg95 | lossless.")] = "jpeg95",
    shard_clips: Annotated[int, typer.Option(help="Clips in a shard, the unit of work and of resuming.", min=1)] = 64,
    reader: Annotated[str, typer.Option(help="Of the videos: pyav | opencv | decord.")] = "pyav",
    budget: Annotated[float, typer.Option(help="Seconds after which reading a file counts as hung.")] = 60.0,
    max_persons: Annotated[int, typer.Option(help="Persons kept in each clip.", min=1)] = 2,
    persons_by: Annotated[
        str | None,
        typer.Option(help="Which: motion | size | score. By default motion; size for `folder`.", show_default=False),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Joints below it are absent. By default 0; 0.2 for `folder`.", show_default=False),
    ] = None,
    first_frame: Annotated[
        int | None,
        typer.Option(help="Number of the first frame in pose files: 0 | 1. By default by their format and length."),
    ] = None,
    allow_corrupt: Annotated[
        bool, typer.Option("--allow-corrupt", help="Keep frames that the decoder marks corrupt, and mark the clip.")
    ] = False,
    seed: Seed = 0,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
    max_failures: MaxFailures = 0,
    allow_missing: AllowMissing = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> Stage:
    """The options of stage 1; `--debug` is read by the entry point."""
    by_recipe: dict[str, Any] = {"persons_by": persons_by, "min_score": min_score}
    given = {name: value for name, value in by_recipe.items() if value is not None}
    options = PrepareOptions(
        sampling=sampling,
        draws=draws,
        geometry=geometry,
        frame_codec=frame_codec,
        shard_clips=shard_clips,
        reader=reader,
        budget_s=budget,
        max_persons=max_persons,
        first_frame=first_frame,
        allow_corrupt=allow_corrupt,
        seed=seed,
        **given,
    )
    return Stage(options, given, workers, scheduler, dry_run, max_failures, allow_missing, quiet)


Videos = Annotated[Path, typer.Option(help="Folder of <name>_rgb.avi, at any depth.", show_default=False)]
Skeletons = Annotated[Path, typer.Option(help="Folder of <name>.skeleton, at any depth.", show_default=False)]
KeepMissing = Annotated[
    bool, typer.Option("--keep-missing", help="Try the clips of the official missing-skeleton list too.")
]


@app.command("ntu60")
@sharing(stage_options)
def ntu60(videos: Videos, skeletons: Skeletons, out: Out, keep_missing: KeepMissing = False, *, stage: Stage) -> None:
    """NTU RGB+D 60: 60 actions, 40 subjects, 3 cameras, 17 setups."""
    from pipeline.datasets import ntu

    run(ntu.listing(videos, skeletons, dataset="ntu60", exclude_missing=not keep_missing), out, stage)


@app.command("ntu120")
@sharing(stage_options)
def ntu120(videos: Videos, skeletons: Skeletons, out: Out, keep_missing: KeepMissing = False, *, stage: Stage) -> None:
    """NTU RGB+D 120: 120 actions, 106 subjects, 3 cameras, 32 setups."""
    from pipeline.datasets import ntu

    run(ntu.listing(videos, skeletons, dataset="ntu120", exclude_missing=not keep_missing), out, stage)


@app.command("penn-action")
@sharing(stage_options)
def penn_action(
    root: Annotated[Path, typer.Option(help="Folder with frames/ and labels/.", show_default=False)],
    out: Out,
    *,
    stage: Stage,
) -> None:
    """Penn Action: 15 actions, 2,326 videos as JPEG frames, 13 joints."""
    from pipeline.datasets import penn_action as recipe

    run(recipe.listing(root), out, stage)


@app.command("folder")
@sharing(stage_options)
def folder(
    root: Annotated[
        Path, typer.Option(help="root/<class>/<video>, the pose file of the same stem beside it.", show_default=False)
    ],
    out: Out,
    csv: Annotated[
        Path | None, typer.Option(help="Rows path,label[,subject,split,pose] instead of a folder for each class.")
    ] = None,
    *,
    stage: Stage,
) -> None:
    """Your own data: one folder for each class, or a CSV."""
    from pipeline.datasets import folder as recipe

    # estimators give every joint, scored 0.02 where they saw none; and of many people the actor is rarely the liveliest
    by_recipe: dict[str, Any] = {"persons_by": "size", "min_score": 0.2, **stage.given}
    options = replace(stage.options, **by_recipe)
    run(recipe.listing(root, csv=csv, seed=options.seed), out, replace(stage, options=options))


@app.command("synthetic")
@sharing(stage_options)
def synthetic(
    out: Out,
    clips_per_class: Annotated[int, typer.Option(help="Videos of each of the actions.", min=1)] = 30,
    raw_only: Annotated[
        bool, typer.Option("--raw-only", help="Write the videos and skeletons under --out and stop.")
    ] = False,
    *,
    stage: Stage,
) -> None:
    """A made-up data set in the NTU layout: drawn figures, written to OUT/raw, then prepared like NTU."""
    from pipeline.datasets.synthetic import recipe
    from pipeline.datasets.synthetic.write_all import write_set

    raw = out if raw_only else out / "raw"
    if stage.dry_run:
        names = recipe.clip_names(clips_per_class, seed=stage.options.seed)
        print(f"{len(names)} videos would be drawn under {raw}; prepare them with --raw-only to estimate the rest")
        return
    if not raw_only:  # before a video is drawn into a folder that holds something else
        from pipeline.prepare.folder import refuse_other_content

        refuse_other_content(out)
    with ClipProgress("draw", unit="videos", quiet=stage.quiet) as progress:
        write_set(
            raw,
            clips_per_class=clips_per_class,
            seed=stage.options.seed,
            workers=stage.workers,
            scheduler=stage.scheduler,
            progress=progress,
        )
    if raw_only:
        print(raw)
        return
    run(recipe.listing(raw), out, stage)


def run(listing: Listing, out: Path, stage: Stage) -> None:
    """Prepare a listing and print the outcomes; exit with 3 where too many failed or some are missing."""
    for note in listing.notes:
        print(f"star: {note}", file=sys.stderr)
    if stage.dry_run:
        require_local_dry_run(stage.scheduler)
        from pipeline.prepare.estimate import estimate_prepare

        print(json.dumps(estimate_prepare(listing, stage.options, out, workers=stage.workers), indent=1))
        return
    from pipeline.prepare.coordinator import prepare

    with ClipProgress("prepare", quiet=stage.quiet) as progress:
        account = prepare(
            listing, stage.options, out, workers=stage.workers, scheduler=stage.scheduler, progress=progress
        )
    from cli.commands.inspect import print_account

    print_account(str(out), account, max_failures=stage.max_failures, allow_missing=stage.allow_missing)

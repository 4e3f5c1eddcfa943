"""`star report`: one HTML page about a run: training curves, scores, confusions, attention.

In: a run, its store and, where it is found, the prepared folder of that store. Out: a self-contained page, on the test
side of a finished run that was scored there, else on its validation side. `star.report` makes the page; this adds the
frames.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli.options import Debug, Quiet, in_options
from cli.progress import ClipProgress, progress_callback
from cli.training import Device, print_result
from pipeline.errors import ArtifactError

if TYPE_CHECKING:
    from star.report.html import Illustration
    from star.runs.run import Run

Found = TypeVar("Found")


def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `star train`.", show_default=False)],
    store: Annotated[
        str | None, typer.Option(help="Where the store is now; default: where it was trained from.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(help="Where the prepared clips are now; default: where the store was made from.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="val | test; default: test once a finished run was scored on it, else val.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: RUN/report.html.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
    *,
    context: typer.Context,
) -> None:
    """Write a self-contained HTML page about a run: curves, confusion, classes, attention over time and on frames."""
    from cli.pictures.attention import on_frames, over_time
    from cli.pictures.frames import prepared_of
    from pipeline.artifacts.files import write_atomic
    from star.evaluate.attention_maps import has_attention
    from star.evaluate.completeness import completeness_of
    from star.evaluate.scoring import evaluate_run, store_of
    from star.report.html import report as page_of
    from star.runs.run import open_run

    run = open_run(path)
    opened = store_of(run, store)
    side = _side_of(run) if split is None else split
    optional = partial(_if_found, named=prepared is not None, command=context.command)
    folders = optional(lambda: prepared_of(opened, prepared))
    with ClipProgress(f"evaluate {path}", quiet=quiet) as progress:
        scores = evaluate_run(run, store=opened, split=side, device=device, progress=progress_callback(progress))
    pictures: list[Illustration] = []
    if has_attention(run.config.model):
        pictures.append(over_time(run, opened, scores))
        for folder in folders:  # at most one
            pictures += optional(partial(on_frames, run, opened, folder, scores))
    else:
        print("without attention: the run's model has none", file=sys.stderr)
    target = out if out is not None else path / "report.html"
    completeness = completeness_of(run, store=opened, split=side)
    write_atomic(target, page_of(run, scores, completeness=completeness, pictures=pictures).encode())
    print_result(scores, str(target), as_json=False)


def _side_of(run: Run) -> str:
    """The side that a page shows, so that it is no further look at the test split."""
    if any(line.get("split") == "test" for line in run.metrics()):
        return "test"
    if "val" in run.store["clips"]:
        return "val"
    problem = "has no scores to show: it has no validation side, and was not scored on the test split"
    raise ArtifactError(run.path, problem, remedy="finish it with the same `star train`, or name a side with `split`")


def _if_found(find: Callable[[], Found], *, named: bool, command: Any) -> list[Found]:
    """[what needs the prepared clips], or [] and a note where they are missing and the user did not name them."""
    try:
        return [find()]
    except ArtifactError as error:
        if named:
            raise
        print(f"without frames: {in_options(error, command)}", file=sys.stderr)
        return []

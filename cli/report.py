"""`star report`: one HTML page about a run: how it trained, how it scores, where it errs and where it looks.

In: a run, its store and, where it can be found, the prepared folder behind that. Out: the page, which needs nothing
else. The page itself is `star.report`; this joins it with the frames.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Debug
from cli.training import Device, print_result
from pipeline.errors import ArtifactError

if TYPE_CHECKING:
    from pipeline.prepared import PreparedFolder
    from pipeline.store import TokenStore
    from star.report import Picture


def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `star train`.", show_default=False)],
    store: Annotated[
        str | None, typer.Option(help="Another place of the same store; default: where it was trained from.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(help="Where its prepared clips lie; default: where the store was made from.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: RUN/report.html.")] = None,
    device: Device = "auto",
    debug: Debug = False,
) -> None:
    """Write a self-contained HTML page about a run: curves, confusion, classes, attention over time and on frames."""
    from cli.looks import on_frames, over_time
    from pipeline.commit import write_atomic
    from pipeline.store import TokenStore
    from star.evaluate import evaluate_run
    from star.explain import has_attention
    from star.report import report as page_of
    from star.run import open_run

    run = open_run(path)
    opened = TokenStore.open(store if store is not None else run.store["url"])
    folder = _folder(opened, prepared)
    scores = evaluate_run(run, store=opened, device=device)
    pictures: list[Picture] = []
    if has_attention(run.config.model):
        pictures.append(over_time(run, opened, scores))
        if folder is not None:
            pictures.append(on_frames(run, opened, folder, scores))
    else:
        print("without attention: the run's model has none", file=sys.stderr)
    target = out if out is not None else path / "report.html"
    write_atomic(target, page_of(run, scores, pictures=pictures).encode())
    print_result(scores, str(target), as_json=False)


def _folder(store: TokenStore, path: Path | None) -> PreparedFolder | None:
    """The prepared clips; None, and a word to the user who named none, where they cannot be had."""
    from cli.frames import prepared_of

    try:
        return prepared_of(store, path)
    except ArtifactError as error:
        if path is not None:
            raise
        print(f"without frames: {error}", file=sys.stderr)
        return None

"""`star evaluate`: scores a run on a split of its store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Debug, Json
from cli.training import print_result


def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder made by `star train`.", show_default=False)],
    store: Annotated[
        str | None, typer.Option(help="Another place of the same store; default: where it was trained from.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Default: the one it was trained on.")] = None,
    split: Annotated[str, typer.Option(help="test | train.")] = "test",
    views: Annotated[str, typer.Option(help="all (scores averaged) | a view's number.")] = "all",
    batch: Annotated[int, typer.Option(help="Clips at a time; changes no number.", min=1)] = 64,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1.")] = "auto",
    scores_file: Annotated[
        Path | None, typer.Option("--scores", help="Also write clip ids, labels and scores to this .npz.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a run: top-1, top-5, mean class accuracy, with a 95 % interval."""
    from star.evaluate import evaluate_run
    from star.scores import save_scores

    scores = evaluate_run(
        run,
        store=store,
        protocol=protocol,
        split=split,
        views=int(views) if views.isdecimal() else views,
        batch_size=batch,
        device=device,
    )
    if scores_file is not None:
        save_scores(scores, scores_file)
    print_result(scores, str(run), as_json=as_json)

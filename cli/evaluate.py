"""`star evaluate`: scores a run on a split of its store; several fused; two compared on the same clips."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Debug, Json
from cli.training import Device, leads, print_result
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from star.scores import Scores


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Made by `star train`, or a score file (.npz); several are fused.",
            show_default=False,
        ),
    ],
    against: Annotated[
        Path | None, typer.Option(help="Another run, compared on the same clips by McNemar's exact test.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Another place of the same store; default: where it was trained from.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Default: the one it was trained on.")] = None,
    split: Annotated[str, typer.Option(help="test | train.")] = "test",
    views: Annotated[str, typer.Option(help="all (scores averaged) | a view's number.")] = "all",
    batch: Annotated[int, typer.Option(help="Clips at a time; changes no number.", min=1)] = 64,
    device: Device = "auto",
    scores_file: Annotated[
        Path | None, typer.Option("--scores", help="Also write clip ids, labels and (fused) scores to this .npz.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a run: top-1, top-5, mean class accuracy, with a 95 % interval; fuse several, compare with another."""
    from star.scores import save_scores

    if views != "all" and not views.isdecimal():
        raise ConfigError("--views", "no such choice", got=views, expected="all, or a view's number")

    def scored(run: Path) -> Scores:
        return _scores_of(run, store=store, protocol=protocol, split=split, views=views, batch=batch, device=device)

    name = " + ".join(str(run) for run in runs)
    results, facts = _compared({str(run): scored(run) for run in runs}, name)
    if against is not None:
        facts["against"] = {"run": str(against), **_paired(results[name], other := scored(against), name, against)}
        results[str(against)] = other
    if not leads():
        return
    facts["trained_on"] = trained = _trained_on(runs, results[name], store=store)
    if trained and split == "test":
        told = f"{trained} of these {len(results[name].labels)} clips were trained on"
        print(f"star: note: {told}: the run's own protocol divides them otherwise", file=sys.stderr)
    if scores_file is not None:
        save_scores(results[name], scores_file)
    if as_json:
        print(json.dumps(facts))
        return
    for run_name, scores in results.items():
        print_result(scores, run_name, as_json=False)
    if against is not None:
        told = facts["against"]
        print(
            f"{told['only_first']} clips are right in {name} alone, {told['only_second']} in {against} alone: "
            f"McNemar's exact test p = {told['p_value']:.3g}"
        )


def _compared(found: dict[str, Scores], name: str) -> tuple[dict[str, Scores], dict[str, Any]]:
    """The scores of each run and, under `name`, of all of them fused; and the same for JSON."""
    from star.scores import fuse, require_same_clips

    first, *_ = found
    for run, scores in found.items():
        require_same_clips(found[first], scores, what=f"{first} and {run}")
    fused = fuse(list(found.values()))
    facts = {"run": name, **fused.summary()}
    if len(found) > 1:
        facts["fused"] = [{"run": run, **scores.summary()} for run, scores in found.items()]
    return {**found, name: fused}, facts


def _scores_of(
    run: Path, *, store: str | None, protocol: str | None, split: str, views: str, batch: int, device: str
) -> Scores:
    """A run's scores, or those of a score file, which must be what was asked for."""
    from star.evaluate import evaluate_run
    from star.scores import load_scores

    if run.suffix != ".npz":
        return evaluate_run(
            run,
            store=store,
            protocol=protocol,
            split=split,
            views=int(views) if views.isdecimal() else views,
            batch_size=batch,
            device=device,
        )
    if store is not None or views != "all":
        raise ConfigError(run, "holds scores already", got="--store or --views", remedy="leave them out, or name a run")
    scores = load_scores(run)
    if scores.split != split or scores.protocol != (protocol or scores.protocol):
        raise ConfigError(
            run,
            "holds scores of another split",
            got=f"{scores.protocol} {scores.split}",
            expected=f"{protocol or scores.protocol} {split}",
        )
    return scores


def _trained_on(runs: list[Path], scores: Scores, *, store: str | None) -> int:
    """How many of the scored clips one of the runs was trained on; score files do not tell."""
    from star.evaluate import trained_clips
    from star.run import open_run

    known = set[str]()
    for run in (open_run(path) for path in runs if path.suffix != ".npz"):
        if (scores.split, scores.protocol) != ("test", run.store["protocol"]):  # else none, by the protocol's own rule
            known.update(trained_clips(run, store=store).tolist())
    return sum(name in known for name in scores.clip_ids.tolist())


def _paired(first: Scores, second: Scores, name: str, against: Path) -> dict[str, Any]:
    """How many clips one of them alone gets right, and how likely so uneven a pair of numbers is among equals."""
    from star.metrics import mcnemar
    from star.scores import require_same_clips

    require_same_clips(first, second, what=f"{name} and {against}")
    return {
        **second.summary(),
        "only_first": int((first.right & ~second.right).sum()),
        "only_second": int((second.right & ~first.right).sum()),
        "p_value": mcnemar(first.right, second.right),
    }

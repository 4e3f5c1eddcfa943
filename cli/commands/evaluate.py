"""`star evaluate`: score a run on a split of its store; fuse several runs; compare two on the same clips."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Debug, Json, Quiet
from cli.progress import ClipProgress, progress_callback
from cli.training import Device, leads, print_result
from pipeline.errors import ConfigError, printable

if TYPE_CHECKING:
    from star.evaluate.scores import Scores


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="A run of `star train`, or a score file (.npz); several are fused.",
            show_default=False,
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(help="Another run, compared on the same clips: McNemar's exact test, a t-test over subjects."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Where the store is now; default: where it was trained from.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="Default: the run's own.")] = None,
    split: Annotated[str, typer.Option(help="test | val | train.")] = "test",
    views: Annotated[str, typer.Option(help="all (scores averaged) | a view's number.")] = "all",
    batch: Annotated[
        int | None,
        typer.Option(help="Clips at a time; does not change predictions; default: as many as training allowed.", min=1),
    ] = None,
    device: Device = "auto",
    scores_file: Annotated[
        Path | None, typer.Option("--scores", help="Also write clip ids, labels and (fused) scores to this .npz.")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also print each class's accuracy and clips, the worst first.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a run: top-1, top-5, mean class accuracy, with a 95 % interval; fuse several, compare with another."""
    from star.distributed.world import join_world
    from star.evaluate.scores import save_scores

    world = join_world(device)
    with world.agreed():
        wanted = EvaluatedClips(store=store, protocol=protocol, split=split, views=_views(views))
        if scores_file is not None and scores_file.suffix != ".npz":  # which distinguishes a score file from a run
            expected = "a name that ends in .npz"
            raise ConfigError("--scores", "is not the name of a score file", got=scores_file, expected=expected)
    paths = [*runs, *([against] if against is not None else [])]
    found = {str(path): _scores_of(path, wanted, batch=batch, device=device, quiet=quiet) for path in paths}
    name = " + ".join(str(run) for run in runs)
    with world.agreed():
        results, facts = _compared({str(run): found[str(run)] for run in runs}, name)
        if against is not None:
            results[str(against)] = other = found[str(against)]
            facts["against"] = {"run": str(against), **_paired(results[name], other, name, against)}
    if not leads():
        return
    shares = [None if math.isnan(share) else share for share in results[name].per_class.tolist()]
    facts["per_class"] = dict(zip(results[name].class_names, shares, strict=True))
    facts["confusion"] = results[name].confusion.tolist()
    facts["trained_on"] = results[name].seen_in_training
    if against is not None:
        facts["against"]["trained_on"] = other.seen_in_training
    facts |= _completeness(paths, wanted)
    for note in _notes(facts):
        print(printable(f"star: note: {note}"), file=sys.stderr)
    if scores_file is not None:
        save_scores(results[name], scores_file)
    if as_json:
        print(json.dumps(facts))
    else:
        _print(results, facts, name, per_class=per_class)


def _views(text: str) -> str | int:
    if text != "all" and not text.isdecimal():
        raise ConfigError("--views", "no such choice", got=text, expected="all, or a view's number")
    return int(text) if text.isdecimal() else text


def _print(results: dict[str, Scores], facts: dict[str, Any], name: str, *, per_class: bool) -> None:
    """As text: each run, the classes of the result `name`, the paired test."""
    for run, scores in results.items():
        print_result(scores, run, as_json=False)
    if per_class:
        print(f"{'right':>7} {'clips':>6}  class")
        for label, clips, share, taken_for, wrong in results[name].worst_first():
            taken = f", {wrong} taken for {taken_for}" if wrong else ""
            print(printable(f"{100 * share:5.1f} % {clips:6d}  {label}{taken}"))
    if "against" in facts:
        other = facts["against"]
        print(
            f"{other['only_first']} clips are right in {name} alone, {other['only_second']} in {other['run']} alone: "
            f"McNemar's exact test p = {other['p_value']:.3g} (over the clips)"
        )
        low, high = other["difference95"]
        print(
            f"difference {100 * other['difference']:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}, "
            f"p = {other['cluster_p_value']:.3g} (t-test over {other['clusters']} {other['over']})"
        )
        print(other["power"])


@dataclass(frozen=True, kw_only=True)
class EvaluatedClips:
    """Which clips of which store are scored, by the options."""

    store: str | None
    protocol: str | None
    split: str
    views: str | int


def _compared(found: dict[str, Scores], name: str) -> tuple[dict[str, Scores], dict[str, Any]]:
    """The scores of each run and, under `name`, of all of them fused; and the same for JSON."""
    from star.evaluate.scores import fuse, require_same_clips

    first, *_ = found
    for run, scores in found.items():
        require_same_clips(found[first], scores, what=f"{first} and {run}")
    fused = fuse(list(found.values()))
    facts = {"run": name, **fused.summary()}
    if len(found) > 1:
        facts["fused"] = [{"run": run, **scores.summary()} for run, scores in found.items()]
    return {**found, name: fused}, facts


def _scores_of(run: Path, wanted: EvaluatedClips, *, batch: int | None, device: str, quiet: bool) -> Scores:
    """A run's scores, or those of a score file, which must be of the wanted clips."""
    from star.distributed.world import join_world
    from star.evaluate.scores import load_scores
    from star.evaluate.scoring import evaluate_run

    if run.suffix != ".npz":
        with ClipProgress(f"evaluate {run}", quiet=quiet or not leads()) as progress:
            return evaluate_run(
                run, **vars(wanted), batch_size=batch, device=device, progress=progress_callback(progress)
            )
    with join_world(device).agreed():
        if wanted.store is not None or wanted.views != "all":
            remedy = "leave them out, or name a run"
            raise ConfigError(run, "holds scores already", got="--store or --views", remedy=remedy)
        scores = load_scores(run)
        got = f"{scores.protocol} {scores.split}"
        expected = f"{wanted.protocol or scores.protocol} {wanted.split}"
        if got != expected:
            raise ConfigError(run, "holds scores of another split", got=got, expected=expected)
    return scores


def _completeness(runs: list[Path], wanted: EvaluatedClips) -> dict[str, Any]:
    """The step of each run, and how many clips of the split have no tokens; nothing of score files."""
    from star.evaluate.completeness import completeness_of
    from star.runs.run import open_run

    found = {str(path): completeness_of(open_run(path), **vars(wanted)) for path in runs if path.suffix != ".npz"}
    return {
        "training": [
            {
                "run": run,
                "step": one.step,
                "steps": one.steps,
                "finished": one.finished,
                "other_tokens": one.other_tokens,
            }
            for run, one in found.items()
        ],
        "left_out": max((one.left_out for one in found.values()), default=None),
    }


def _notes(facts: dict[str, Any]) -> list[str]:
    """Caveats beside an accuracy: clips that were trained on or have no tokens, unfinished runs."""
    notes = []
    clips = f"of these {facts['clips']} clips"
    for scored in (facts, facts.get("against", {})):
        if scored.get("trained_on") and facts["split"] != "train":
            run = f"{scored['run']} was trained on {scored['trained_on']} {clips}"
            notes.append(f"{run}: its own protocol divides them otherwise")
        elif scored and scored["trained_on"] is None:
            notes.append(f"it is not known whether {scored['run']} was trained on some {clips}")
    if facts["left_out"]:
        split = f"{facts['protocol']} {facts['split']}"
        reasons = "failed, missing or excluded"
        notes.append(f"{facts['left_out']} clips of {split} have no tokens ({reasons}) and are not scored")
    notes += [
        f"the clips have other tokens now than when {run['run']} was trained: the store was made again since"
        for run in facts["training"]
        if run["other_tokens"]
    ]
    notes += [
        f"{run['run']} is unfinished: step {run['step']} of {run['steps']}"
        for run in facts["training"]
        if not run["finished"]
    ]
    return notes


def _paired(first: Scores, second: Scores, name: str, against: Path) -> dict[str, Any]:
    """How many clips only one of them gets right, the difference, and how likely it is if they are equally good: by
    McNemar's test, which takes clips for independent, and by a t-test over what belongs together."""
    from star.evaluate.clusters import paired_difference
    from star.evaluate.metrics import mcnemar
    from star.evaluate.scores import require_same_clips

    require_same_clips(first, second, what=f"{name} and {against}")
    difference = paired_difference(first.right, second.right, first.clusters)
    return {
        **second.summary(),
        "only_first": int((first.right & ~second.right).sum()),
        "only_second": int((second.right & ~first.right).sum()),
        "p_value": mcnemar(first.right, second.right),
        **difference.summary(),
        "power": difference.power(),
    }

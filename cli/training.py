"""Shared by the commands that train: settings, progress on stderr, results on stdout.

In: options of the command line; `star.train.progress.TrainEvent`s; `star.evaluate.scores.Scores`. Out: a
`star.config.TrainConfig`; text. Under torchrun only the first process prints what all of them find.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from cli.progress import EVERY_S, eta, terminal_bar
from pipeline.errors import ArtifactError, StarError, printable

if TYPE_CHECKING:
    from star.config.text import TrainConfig
    from star.controls.inputs import Pictures
    from star.evaluate.scores import Scores
    from star.study.folds import FoldsResult
    from star.study.seeds import Spread
    from star.train.progress import TrainEvent

Protocol = Annotated[str | None, typer.Option(help="xsub | xview | xset | …; default: the store's first.")]
Preset = Annotated[str, typer.Option(help="paper | fast | smoke.")]
ConfigFile = Annotated[
    Path | None, typer.Option(help="A JSON file of settings over the preset, or a run's config.json.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value over preset and file, for instance optim.lr=1e-3.")
]
FirstSeed = Annotated[int | None, typer.Option(help="Short for --set seed=N.", min=0)]
Device = Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1.")]
LoaderWorkers = Annotated[
    int | None, typer.Option(help="Threads that prefetch tokens; default: chosen automatically.", min=0)
]


SIDES = {"val": "validation", "test": "test"}


def leads() -> bool:
    """Whether this process prints: alone, or the first of torchrun's."""
    return os.environ.get("RANK", "0") == "0"


def config_of(
    preset: str, config: Path | None, settings: list[str] | None, *, protocol: str | None, seed: int | None
) -> TrainConfig:
    """The settings of a training, from its options; ConfigError for a preset, file, setting or value that is wrong."""
    from star.config.presets import preset as preset_of
    from star.config.text import load_config, with_overrides

    overrides = [*(settings or [])]
    overrides += [f"data.protocol={protocol}"] if protocol is not None else []
    overrides += [f"seed={seed}"] if seed is not None else []
    try:
        base = preset_of(preset)
        return with_overrides(load_config(config, over=base) if config is not None else base, overrides)
    except StarError:
        if leads():
            raise
        from star.distributed.world import leave_to_the_first

        leave_to_the_first()


def note_held_out(store: str, config: TrainConfig) -> None:
    """Tell on stderr how much was held out, where choices were made and the settings hold nothing out."""
    from pipeline.store.token_store import TokenStore
    from star.data.splits import for_choosing

    share = for_choosing(TokenStore.open(store), config).data.validation
    if share != config.data.validation:
        held = f"{100 * share:g} % of the training subjects were held out to choose by"
        print(f"star: note: {held} (data.validation={share:g})", file=sys.stderr)


def note_steps(store: str, config: TrainConfig) -> None:
    """Tell on stderr where a small training split changes what a step or the number of epochs is.

    What keeps the split from being opened is left to the training, which tells it.
    """
    from pipeline.store.token_store import TokenStore
    from star.data.sampler import Batches
    from star.data.splits import train_split

    optim = config.optim
    try:
        items = len(train_split(TokenStore.open(store), config, in_memory=False))
    except StarError:
        return
    if optim.batch_size > items:
        all_of_them = f"a step takes all {items} training clips"
        print(f"star: note: {all_of_them} (optim.batch_size={optim.batch_size})", file=sys.stderr)
    plan = Batches(
        items=items, batch_size=optim.batch_size, epochs=optim.epochs, min_steps=optim.min_steps, seed=config.seed
    )
    epochs = -(-plan.steps // plan.steps_per_epoch)
    if epochs > optim.epochs:
        made = f"{plan.steps} steps are {epochs} epochs of {items} training clips, not {optim.epochs}"
        print(f"star: note: {made} (optim.min_steps={optim.min_steps})", file=sys.stderr)


def pictures_of(store: str) -> Pictures | None:
    """A picture of each clip for the controls; None, told on stderr, where the prepared clips are not at hand."""
    from cli.pictures.frames import middle_pictures, prepared_of
    from pipeline.store.token_store import TokenStore

    try:
        opened = TokenStore.open(store)
    except StarError:
        return None  # the study tells it
    try:
        return middle_pictures(opened, prepared_of(opened))
    except ArtifactError as error:
        if leads():
            print(printable(f"star: note: no control sees pixels: {error.item} {error.problem}"), file=sys.stderr)
        return None


class StopOnSignal:
    """The `stop` of `star.train.train`: Ctrl-C, or a batch system's SIGTERM, ends it after the current step, saved.

    Only inside its `with` block, and in the main thread; a second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Callable[[], bool]:
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._request_stop) for number in (signal.SIGINT, signal.SIGTERM)
            }
        return lambda: self.requested

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return  # a batch system and torchrun may both send SIGTERM, and a save is under way
        self.requested = True
        if leads():  # not print, which the signal may have interrupted
            os.write(2, b"\nstar: stopping after this step; Ctrl-C again stops at once\n")


class TrainProgress:
    """Call it with events inside a `with` block: a bar on a terminal, else a line every few seconds.

    `first` is called before the first event is shown.
    """

    def __init__(self, title: str, *, quiet: bool = False, first: Callable[[], None] | None = None) -> None:
        self._first = first
        self.command, self.title, self.quiet = title, title, quiet or not leads()
        self._printed_at = time.monotonic()
        self._bar: Any = None
        self.scored = ""  # the last evaluation

    def __enter__(self) -> Self:
        self._bar, self._task = terminal_bar(self.title, quiet=self.quiet, state="state")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: TrainEvent) -> None:
        if self.quiet:
            return
        if self._first is not None:
            first, self._first = self._first, None
            first()
        if event.top1 is not None:
            self.scored = f", {SIDES[event.split]} top-1 {event.top1:.3f}"
        state = f"loss {event.loss:.3f}, {event.clips_per_s:.0f} clips/s, {100 * event.wait_share:.0f} % waiting"
        state += self.scored
        if self._bar is not None:
            done = {"completed": event.done, "total": event.total}
            self._bar.update(self._task, description=self.title, state=state, **done)
        elif time.monotonic() - self._printed_at > EVERY_S or event.done == event.total:
            self._printed_at = time.monotonic()
            state += eta(event.eta_s) if event.done < event.total else ""
            print(f"{self.title}: step {event.done}/{event.total}, {state}", file=sys.stderr, flush=True)

    def of_control(self, name: str) -> None:
        """Take the name of a control that is computed next."""
        if not self.quiet:
            print(f"{self.command}: {name}", file=sys.stderr, flush=True)

    def of_run(self, name: str, done: int, total: int, event: TrainEvent) -> None:
        """Take one event of a run, when `done` of `total` runs are finished."""
        title = f"{self.command} {done + 1}/{total}, {name}"
        if title != self.title:
            self.title, self.scored = title, ""
        self(event)


def print_result(scores: Scores, path: str, *, as_json: bool) -> None:
    """Print the accuracy with its interval, as text or JSON."""
    if as_json:
        print(json.dumps({"run": path, **scores.summary()}))
        return
    print(path)
    print(f"top-1 {scores.top1:.4f} ({_intervals(scores)}), top-5 {scores.top5:.4f}")
    where = f"{len(scores.labels)} clips of {scores.protocol} {scores.split}"
    print(f"mean class accuracy {scores.mean_class_accuracy:.4f}, {where}")


def print_seeds(found: Spread, path: str, *, first: int, as_json: bool) -> None:
    """Print the accuracy of several seeds, the first of which is `first`."""
    if as_json:
        print(json.dumps({"run": path, "seeds": list(range(first, first + len(found.top1))), **found.summary()}))
        return
    print(path)
    for seed, top1 in enumerate(found.top1, start=first):
        print(f"seed {seed}: top-1 {top1:.4f}")
    print(
        f"mean top-1 {found.mean:.4f}, standard deviation over {len(found.top1)} seeds {found.spread:.4f}, "
        f"{_intervals(found)} (of the mean, without the seeds' spread)"
    )
    print(f"mean class accuracy {found.mean_class_accuracy:.4f}")


def print_folds(found: FoldsResult, path: str, *, first: int, as_json: bool) -> None:
    """Print the accuracy of each fold on its own held-out clips; `first`: the first seed."""
    facts = found.summary()
    seeds = len(found.folds[0])
    if as_json:
        print(json.dumps({"run": path, "seeds": list(range(first, first + seeds)), **facts}))
        return
    print(path)
    for fold in facts["folds"]:
        each = ", ".join(f"{top1:.4f}" for top1 in fold["top1"])
        print(f"fold {fold['fold']}: top-1 {each} on {fold['clips']} clips held out of training")
    folds = len(found.folds)
    print(f"mean top-1 {found.mean:.4f}, standard deviation over {folds} folds {found.spread:.4f}")
    spread = f", standard deviation over {seeds} seeds {found.pooled.spread:.4f}" if seeds > 1 else ""
    where = f"all {facts['clips']} training clips of {facts['protocol']}, each scored by a run that did not see it"
    print(f"pooled top-1 {found.pooled.mean:.4f}{spread}, {_intervals(found.pooled)}, of {where}")
    print(f"mean class accuracy {found.pooled.mean_class_accuracy:.4f}")


def _intervals(found: Scores | Spread) -> str:
    """The interval over the clips and, where clips belong together, that over the clusters."""
    low, high = found.interval
    text = f"95 % interval {low:.4f} to {high:.4f} over the clips"
    if found.clusters.over == "clips":
        return text
    low, high = found.cluster_interval
    return f"{text}, {low:.4f} to {high:.4f} over {found.clusters}"

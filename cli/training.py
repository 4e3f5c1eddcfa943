"""What `train`, `evaluate` and `demo` tell of a run: progress while it trains, and how it scores.

In: `star.progress.TrainEvent`s; `star.scores.Scores`. Out: progress on stderr, the result on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cli.progress import EVERY_S

if TYPE_CHECKING:
    from star.progress import TrainEvent
    from star.scores import Scores


class TrainProgress:
    """Call it with events inside a `with` block: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self.title, self.quiet = title, quiet
        self._told = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self.last_top1: float | None = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(
                *columns, TextColumn("{task.fields[state]}"), TimeRemainingColumn(), console=Console(stderr=True)
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=None, state="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: TrainEvent) -> None:
        """Take one event."""
        if self.quiet:
            return
        if event.top1 is not None:
            self.last_top1 = event.top1
        state = f"loss {event.loss:.3f}, {event.clips_per_s:.0f} clips/s, {100 * event.wait_share:.0f} % waiting"
        state += f", test top-1 {self.last_top1:.3f}" if self.last_top1 is not None else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=event.done, total=event.total, state=state)
        elif time.monotonic() - self._told > EVERY_S or event.done == event.total:
            self._told = time.monotonic()
            eta = f", ETA {int(event.eta_s // 60)}:{int(event.eta_s % 60):02d}" if event.done < event.total else ""
            print(f"{self.title}: step {event.done}/{event.total}, {state}{eta}", file=sys.stderr, flush=True)


def print_result(scores: Scores, path: str, *, as_json: bool) -> None:
    """Accuracy with its interval, for people or programs."""
    if as_json:
        print(json.dumps({"run": path, **scores.summary()}))
        return
    low, high = scores.interval
    print(path)
    print(f"top-1 {scores.top1:.4f} (95 % interval {low:.4f} to {high:.4f}), top-5 {scores.top5:.4f}")
    where = f"{len(scores.labels)} clips of {scores.protocol} {scores.split}"
    print(f"mean class accuracy {scores.mean_class_accuracy:.4f}, {where}")

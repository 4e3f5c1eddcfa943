"""The progress of a stage on stderr: a bar with rate and ETA on a terminal, else a line every few seconds.

In: events {"total", "done", "how"} and {"clip", "outcome"}, from any thread. Out: text on stderr, nothing on stdout.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from pipeline.errors import printable

EVERY_S = 5.0  # between two lines where stderr is no terminal


def terminal_bar(title: str, *, quiet: bool, state: str, warning: str = "") -> tuple[Any, Any]:
    """A started bar and its task, with a text field before the ETA and one in red after it; (None, None) elsewhere."""
    if quiet or not sys.stderr.isatty():
        return None, None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # no markup: a title may hold the name of a folder, and that any characters
    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(f"{{task.fields[{state}]}}", markup=False), TimeRemainingColumn()]
    columns += [TextColumn(f"{{task.fields[{warning}]}}", style="red", markup=False)] if warning else []
    bar = Progress(*columns, console=Console(stderr=True))
    bar.start()
    texts: dict[str, Any] = {state: "", warning: ""}
    return bar, bar.add_task(title, total=None, **texts)


def eta(seconds: float) -> str:
    """For instance `, ETA 1:05` for 65 seconds."""
    return f", ETA {int(seconds // 60)}:{int(seconds % 60):02d}"


class ClipProgress:
    """Call it with events inside a `with` block."""

    def __init__(self, title: str, *, unit: str = "clips", quiet: bool = False) -> None:
        self.title, self.unit, self.quiet = printable(title), unit, quiet
        self.total = self.before = self.done = self.failed = 0
        self._lock = threading.Lock()
        self._start = self._printed_at = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._bar, self._task = terminal_bar(self.title, quiet=self.quiet, state="rate", warning="failed")
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self.quiet and self.done and kind is None:
            self._line()

    def __call__(self, event: dict[str, Any]) -> None:
        with self._lock:
            if "total" in event:
                self.total, self.before = event["total"], event.get("done", 0)
                if "how" in event and not self.quiet:
                    print(f"{self.title}: on {event['how']}", file=sys.stderr, flush=True)
                self._start = self._printed_at = time.monotonic()
            else:
                self.done += int(event.get("count", 1))
                self.failed += event.get("outcome") == "failed"
            if self._bar is not None:
                self._bar.update(
                    self._task,
                    total=self.total or None,
                    completed=self.before + self.done,
                    rate=f"{self._rate():.1f} {self.unit}/s" if self.done else "",
                    failed=f"{self.failed} failed" if self.failed else "",
                )
            elif not self.quiet and time.monotonic() - self._printed_at > EVERY_S:
                self._line()

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._start, 1e-6)

    def _line(self) -> None:
        self._printed_at = time.monotonic()
        left = (self.total - self.before - self.done) / max(self._rate(), 1e-6)
        failed = f", {self.failed} failed" if self.failed else ""
        count = f"{self.before + self.done}/{self.total} {self.unit}"
        print(
            f"{self.title}: {count}, {self._rate():.1f} {self.unit}/s{eta(left) if left >= 1 else ''}{failed}",
            file=sys.stderr,
            flush=True,
        )


def progress_callback(progress: ClipProgress) -> Callable[[int, int], None]:
    """A callback for (done, total) clips; a clip counts once for each view."""

    def update(done: int, total: int) -> None:
        progress.total = total  # an event would restart the clock after the first batch
        progress({"count": done - progress.done})

    return update

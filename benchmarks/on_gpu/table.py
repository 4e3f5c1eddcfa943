"""Rows of one table under a time budget: what is planned, measured, skipped, failed and cut off.

In: planned rows, each a function that measures and an estimate of its seconds. Out: a Markdown table, each row printed
as soon as it is measured, and the same as plain values. Independent of what is measured.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from pipeline.errors import StarError

HEADER = "| part | row | speed | unit | shares | peak GB | note |\n| --- | --- | ---: | --- | --- | ---: | --- |"
OUT_OF_TIME = "out of time"
WARM_UP, BLOCKS = 3, 3
# One row that fails must not cost the others: a GPU may be available for these minutes only.
FAILURES = (
    *(RuntimeError, StarError, OSError, ImportError, ValueError),
    *(TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
)


class BudgetSpentError(BaseException):
    """Raised in the middle of a row when the whole budget is spent; no library may catch it as an error of its own."""


class SkippedError(Exception):
    """Raised by a row that cannot be measured here; its text says why."""


@dataclass
class Measured:
    """The result of a row.

    Attributes:
        speed: in `unit`. shares: by the name of the whole. note: for the last column.
        peak_gb: the most GPU memory that tensors took; None: that of the whole row.
    """

    speed: float
    unit: str
    shares: dict[str, float] = field(default_factory=dict)
    note: str = ""
    peak_gb: float | None = None


@dataclass
class Planned:
    """A row of the table: its part and name, about how many seconds it takes, and what measures it."""

    part: str
    name: str
    seconds: float
    measure: Callable[[], Measured]


class Table:
    """Measures planned rows in order, prints each, and keeps `rows`: part, row, outcome, and what was measured."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device = device
        self.begin = time.monotonic()
        self.end = self.begin + 60 * minutes
        self.rows: list[dict[str, Any]] = []

    def header(self) -> None:
        print(HEADER, flush=True)

    def run(self, planned: list[Planned], *, until: float) -> None:
        """Measure the rows that fit into the time before `until` (a share of the whole budget)."""
        deadline = self.begin + until * (self.end - self.begin)
        for number, row in enumerate(planned):
            if time.monotonic() + row.seconds > deadline:
                self._add(row, "cut off", OUT_OF_TIME)
                continue
            try:
                self._measure(row)
            except BudgetSpentError:
                for cut in planned[number:]:
                    self._add(cut, "cut off", OUT_OF_TIME)
                return

    def _measure(self, row: Planned) -> None:
        begun = time.monotonic()
        try:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)
            measured = row.measure()
        except SkippedError as error:
            self._add(row, "skipped", str(error))
        except FAILURES as error:
            if any(isinstance(cause, torch.OutOfMemoryError) for cause in (error, error.__cause__)):
                self._add(row, "skipped", "does not fit into the memory of the GPU")
            else:
                first = (str(error).strip().splitlines() or [""])[0]
                self._add(row, "failed", f"{type(error).__name__}: {first[:200]}")
        else:
            if measured.peak_gb is None:
                measured.peak_gb = peak_gb(self.device)
            took = round(time.monotonic() - begun, 1)
            self._add(row, "measured", measured.note, {**asdict(measured), "took_s": took})

    def _add(self, row: Planned, outcome: str, note: str, measured: dict[str, Any] | None = None) -> None:
        values = measured or {"speed": None, "unit": "", "shares": {}, "peak_gb": None}
        self.rows.append({"part": row.part, "row": row.name, "outcome": outcome, **values, "note": note})
        speed = outcome
        if values["speed"] is not None:
            speed = f"{values['speed']:,.0f}" if values["speed"] >= 1000 else f"{values['speed']:.3g}"
        shares = ", ".join(f"{share:.2f} of {name}" for name, share in values["shares"].items())
        peak = "" if values["peak_gb"] is None else f"{values['peak_gb']:.2f}"
        cells = (row.part, row.name, speed, values["unit"], shares, peak, note.replace("|", "/"))
        print("| " + " | ".join(cells) + " |", flush=True)

    def of(self, outcome: str) -> list[str]:
        """The rows that ended so."""
        return [f"{row['part']}: {row['row']}" for row in self.rows if row["outcome"] == outcome]


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raise BudgetSpentError in the main thread after so many seconds, whatever it is doing."""

    def stop(*_: object) -> None:
        raise BudgetSpentError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_gb(device: torch.device) -> float | None:
    """The most memory that tensors took on a GPU since the row began."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def seconds_per_call(work: Callable[[], object], device: torch.device, budget_s: float) -> float:
    """The median over three blocks of calls, after three that warm up; about `budget_s` in all, 0: one after one.

    On a GPU the calls of a block are queued one after the other, and events on their stream take the time: the
    host's time to launch them counts only where the GPU waits for it.
    """
    for _ in range(WARM_UP if budget_s else 1):
        work()
    if not budget_s:
        return _block(work, device, 1)
    calls = 1 + int(budget_s / BLOCKS / max(_block(work, device, 1), 1e-6))
    return sorted(_block(work, device, calls) for _ in range(BLOCKS))[BLOCKS // 2]


def _block(work: Callable[[], object], device: torch.device, calls: int) -> float:
    """Seconds of each of so many calls."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - start) / calls

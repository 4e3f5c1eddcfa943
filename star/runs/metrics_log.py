"""RUN/metrics.jsonl: one JSON object a line, appended while a run trains.

In: {"step", "epoch", "loss", "lr"} for training, {"step", "epoch", "split", "top1", ...} for evaluation. Out: whole
lines. Steps are counted from 1, and nothing that a clock decides is in it: a resumed run's file equals an undisturbed
one's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.files import unwritable, write_atomic, write_unbuffered
from pipeline.errors import CorruptError

METRICS = "metrics.jsonl"


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's metrics.jsonl, in order; none where there is no such file.

    Raises:
        CorruptError: a line is no JSON object with a step, and which.
    """
    path = run / METRICS
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            values = dict(json.loads(line))
            lines.append({**values, "step": int(values["step"])})
        except (ValueError, TypeError, KeyError):
            raise CorruptError(path, f"line {number} is none of ours", remedy="delete that line") from None
    return lines


class MetricsLog:
    """Appends to metrics.jsonl, from a given step on: later lines of an earlier attempt are removed first.

    `tensorboard`: show the lines there as well.

    Raises:
        ArtifactError: the disk is full or cannot be written.
    """

    def __init__(self, run: Path, *, step: int, tensorboard: bool = False) -> None:
        self.path = run / METRICS
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        write_atomic(self.path, b"".join(_line(values) for values in kept))
        try:  # without a buffer: what the system refuses is told by the line it refuses, and by nothing after it
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._board = None
        if tensorboard:
            from star.runs.tensorboard import Board  # seconds to import, so only where it was asked for

            self._board = Board(run, step=step)

    def write(self, values: Mapping[str, Any]) -> None:
        """One line, handed to the system at once, so that who follows the file sees it."""
        try:
            write_unbuffered(self._file, _line(values))
        except OSError as error:
            raise unwritable(self.path, error) from error
        if self._board is not None:
            self._board.write(values)

    def sync(self) -> None:
        """Make the lines outlast a power cut; done before a checkpoint that counts on them."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode()

"""RUN/metrics.jsonl: one JSON object a line, appended while a run trains.

In: {"step", "epoch", "loss", "lr"} for training, {"step", "epoch", "split", "top1", ...} for evaluation. Out: whole
lines. Steps are counted from 1, and nothing depends on a clock: the file of a resumed run equals that of an undisturbed
one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import open_to_append, read_file
from pipeline.artifacts.files import write_atomic, write_unbuffered
from pipeline.artifacts.schema import check, parse_json, whole
from pipeline.errors import CorruptError
from star.runs.tensorboard import Board, write_errors

METRICS = "metrics.jsonl"
LARGEST = 1 << 32  # bytes
TRAINING = {"step": whole(), "epoch": float, "loss": float, "lr": float}
EVALUATION = {"step": whole(), "epoch": float, "split": ("val", "test"), "top1": float}


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's metrics.jsonl, in order; none without such a file.

    Raises:
        CorruptError: a line, named by its number, is not a JSON object with a step.
    """
    path = run / METRICS
    try:
        data = read_file(path, root=run, most=LARGEST)
    except FileNotFoundError:
        return []
    lines = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            values = parse_json(line, path)
            check(values, EVALUATION if isinstance(values, dict) and "top1" in values else TRAINING, path)
        except CorruptError as error:
            problem = f"line {number} is not a metrics line: it {error.problem}"
            raise CorruptError(path, problem, remedy="delete that line") from None
        lines.append(values)
    return lines


class MetricsLog:
    """Appends to metrics.jsonl from a given step on; lines of an earlier attempt after that step are removed first.

    Args:
        tensorboard: write the lines for TensorBoard as well.

    Raises:
        ArtifactError: the disk is full or cannot be written. ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run: Path, *, step: int, tensorboard: bool = False) -> None:
        self.path = run / METRICS
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        write_atomic(self.path, b"".join(_line(values) for values in kept))
        with write_errors(self.path):  # unbuffered: the line that cannot be written raises, not a later one
            self._file = os.fdopen(open_to_append(run, METRICS), "ab", buffering=0)
        self._board = Board(run, step=step) if tensorboard else None

    def write(self, values: Mapping[str, Any]) -> None:
        """One line, passed to the system at once, so that readers of the file see it."""
        with write_errors(self.path):
            write_unbuffered(self._file, _line(values))
        if self._board is not None:
            self._board.write(values)

    def sync(self) -> None:
        """Make the lines survive a power cut, before a checkpoint that relies on them."""
        with write_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n").encode()

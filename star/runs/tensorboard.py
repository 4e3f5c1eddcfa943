"""The lines of metrics.jsonl for TensorBoard, written beside it.

In: the same lines. Out: RUN/tensorboard. A view for people: nothing reads it back, and a run does not need it. Imported
where it was asked for alone, since TensorBoard takes seconds to load. Events are written by the caller's thread:
TensorBoard's own writer has a thread of its own, in which a full disk ends in a traceback and in silence.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from pipeline.artifacts.files import unwritable, write_unbuffered

FOLDER = "tensorboard"


class Board:
    """Writes scalars "train/loss", "train/lr", "test/top1", ... by step.

    Args:
        step: steps done; what an earlier attempt wrote after it is hidden by TensorBoard (its purge step).

    Raises:
        ArtifactError: the disk is full or cannot be written; `write` raises it as well.
    """

    def __init__(self, run: Path, *, step: int) -> None:
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self.path = run / FOLDER / name
        try:
            self.path.parent.mkdir(exist_ok=True)
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._records = RecordWriter(_Whole(self._file))
        self._put(Event(file_version="brain.Event:2"))
        self._put(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: its numbers, but for step and epoch."""
        part = values.get("split", "train")
        scalars = [
            Summary.Value(tag=f"{part}/{name}", simple_value=value)
            for name, value in values.items()
            if isinstance(value, float)
        ]
        self._put(Event(step=values["step"], summary=Summary(value=scalars)))

    def _put(self, event: Event) -> None:
        event.wall_time = time.time()
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        self._file.close()


class _Whole:
    """What a RecordWriter asks of a file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        write_unbuffered(self._file, data)

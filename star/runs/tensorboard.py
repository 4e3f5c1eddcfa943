"""The lines of metrics.jsonl for TensorBoard, written beside it by torch's `SummaryWriter`.

In: the same lines. Out: RUN/tensorboard. A view for people: nothing reads it back, and a run does not need it.
TensorBoard is an optional dependency and takes seconds to import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import refuse_links
from pipeline.artifacts.files import unwritable
from pipeline.errors import ConfigError


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise ArtifactError where the block cannot write to `path`."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def require_tensorboard() -> None:
    """Raise ConfigError where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "tensorboard", "TensorBoard is not installed", remedy="run `pip install 'star-tokens[tensorboard]'`"
        )


class Board:
    """Writes scalars "train/loss", "train/lr", "test/top1", ... by step.

    Args:
        step: steps done; TensorBoard hides what an earlier attempt wrote after it (the purge step).

    Raises:
        ArtifactError: the disk is full or cannot be written; `write` raises it as well, at this line or a later one,
            since TensorBoard writes in a thread of its own (which prints the error too).
    """

    def __init__(self, run: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / "tensorboard"
        refuse_links(run, self.path)
        with write_errors(self.path):
            self._writer = SummaryWriter(str(self.path), purge_step=step + 1)

    def write(self, values: Mapping[str, Any]) -> None:
        """The float values of one line of metrics.jsonl."""
        part = values.get("split", "train")
        with write_errors(self.path):
            for name, value in values.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{part}/{name}", value, values["step"])
            self._writer.flush()  # so that an error of the writer's thread shows soon

    def close(self) -> None:
        with contextlib.suppress(OSError):  # metrics.jsonl holds what is lost here
            self._writer.close()

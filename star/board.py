"""The lines of metrics.jsonl for TensorBoard, written beside it.

In: the same lines. Out: RUN/tensorboard. A view for people: nothing reads it back, and a run does not need it. Imported
where it was asked for alone, since TensorBoard takes seconds to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class Board:
    """Writes scalars "train/loss", "train/lr", "test/top1", ... by step.

    Args:
        step: steps done; what an earlier attempt wrote after it is hidden by TensorBoard (its purge step).
    """

    def __init__(self, run: Path, *, step: int) -> None:
        self._writer = SummaryWriter(run / FOLDER, purge_step=step + 1)

    def write(self, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: its numbers, but for step and epoch."""
        part = values.get("split", "train")
        for name, value in values.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{part}/{name}", value, values["step"])

    def close(self) -> None:
        self._writer.close()

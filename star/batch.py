"""A batch of clips with named fields: what the data set gives and every model takes.

In: tensors. Out: the same tensors on another device, or some of their rows. Reads nothing; which fields a model uses
is its `reads`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B clips of a store, or one clip without the first axis. A token kind that was not requested has no channels.

    Attributes:
        gg: (B, T, P, D), jm: (B, T, V, D') tokens, float16 as stored.
        joint_mask: (B, T, V) bool, true where the joint is present.
        labels: (B,) int64. clips: (B,) int64, rows of the store.
        joints: (B, M, T, V, 2) pixels, joint_scores: (B, M, T, V), xyz: (B, M, T, V, 3); None where not requested.
    """

    gg: Tensor
    jm: Tensor
    joint_mask: Tensor
    labels: Tensor
    clips: Tensor
    joints: Tensor | None = None
    joint_scores: Tensor | None = None
    xyz: Tensor | None = None

    def __len__(self) -> int:
        """B; a clip without the first axis has no length."""
        return len(self.clips)

    def tensors(self) -> dict[str, Tensor]:
        """Every field that is not None, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in values.items() if tensor is not None}

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `function` applied to each tensor."""
        return Batch(**{name: function(tensor) for name, tensor in self.tensors().items()})

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Batch:
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """For a DataLoader with pin_memory=True."""
        return self.map(Tensor.pin_memory)

    def rows(self, rows: slice | int) -> Batch:
        """A part of the clips (views, not copies), or a single clip without the first axis."""
        return self.map(lambda tensor: tensor[rows])

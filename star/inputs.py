"""The way of a token into a model: its channels standardised or whitened, then projected to the model's width.

In: tokens (B, T, S, channels) of one kind, as stored. Out: (B, T, S, width). The statistics come from a training split
and are buffers, never learnt. No positions and no class tokens: `star.model` adds them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_SPREAD = 1e-2  # of the median spread over a token kind's channels
MIN_VARIANCE = 1e-2  # of the mean variance over the directions of a token kind's channels


class Standardise(nn.Module):
    """(x - mean) / spread for each channel, both buffers, so a checkpoint holds them.

    They start as 0 and 1, are set from the training split, and are never learnt.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def set(self, mean: Tensor, spread: Tensor) -> None:
        """Take (channels,) statistics.

        A channel that never changes in training is only centred. One that hardly changes is divided by `MIN_SPREAD`
        of the median spread: else the first clip to change it would lie thousands of spreads away from all others.
        """
        moving = spread[spread > 0]
        least = MIN_SPREAD * moving.median() if moving.numel() else spread.new_ones(())
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(spread > 0, spread.clamp(min=least), torch.ones_like(spread)))

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens.to(self.mean.dtype) - self.mean) / self.spread


class Whiten(nn.Module):
    """(x - mean of its place) @ matrix: channels that are uncorrelated over the tokens of the training split.

    Each has variance 1, but for directions of little variance: `MIN_VARIANCE` of the mean variance is added to each, so
    that noise is not blown up. Buffers, as in `Standardise`: they start as 0 and the identity.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, frames: int, places: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(frames, places, channels))
        self.register_buffer("matrix", torch.eye(channels))

    def set(self, means: Tensor, covariance: Tensor) -> None:
        """Take (T, S, channels) means of the places and the (channels, channels) covariance about them."""
        variances, directions = torch.linalg.eigh(covariance.double())
        variances = variances.clamp(min=0)
        floor = MIN_VARIANCE * variances.mean()
        self.mean.copy_(means)
        if floor > 0:  # else no channel ever changes: it is only centred
            self.matrix.copy_(directions / (variances + floor).sqrt())

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens.to(self.mean.dtype) - self.mean) @ self.matrix


class PlaceLinear(nn.Module):
    """A linear map of its own for each place: (B, T, S, channels) -> (B, T, S, width).

    `places` is (S,), for maps that the frames share, or (T, S).
    """

    def __init__(self, places: tuple[int, ...], channels: int, width: int) -> None:
        super().__init__()
        bound = channels**-0.5  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(*places, channels, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, tokens: Tensor) -> Tensor:
        places = "tscw" if self.weight.ndim == 4 else "scw"
        return torch.einsum(f"btsc,{places}->btsw", tokens, self.weight) + self.bias


def projection(kind: str, frames: int, places: int, channels: int, width: int) -> nn.Module:
    """The map of tokens to the model's width: "shared", "place", or one for each joint or cell."""
    if kind == "shared":
        return nn.Linear(channels, width)
    return PlaceLinear((frames, places) if kind == "place" else (places,), channels, width)

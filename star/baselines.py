"""Small models on the same clips: baselines for the STAR-Transformer's accuracy.

In: a `star.batch.Batch` with gg (B, T, P, D), jm (B, T, V, D'), joint_mask (B, T, V), or joints and xyz. Out: logits
(B, A). They are trained and evaluated by the same code (`model.kind`). None is from the paper; all are ours. Linear
models are not among them: `star.controls` solves them exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from star.batch import Batch
from star.config.options import ModelConfig
from star.coordinates import CHANNELS, coordinate_features
from star.model import TokenModel


class Baseline(TokenModel):
    """What the baselines share: standardised tokens in which an absent joint is zero, the mean of its channel."""

    def tokens(self, batch: Batch) -> list[Tensor]:
        """(B, T, P, D) and (B, T, V, D'), as far as the model uses them."""
        found = []
        if self.config.uses_gg:
            found.append(self.gg_standard(batch.gg))
        if self.config.uses_jm:
            found.append(self.jm_standard(batch.jm) * batch.joint_mask[..., None])
        return found


class AttentiveProbe(Baseline):
    """Attention of one learned query over all tokens with their positions, then a linear layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.width
        self.projections, self.positions = nn.ModuleList(), nn.ParameterList()
        if config.uses_gg:
            self.projections.append(nn.Linear(config.gg_channels, width))
            self.positions.append(0.02 * torch.randn(config.frames, config.cells, width))
        if config.uses_jm:
            self.projections.append(nn.Linear(config.jm_channels, width))
            self.positions.append(0.02 * torch.randn(config.frames, config.joints, width))
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.classes)

    def forward(self, batch: Batch) -> Tensor:
        parts = zip(self.projections, self.positions, self.tokens(batch), strict=True)
        z = torch.cat([(project(tokens) + position).flatten(1, 2) for project, position, tokens in parts], dim=1)
        pooled, _ = self.attention(self.query.expand(len(z), -1, -1), z, z, need_weights=False)
        return self.head(self.norm(pooled[:, 0]))


class TokenGRU(Baseline):
    """A GRU over the frames' joint tokens, each projected to a few channels; the last state gives the action."""

    CHANNELS = 8  # of a projected joint: 25 joints give 200 inputs a frame

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.project = nn.Linear(config.jm_channels, self.CHANNELS)
        self.gru = nn.GRU(config.joints * self.CHANNELS, config.width, batch_first=True)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, batch: Batch) -> Tensor:
        joints = self.tokens(batch)[-1]
        _, last = self.gru(self.project(joints).flatten(2))
        return self.head(last[-1])


class CoordinateGRU(TokenModel):
    """A GRU over the frames' joint coordinates (`star.coordinates`), without any token.

    Each person is a sequence of its own; the mean state over time, and the largest over the persons of the clip, gives
    the action. A clip without any joint has the logits of a state of zeros.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.project = nn.Linear((config.joints + 1) * CHANNELS, config.width)
        self.gru = nn.GRU(config.width, config.width, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, batch: Batch) -> Tensor:
        assert batch.joints is not None
        assert batch.xyz is not None
        return self.of_features(coordinate_features(batch.joints, batch.xyz))

    def of_features(self, features: Tensor) -> Tensor:
        """Logits (B, A) of `coordinate_features` (B, M, T, V + 1, 12)."""
        there = features.ne(0).flatten(2).any(dim=2)  # (B, M)
        states, _ = self.gru(self.project(self.dropout(features.flatten(3)[there])))
        means = states.new_full((*there.shape, states.shape[-1]), -torch.inf)
        means[there] = states.mean(dim=1)
        pooled = torch.where(there.any(dim=1, keepdim=True), means.amax(dim=1), 0)
        return self.head(self.dropout(pooled))

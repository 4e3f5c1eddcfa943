"""Small models on the same tokens: baselines for the STAR-Transformer's accuracy.

In: a `star.batch.Batch` with gg (B, T, P, D), jm (B, T, V, D'), joint_mask (B, T, V). Out: logits (B, A). They are
trained and evaluated by the same code (`model.kind`). None is from the paper; all are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from star.batch import Batch
from star.config.options import ModelConfig
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


class LinearProbe(Baseline):
    """A linear layer on the mean token of each kind over all frames: what the backbone alone knows. Blind to order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels = config.uses_gg * config.gg_channels + config.uses_jm * config.jm_channels
        self.head = nn.Linear(channels, config.classes)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(torch.cat([tokens.mean(dim=(1, 2)) for tokens in self.tokens(batch)], dim=-1))


class FrameProbe(Baseline):
    """A linear layer on all tokens of the middle frame.

    The 3-D kernels of the backbone's first layers mix five frames to each side into such a token, so this probe is not
    blind to the direction of time; `benchmarks/drawn_set.py` has one that is.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        cells, joints = config.uses_gg * config.cells, config.uses_jm * config.joints
        self.head = nn.Linear(cells * config.gg_channels + joints * config.jm_channels, config.classes)

    def forward(self, batch: Batch) -> Tensor:
        middle = self.config.frames // 2
        return self.head(torch.cat([tokens[:, middle].flatten(1) for tokens in self.tokens(batch)], dim=-1))


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


class JointGRU(Baseline):
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

"""Small models on the same tokens, so that the STAR-Transformer's number means something.

In: what `star.model.StarTransformer` takes: gg (B, T, P, D), jm (B, T, V, D'), joint_mask (B, T, V). Out: logits
(B, A). They are trained and evaluated by the same code (`model.kind`). None is from the paper; all are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from star.config.options import ModelConfig
from star.model import Standardise


class Baseline(nn.Module):
    """What the baselines share: standardised tokens, in which an absent joint is zero, the mean of its channel."""

    module_names: tuple[str, ...] = ()  # of attention modules whose weights can be had

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if config.uses_gg:
            self.gg_standard = Standardise(config.gg_channels)
        if config.uses_jm:
            self.jm_standard = Standardise(config.jm_channels)

    @property
    def channels(self) -> int:
        """Of all kinds in use together."""
        return self.config.uses_gg * self.config.gg_channels + self.config.uses_jm * self.config.jm_channels

    def standardise(self, *, gg: tuple[Tensor, Tensor] | None, jm: tuple[Tensor, Tensor] | None) -> None:
        """Take (mean, spread) of each kind's channels, from the training split."""
        if gg is not None and self.config.uses_gg:
            self.gg_standard.set(*gg)
        if jm is not None and self.config.uses_jm:
            self.jm_standard.set(*jm)

    def tokens(self, gg: Tensor | None, jm: Tensor | None, joint_mask: Tensor | None) -> list[Tensor]:
        """(B, T, P, D) and (B, T, V, D'), as far as they are in use."""
        found = []
        if self.config.uses_gg:
            assert gg is not None, "this model takes GG tokens"
            found.append(self.gg_standard(gg))
        if self.config.uses_jm:
            assert jm is not None, "this model takes JM tokens"
            joints = self.jm_standard(jm)
            found.append(joints if joint_mask is None else joints * joint_mask[..., None])
        return found


class LinearProbe(Baseline):
    """A linear layer on the mean token of each kind over all frames: what the backbone alone knows. Blind to order."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(self.channels, config.classes)

    def forward(self, gg: Tensor | None, jm: Tensor | None, joint_mask: Tensor | None = None) -> Tensor:
        return self.head(torch.cat([kind.mean(dim=(1, 2)) for kind in self.tokens(gg, jm, joint_mask)], dim=-1))


class FrameProbe(Baseline):
    """A linear layer on all tokens of the middle frame.

    Such a token has seen the five frames to each side through the 3-D kernels of the backbone's first layers, so this
    probe is not blind to the direction of time; `benchmarks/single_frame.py` has one that is.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        cells, joints = config.uses_gg * config.cells, config.uses_jm * config.joints
        self.head = nn.Linear(cells * config.gg_channels + joints * config.jm_channels, config.classes)

    def forward(self, gg: Tensor | None, jm: Tensor | None, joint_mask: Tensor | None = None) -> Tensor:
        middle = self.config.frames // 2
        return self.head(torch.cat([kind[:, middle].flatten(1) for kind in self.tokens(gg, jm, joint_mask)], dim=-1))


class AttentiveProbe(Baseline):
    """One learned question to all tokens with their positions, then a linear layer: pooling that may choose."""

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
        self.question = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.classes)

    def forward(self, gg: Tensor | None, jm: Tensor | None, joint_mask: Tensor | None = None) -> Tensor:
        parts = zip(self.projections, self.positions, self.tokens(gg, jm, joint_mask), strict=True)
        z = torch.cat([(project(kind) + position).flatten(1, 2) for project, position, kind in parts], dim=1)
        answer, _ = self.attention(self.question.expand(len(z), -1, -1), z, z, need_weights=False)
        return self.head(self.norm(answer[:, 0]))


class JointGRU(Baseline):
    """A GRU over the frames' joint tokens, each projected to a few channels; the last state gives the action."""

    CHANNELS = 8  # of a projected joint; 25 of them are the 200 inputs of a step

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.project = nn.Linear(config.jm_channels, self.CHANNELS)
        self.gru = nn.GRU(config.joints * self.CHANNELS, config.width, batch_first=True)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, gg: Tensor | None, jm: Tensor | None, joint_mask: Tensor | None = None) -> Tensor:
        joints = self.tokens(gg, jm, joint_mask)[-1]
        _, last = self.gru(self.project(joints).flatten(2))
        return self.head(last[-1])

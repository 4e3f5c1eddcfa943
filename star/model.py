"""The STAR-Transformer (Ahn et al., WACV 2023, arXiv 2210.07503), top to bottom in order of use.

In: GG tokens (B, T, P, D), JM tokens (B, T, V, D') and the mask of present joints (B, T, V), as a token store holds
them. Out: logits (B, A). Inside, z is (B, T, S, width) with S = (P + 1) + (V + 1) + 1: for each frame CLS_global, the
grid, CLS_joint, the joints, CLS_total. No pixels, no labels, no training here.

An absent joint (the paper does not say how; this is ours) is one learned token, the same for every joint, plus its
position. Nothing is masked out of the attention, so a clip without any joint still has finite logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from star.attention import ATTENTION, attention_weights
from star.batch import Batch
from star.config.options import ModelConfig
from star.inputs import Standardise, Whiten, projection


class TokenModel(nn.Module):
    """What all models share: config, standardised tokens, and the fields of a batch that they read."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if config.uses_gg:
            self.gg_standard = self._standard(config.cells, config.gg_channels)
        if config.uses_jm:
            self.jm_standard = self._standard(config.joints, config.jm_channels)

    def _standard(self, places: int, channels: int) -> Standardise | Whiten:
        return Whiten(self.config.frames, places, channels) if self.config.whiten else Standardise(channels)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the fields of `Batch` that `forward` uses."""
        return ("gg",) * self.config.uses_gg + ("jm", "joint_mask") * self.config.uses_jm + self.config.fields

    def standardise(self, *, gg: tuple[Tensor, Tensor] | None = None, jm: tuple[Tensor, Tensor] | None = None) -> None:
        """Take what `star.data.statistics` finds in the training split: `place_statistics` with `config.whiten`, else
        `channel_statistics`."""
        if gg is not None and self.config.uses_gg:
            self.gg_standard.set(*gg)
        if jm is not None and self.config.uses_jm:
            self.jm_standard.set(*jm)


class MultiClassTokens(nn.Module):
    """Standardised tokens of both kinds and three class tokens a frame -> z (B, T, S, width).

    The class tokens are the same in every frame (ours): only positions distinguish frames.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_total = _small(width)
        if config.uses_gg:
            self.gg_project = projection(config.gg_projection, config.frames, config.cells, config.gg_channels, width)
            self.cls_global = _small(width)
            self.gg_position = _small(config.frames, config.cells, width) if config.gg_positions else None
        if config.uses_jm:
            self.jm_project = projection(config.jm_projection, config.frames, config.joints, config.jm_channels, width)
            self.cls_joint = _small(width)
            self.absent = _small(width)
            self.jm_position = _small(config.frames, config.joints, width) if config.jm_positions else None

    @property
    def class_slots(self) -> list[int]:
        """Indices along S of CLS_global, CLS_joint and CLS_total, as far as they exist."""
        slots, at = [], 0
        if self.config.uses_gg:
            slots, at = [at], at + 1 + self.config.cells
        if self.config.uses_jm:
            slots, at = [*slots, at], at + 1 + self.config.joints
        return [*slots, at]

    def forward(self, gg: Tensor | None, jm: Tensor | None, joint_mask: Tensor | None) -> Tensor:
        parts: list[Tensor] = []
        if gg is not None:
            grid = self.gg_project(gg)
            if self.gg_position is not None:
                grid = grid + self.gg_position
            parts += [self.cls_global.expand_as(grid[:, :, :1]), grid]
        if jm is not None:
            joints = self.jm_project(jm)
            if joint_mask is not None:
                joints = torch.where(joint_mask[..., None], joints, self.absent.to(joints.dtype))
            if self.jm_position is not None:
                joints = joints + self.jm_position
            parts += [self.cls_joint.expand_as(joints[:, :, :1]), joints]
        parts.append(self.cls_total.expand_as(parts[0]))
        return torch.cat(parts, dim=2)


class Attention(nn.Module):
    """Multi-head spatio-temporal attention of one kind, with its projections: z (B, T, S, width) -> the same."""

    def __init__(self, config: ModelConfig, kind: str) -> None:
        super().__init__()
        self.kind, self.heads, self.uniform = kind, config.heads, config.uniform_attention
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, z: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        """Appends this module's attention weights (B, heads, T, S, T, S) to `weights`, where that list is given."""
        q, k, v = self.qkv(z).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)  # (B, heads, T, S, d)
        if weights is not None:
            weights.append(attention_weights(q, k, kind=self.kind, uniform=self.uniform))
        attended = ATTENTION[self.kind](q, k, v, uniform=self.uniform)
        return self.out(attended.permute(0, 2, 3, 1, 4).flatten(-2))


class Layer(nn.Module):
    """One post-norm layer: z = LN(module(z) + z) for each attention module in turn, then z = LN(MLP(z) + z).

    With the modules (full, zigzag) this is the paper's encoder layer, with (full, binary) its decoder layer. The two
    groups of frames share the second module's weights and norm, so one call attends in both directions.
    """

    def __init__(self, config: ModelConfig, modules: Sequence[str]) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        self.attentions = nn.ModuleList(Attention(config, kind) for kind in modules)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in modules)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.mlp_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, z: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        for attention, norm in zip(self.attentions, self.norms, strict=True):
            z = norm(self.dropout(attention(z, weights)) + z)
        return self.mlp_norm(self.dropout(self.mlp(z)) + z)


class StarTransformer(TokenModel):
    """Tokens -> encoder -> decoder (which continues from the encoder's output) -> mean class token -> action."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.tokens = MultiClassTokens(config)
        self.encoder = nn.ModuleList(Layer(config, config.encoder_modules) for _ in range(config.encoder_depth))
        self.decoder = nn.ModuleList(Layer(config, config.decoder_modules) for _ in range(config.decoder_depth))
        self.head = nn.Sequential(
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, config.classes),
        )

    def forward(
        self,
        gg: Batch | Tensor | None,
        jm: Tensor | None = None,
        joint_mask: Tensor | None = None,
        *,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, A) of a whole batch, as for all models, or of its three tensors.

        Args:
            gg: a batch, or (B, T, P, D), any float type; not used by a model of JM tokens alone.
            jm: (B, T, V, D'); not used by a model of GG tokens alone.
            joint_mask: bool (B, T, V), true where the joint is present; None: everywhere.
            weights: a list to which each attention module appends (B, heads, T, S, T, S), in order of use
                (`module_names`). Costs T²S² memory: for pictures.
        """
        if isinstance(gg, Batch):
            batch = gg
            gg, jm, joint_mask = batch.gg, batch.jm, batch.joint_mask
        gg = self.gg_standard(gg) if self.config.uses_gg else None
        jm = self.jm_standard(jm) if self.config.uses_jm else None
        z = self.tokens(gg, jm, joint_mask)
        for layer in (*self.encoder, *self.decoder):
            z = layer(z, weights)
        if not (self.encoder or self.decoder):  # no class token has seen another token: all are pooled, a control
            return self.head(z.sum(dim=(1, 2)) / (z.shape[1] * z.shape[2]) ** 0.5)
        # slices, not z[:, :, slots]: a list of indices would be copied to a GPU in each step, which waits for it
        classes = torch.stack([z[:, :, slot] for slot in self.tokens.class_slots], dim=2)  # (B, T, kinds, width)
        return self.head(classes.mean(dim=(1, 2)))

    @property
    def module_names(self) -> list[str]:
        """Of the attention modules, in order of use: "encoder 1 full", "encoder 1 zigzag", ..."""
        config = self.config
        encoder = [f"encoder {i + 1} {m}" for i in range(config.encoder_depth) for m in config.encoder_modules]
        return encoder + [f"decoder {i + 1} {m}" for i in range(config.decoder_depth) for m in config.decoder_modules]


def _small(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(*shape))

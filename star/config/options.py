"""The settings of a run: model, data, optimiser; frozen, keyword-only, checked when made.

In: values. Out: the parts of `star.config.TrainConfig`. Each default says whether it is the paper's (Ahn et al., WACV
2023, arXiv 2210.07503) or ours. No parsing and no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import at_least, finite, one_of
from pipeline.errors import ConfigError

MODEL_KINDS = ("star", "attentive_probe", "token_gru", "coordinate_gru")
TOKENS = ("gg", "jm", "both")
MODULES = ("full", "zigzag", "binary")
VIEW_CHOICES = ("random", "all")
OF_THE_STORE = ("frames", "cells", "gg_channels", "joints", "jm_channels", "persons", "classes")  # of ModelConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model's shape. The baselines use only the settings that concern them.

    Attributes:
        kind: "star", or a baseline (`star.baselines`): "attentive_probe", "token_gru" on JM tokens, "coordinate_gru" on
            joint coordinates, which reads no tokens.
        frames, cells, gg_channels, joints, jm_channels, persons, classes: T, P, D, V, D', M, A. Facts of the store:
            training takes them from there, and no setting changes them (the defaults are NTU60 with JM tokens of
            layer2).
        tokens: "both" (the paper's), "gg" or "jm" (its ablation).
        width, heads: of every layer. Ours: 512 (the width of GG) and 8.
        encoder_depth, decoder_depth: layers. Ours: 3 and 3. With 0 and 0 all tokens are pooled: what is left without
            attention, a control.
        encoder_modules, decoder_modules: attention modules of a layer, in order. The paper's: full and zigzag in the
            encoder, full and binary in the decoder.
        uniform_attention: every value has the same weight, instead of softmax. Ours: off.
        whiten: decorrelate the channels of the tokens as well, so that all directions in which they vary are learnt
            alike. Ours: off.
        jm_projection: "shared" (one for all JM tokens; our reading of the paper), "joint" (one for each joint) or
            "place" (one for each joint of each frame), which then tells where a token comes from.
        gg_projection: "shared", "cell" or "place", likewise.
        jm_positions: a learned position (T, V, width) on the JM tokens. The paper's: on.
        gg_positions: the same, (T, P, width), on the GG tokens. The paper leaves it open; ours: off.
        mlp_ratio: hidden width of a layer's MLP. Ours: 4.
        dropout: on the output of each module and MLP, and in the head. Ours: 0.1.
    """

    kind: str = "star"
    frames: int = 16
    cells: int = 49
    gg_channels: int = 512
    joints: int = 25
    jm_channels: int = 128
    persons: int = 2
    classes: int = 60
    tokens: str = "both"
    width: int = 512
    heads: int = 8
    encoder_depth: int = 3
    decoder_depth: int = 3
    encoder_modules: tuple[str, ...] = ("full", "zigzag")
    decoder_modules: tuple[str, ...] = ("full", "binary")
    uniform_attention: bool = False
    whiten: bool = False
    jm_projection: str = "shared"
    gg_projection: str = "shared"
    jm_positions: bool = True
    gg_positions: bool = False
    mlp_ratio: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        one_of("model.kind", self.kind, MODEL_KINDS)
        one_of("model.tokens", self.tokens, TOKENS)
        if self.kind == "token_gru" and self.tokens != "jm":
            raise ConfigError("model.kind", "token_gru takes JM tokens alone", remedy="add `model.tokens=jm`")
        one_of("model.jm_projection", self.jm_projection, ("shared", "joint", "place"))
        one_of("model.gg_projection", self.gg_projection, ("shared", "cell", "place"))
        for name in ("encoder_modules", "decoder_modules"):
            for module in getattr(self, name) or ("",):
                one_of(f"model.{name}", module, MODULES)
        for name in (*OF_THE_STORE, "width", "heads", "mlp_ratio"):
            at_least(f"model.{name}", getattr(self, name), 1)
        for name in ("encoder_depth", "decoder_depth"):
            at_least(f"model.{name}", getattr(self, name), 0)
        if self.width % self.heads:
            raise ConfigError("model.heads", "must divide model.width", got=f"{self.heads} heads, width {self.width}")
        _share("model.dropout", self.dropout)

    @property
    def uses_gg(self) -> bool:
        return self.tokens in ("gg", "both") and not self.fields

    @property
    def uses_jm(self) -> bool:
        return self.tokens in ("jm", "both") and not self.fields

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of tokens that are read."""
        return ("gg",) * self.uses_gg + ("jm",) * self.uses_jm

    @property
    def fields(self) -> tuple[str, ...]:
        """What a model reads instead of tokens."""
        return ("joints", "xyz") if self.kind == "coordinate_gru" else ()


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The clips of the store that a run uses, and how.

    Attributes:
        protocol: "" is the store's first.
        views: of a training clip: "random" (another each epoch), "all", or a view's number. Evaluation uses all views.
        fraction: share of each class's training clips that is used (at least one clip).
        frame_step: every n-th token frame. The paper's: 1. frame_mean: the mean of each n instead. Ours: off.
        standardise: each channel by its training-split mean and spread. Ours: on (without it, frozen random features
            learn half as well).
        statistics_clips: at most so many training clips, evenly spread, give these statistics.
        allow_missing_classes: train although the training split lacks a class of the store.
        shuffled_labels: a control: training labels are permuted at random (by the seed), so nothing can be learnt.
        validation: share of the training subjects (of the clips of each class, where subjects are unknown) that is held
            out of training, to choose by: one of round(1 / validation) groups (`star.data.folds`). 0: none, since a
            published protocol trains on all. A store whose data assign clips to "val" validates on these, whatever the
            share. Of `oneshot`, subjects of the auxiliary classes are held out; its exemplars stay as they are.
        fold: which of the groups is held out, from 0.
    """

    protocol: str = ""
    views: str | int = "random"
    fraction: float = 1.0
    frame_step: int = 1
    frame_mean: bool = False
    standardise: bool = True
    statistics_clips: int = 4096
    allow_missing_classes: bool = False
    shuffled_labels: bool = False
    validation: float = 0.0
    fold: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.views, int):
            one_of("data.views", self.views, VIEW_CHOICES)
        else:
            at_least("data.views", self.views, 0)
        at_least("data.frame_step", self.frame_step, 1)
        at_least("data.statistics_clips", self.statistics_clips, 1)
        if not 0 < self.fraction <= 1:
            raise ConfigError("data.fraction", "must be above 0 and at most 1", got=self.fraction)
        _share("data.validation", self.validation)
        if self.validation > 0 and round(min(1 / self.validation, 2)) < 2:
            raise ConfigError(
                "data.validation", "leaves nothing to train on", got=self.validation, expected="0, or at most 0.66"
            )
        at_least("data.fold", self.fold, 0)
        if self.fold and not self.validation:
            remedy = "say how much is held out, for instance with `data.validation=0.25`"
            raise ConfigError("data.fold", "no clips are held out of training", got=self.fold, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimisation. Defaults: the paper's where it names one, else off.

    Attributes:
        kind: "sgd" (the paper's) or "adamw".
        lr: the highest learning rate. The paper's: 2e-4.
        momentum: of SGD. The paper's: 0.9. weight_decay: not on biases, norms, positions, class tokens. Ours: 0.
        schedule: "constant" or "cosine" (to 0 at the step after the last). warmup: share of all steps in which the
            rate rises from 0. The paper names neither.
        epochs: the paper's: 300. min_steps: at least so many steps, in further epochs if need be: a small split has few
            in an epoch. Ours: 0.
        batch_size: clips of a step, over all devices and micro-batches. The paper's: 4 on each of 4 devices.
        micro_batch: clips of a device in one pass (gradients are accumulated); 0: all of its share.
        clip_norm: upper bound of the gradient's norm; 0: none.
        label_smoothing: share of a label that is spread over all classes.
        mixup: alpha of Beta(alpha, alpha), for mixing tokens and labels of pairs within a micro-batch; 0: off. Joint
            coordinates cannot be mixed: "coordinate_gru" trains without.
        ema: decay of the moving average of the weights, which is then evaluated; 0: off.
        precision: "fp32", "bf16" (autocast; weights stay fp32), or "auto": bf16 where the device has it natively.
        compile: torch.compile the model.
        deterministic: on a GPU, too, the same bits from the same command, at some cost in speed. Not needed on a CPU.
    """

    kind: str = "sgd"
    lr: float = 2e-4
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    epochs: int = 300
    min_steps: int = 0
    batch_size: int = 16
    micro_batch: int = 0
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    precision: str = "fp32"
    compile: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        one_of("optim.kind", self.kind, ("sgd", "adamw"))
        one_of("optim.schedule", self.schedule, ("constant", "cosine"))
        one_of("optim.precision", self.precision, ("fp32", "bf16", "auto"))
        for name in ("epochs", "batch_size"):
            at_least(f"optim.{name}", getattr(self, name), 1)
        for name in ("lr", "weight_decay", "micro_batch", "min_steps", "clip_norm", "mixup"):
            at_least(f"optim.{name}", getattr(self, name), 0)
        for name in ("lr", "weight_decay", "clip_norm", "mixup"):
            finite(f"optim.{name}", getattr(self, name))
        for name in ("momentum", "warmup", "label_smoothing", "ema"):
            _share(f"optim.{name}", getattr(self, name))


def _share(option: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(option, "must be at least 0 and below 1", got=value)

"""The options of the two data stages: frozen, keyword-only, checked when made.

In: values from the command line or a caller. Out: a value object whose `content()` is exactly what changes an output's
content; the rest (readers' budgets, batch sizes) may differ between runs that make one artifact.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ConfigError

FRAMES = 16
GEOMETRIES = ("person", "center", "full")
FRAME_CODECS = ("jpeg95", "lossless")
SAMPLING = ("uniform", "random", "first", "middle", "last")
READERS = ("pyav", "opencv", "decord")
PERSONS_BY = ("motion", "size", "score")
MOST = {"max_persons": 64, "draws": 1000, "shard_clips": 100_000}  # a shard is held in memory
# of the feature maps of mc3_18: channels, and pixels of the clip for each cell in both directions (T is kept)
CHANNELS = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}
STRIDES = {"layer1": 2, "layer2": 4, "layer3": 8, "layer4": 16}
JM_LAYERS, GG_LAYER = ("layer1", "layer2", "layer3"), "layer4"
VIEW_RULE = 1  # raised when `pipeline.views.view_of` changes what a view is
PRECISIONS = ("auto", "fp32", "bf16")
STORE_CODECS = ("none", "zstd")
TOKEN_TYPES = ("float16", "int8")


def one_of(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError, naming the allowed values, where `value` is not one of them."""
    if value not in allowed:
        raise ConfigError(
            argument, "no such choice", got=repr(value), expected=" | ".join(allowed), remedy="choose one of these"
        )


def at_least(argument: str, value: float, least: float) -> None:
    """Raise ConfigError where a number is too small."""
    if not value >= least:
        raise ConfigError(argument, "the number is too small", got=value, expected=f"{least} or more")


def at_most(argument: str, value: float, most: float) -> None:
    """Raise ConfigError where a number is too large."""
    if not value <= most:
        raise ConfigError(argument, "the number is too large", got=value, expected=f"{most} or less")


def finite(argument: str, value: float) -> float:
    """`value` as a float, since 1 and 1.0 are one option. Raise ConfigError where it is infinite or no number."""
    if not math.isfinite(value):
        raise ConfigError(argument, "must be a finite number", got=value)
    return float(value)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How stage 1 makes clips.

    Attributes:
        sampling: how the T = 16 frames of draw 0 are chosen (`pipeline.sampling`).
        draws: R, sets of frame indices for each video; all but the first are random within segments.
        geometry: "person" (square around the chosen joints), "center" (torchvision's preset), "full" (letterbox).
        frame_codec: "jpeg95" (4:4:4) or "lossless" (PNG).
        shard_clips: clips in a shard, the unit of work and of commit.
        seed: keys the random draws.
        allow_corrupt: keep clips whose chosen frames the decoder marks corrupt, and mark them.
        reader: of the videos; their pixels differ by 1 or 2 of 255 between readers.
        max_persons: M, persons kept in each clip; persons_by: who they are, those with the most "motion" (x frames),
            of the largest "size" (x share of frames), or of the best "score".
        min_score: joints below it are absent.
        first_frame: 0 or 1, the number of the first frame in pose files that do not tell; None: by format and length.
        budget_s: seconds that reading a file may take before it counts as hung.
    """

    sampling: str = "uniform"
    draws: int = 1
    geometry: str = "person"
    frame_codec: str = "jpeg95"
    shard_clips: int = 64
    seed: int = 0
    allow_corrupt: bool = False
    reader: str = "pyav"
    max_persons: int = 2
    persons_by: str = "motion"
    min_score: float = 0.0
    first_frame: int | None = None
    budget_s: float = 60.0

    def __post_init__(self) -> None:
        one_of("sampling", self.sampling, SAMPLING)
        one_of("geometry", self.geometry, GEOMETRIES)
        one_of("frame_codec", self.frame_codec, FRAME_CODECS)
        one_of("reader", self.reader, READERS)
        one_of("persons_by", self.persons_by, PERSONS_BY)
        for name, most in MOST.items():
            at_least(name, getattr(self, name), 1)
            at_most(name, getattr(self, name), most)
        object.__setattr__(self, "min_score", finite("min_score", self.min_score))  # frozen, but being made
        if not 0 <= self.min_score <= 1:
            raise ConfigError("min_score", "is no score", got=self.min_score, expected="0 to 1")
        if self.first_frame not in (None, 0, 1):
            raise ConfigError("first_frame", "is no first number", got=self.first_frame, expected="0 or 1")
        object.__setattr__(self, "budget_s", finite("budget_s", self.budget_s))
        at_least("budget_s", self.budget_s, 0.1)
        at_most("budget_s", self.budget_s, 86_400)  # a day

    def content(self) -> dict[str, Any]:
        """The options that decide a prepared clip's bytes: all but the budget."""
        return {name: value for name, value in asdict(self).items() if name != "budget_s"}


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How stage 2 makes tokens.

    Attributes:
        weights: "kinetics400", "random", or the path of a state dict of mc3_18.
        jm_layer: the feature map that JM tokens are pooled from.
        sigma: of the joint heatmaps, in cells of that map.
        normalize: divide each JM token by its heatmap's sum (the paper sums).
        views: K. View 0 is draw 0, centred and unflipped.
        precision: "fp32", "bf16", or "auto" (bf16 where the device multiplies it natively).
        seed: of the random weights and of the views.
        crop: side of the backbone's input, in pixels.
        codec: of the token chunks; changes the bytes of the store, but no value.
        dtype: of the stored tokens: "float16", or "int8" with one float16 scale for each token.
        deterministic: eager kernels, each clip alone, one thread: bit-equal on one machine.
        device, batch_clips: of the backbone; 0 clips: the device's default.
    """

    weights: str = "kinetics400"
    jm_layer: str = "layer2"
    # The sum of a Gaussian sampled at integers varies with its position between them by 2 exp(-2 pi^2 sigma^2): 5e-9 at
    # 1.0, 0.2 % at 0.6, 1.4 % at 0.5. At 1.0 a token does not flicker as its joint moves through a cell, and two joints
    # three cells apart share less than 5 % of their weight.
    sigma: float = 1.0
    normalize: bool = False
    views: int = 1
    precision: str = "auto"
    seed: int = 0
    crop: int = 112
    codec: str = "none"
    dtype: str = "float16"
    deterministic: bool = False
    device: str = "auto"
    batch_clips: int = 0

    def __post_init__(self) -> None:
        one_of("jm_layer", self.jm_layer, JM_LAYERS)
        one_of("precision", self.precision, PRECISIONS)
        one_of("codec", self.codec, STORE_CODECS)
        one_of("dtype", self.dtype, TOKEN_TYPES)
        at_least("views", self.views, 1)
        at_least("batch_clips", self.batch_clips, 0)
        object.__setattr__(self, "sigma", finite("sigma", self.sigma))
        if not self.sigma > 0:
            raise ConfigError("sigma", "must be positive", got=self.sigma)
        if self.crop % 16 or self.crop < 32:
            raise ConfigError("crop", "must be a multiple of 16, at least 32", got=self.crop)

    def content(self) -> dict[str, Any]:
        """What decides a token's value beside the prepared clips and the weights; stores keep this order."""
        options = {**asdict(self), "view_rule": VIEW_RULE}
        names = ("precision", "jm_layer", "sigma", "normalize", "crop", "view_rule", "seed", "dtype", "deterministic")
        return {name: options[name] for name in names}

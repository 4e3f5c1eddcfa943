"""The studies of `star ablate`: for each, the variants of a config that are compared.

In: a config. Out: {label: settings for `star.config.with_overrides`}. The paper's tables are tokens, layers, modules
and attention; the rest are ours. One variant of a study may be the given config itself. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config import one_of
from star.config import TrainConfig

Variants = dict[str, list[str]]


def tokens(config: TrainConfig) -> Variants:
    """Which kinds of tokens: grid, joints, both."""
    return {kind: [f"model.tokens={kind}"] for kind in ("gg", "jm", "both")}


def layers(config: TrainConfig) -> Variants:
    """Depth of encoder and decoder together: 1 to 4."""
    return {f"{n} + {n}": [f"model.encoder_depth={n}", f"model.decoder_depth={n}"] for n in (1, 2, 3, 4)}


def modules(config: TrainConfig) -> Variants:
    """Pairs of attention modules, encoder | decoder: alike in both parts, the paper's zigzag | binary, and turned."""
    pairs = {
        "full | full": ("full,full", "full,full"),
        "full zigzag | full zigzag": ("full,zigzag", "full,zigzag"),
        "full binary | full binary": ("full,binary", "full,binary"),
        "full zigzag | full binary": ("full,zigzag", "full,binary"),
        "full binary | full zigzag": ("full,binary", "full,zigzag"),
        "zigzag binary | zigzag binary": ("zigzag,binary", "zigzag,binary"),
    }
    return {
        label: [f"model.encoder_modules={encoder}", f"model.decoder_modules={decoder}"]
        for label, (encoder, decoder) in pairs.items()
    }


def attention(config: TrainConfig) -> Variants:
    """Softmax, or every answer alike."""
    return {"softmax": ["model.uniform_attention=false"], "uniform": ["model.uniform_attention=true"]}


def positions(config: TrainConfig) -> Variants:
    """Which tokens carry a learned position; only kinds in use are varied."""
    choices = [(False, False), (True, False)]
    if config.model.tokens != "jm":
        choices += [(False, True), (True, True)]
    names = {(False, False): "none", (True, False): "joints", (False, True): "grid", (True, True): "joints and grid"}
    return {
        names[jm, gg]: [f"model.jm_positions={str(jm).lower()}", f"model.gg_positions={str(gg).lower()}"]
        for jm, gg in choices
    }


def sampling(config: TrainConfig) -> Variants:
    """Every frame, every second, every fourth; one view or random views."""
    return {
        "every frame": ["data.frame_step=1"],
        "every 2nd frame": ["data.frame_step=2"],
        "every 4th frame": ["data.frame_step=4"],
        "view 0 alone": ["data.views=0"],
    }


def data_fraction(config: TrainConfig) -> Variants:
    """A tenth, a quarter, half, all of each class's training clips."""
    return {f"{100 * share:g} %": [f"data.fraction={share}"] for share in (0.1, 0.25, 0.5, 1.0)}


def baselines(config: TrainConfig) -> Variants:
    """The STAR-Transformer beside `star.baselines`, by the same recipe."""
    return {
        "STAR-Transformer": ["model.kind=star"],
        "attentive probe": ["model.kind=attentive_probe"],
        "linear probe": ["model.kind=linear_probe"],
        "one frame, linear": ["model.kind=frame_probe"],
        "GRU over joints": ["model.tokens=jm", "model.kind=joint_gru"],
    }


STUDIES: dict[str, Callable[[TrainConfig], Variants]] = {
    "tokens": tokens,
    "layers": layers,
    "modules": modules,
    "attention": attention,
    "positions": positions,
    "sampling": sampling,
    "data-fraction": data_fraction,
    "baselines": baselines,
}


def variants(study: str, config: TrainConfig) -> Variants:
    """The variants of a study.

    Raises:
        ConfigError: no such study.
    """
    one_of("--study", study, tuple(STUDIES))
    return STUDIES[study](config)

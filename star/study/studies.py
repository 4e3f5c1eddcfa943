"""The studies of `star ablate`, each a set of variants of a config.

In: a config, the number of the store's views and clips. Out: {label: settings for `star.config.with_overrides`}, and
the pairs of labels that are compared. The paper's tables are tokens, layers, modules and attention; the rest are ours.
A variant may equal the given config. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.config import one_of
from star.config.options import TOKENS
from star.config.text import TrainConfig

Variants = dict[str, list[str]]
Pair = tuple[str, str]  # of labels: the accuracy of the first less that of the second
VIEWS: dict[str, str | int] = {"view 0 alone": 0, "random views": "random"}  # equal if the store has one view


def tokens(config: TrainConfig) -> Variants:
    """Token kinds: grid, joints, both."""
    return {kind: [f"model.tokens={kind}"] for kind in TOKENS}


def layers(config: TrainConfig) -> Variants:
    """Depth of encoder and decoder together: 1 to 4."""
    return {f"{n} + {n}": [f"model.encoder_depth={n}", f"model.decoder_depth={n}"] for n in (1, 2, 3, 4)}


def modules(config: TrainConfig) -> Variants:
    """Attention modules, encoder | decoder: equal in both, the paper's zigzag | binary, and the reverse."""
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
    """Softmax, or equal weights for all values."""
    return {"softmax": ["model.uniform_attention=false"], "uniform": ["model.uniform_attention=true"]}


def positions(config: TrainConfig) -> Variants:
    """Token kinds with learned positions; only kinds in use are varied."""
    kinds = {"joints": "jm", "grid": "gg"}
    used = [name for name, kind in kinds.items() if config.model.tokens in (kind, "both")]
    chosen: list[tuple[str, ...]] = [(), *((name,) for name in used)]
    chosen += [tuple(used)] if len(used) > 1 else []
    return {
        " and ".join(names) or "none": [f"model.{kinds[name]}_positions={str(name in names).lower()}" for name in used]
        for names in chosen
    }


def sampling(config: TrainConfig) -> Variants:
    """Every frame, every second, every fourth; one view or random views.

    The first is the given config; each of the others changes either frames or views.
    """
    steps = dict.fromkeys((config.data.frame_step, 1, 2, 4))
    named = _means_of if config.data.frame_mean else _every
    frames = {named(step): [f"data.frame_step={step}"] for step in steps}
    views = {label: [f"data.views={value}"] for label, value in VIEWS.items() if value != config.data.views}
    return frames | views


def _means_of(step: int) -> str:
    return "every frame" if step == 1 else f"means of {step} frames"


def _every(step: int) -> str:
    """ "every frame", "every 2nd frame", ..."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(step % 10 if step % 100 not in (11, 12, 13) else 0, "th")
    return "every frame" if step == 1 else f"every {step}{ending} frame"


def data_fraction(config: TrainConfig) -> Variants:
    """A tenth, a quarter, half and all of each class's training clips; `variants` gives them equal steps."""
    return {f"{100 * share:g} %": [f"data.fraction={share}"] for share in (0.1, 0.25, 0.5, 1.0)}


def baselines(config: TrainConfig) -> Variants:
    """The STAR-Transformer and `star.baselines`, trained alike."""
    return {
        "STAR-Transformer": ["model.kind=star"],
        "attentive probe": ["model.kind=attentive_probe"],
        "GRU over joint tokens": ["model.tokens=jm", "model.kind=token_gru"],
        "GRU over joint coordinates": ["model.kind=coordinate_gru"],
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
# the variant whose difference from each other one is shown; in the other studies, each one's from the first
CLAIMED = {
    "tokens": "both",
    "modules": "full zigzag | full binary",
    "attention": "softmax",
    "data-fraction": "100 %",
    "baselines": "STAR-Transformer",
}


def variants(study: str, config: TrainConfig, *, views: int, items: int) -> Variants:
    """The variants of a study.

    Args:
        views: of the store. items: the length of the whole training split (`star.data.dataset.TokenDataset`).

    Raises:
        ConfigError: no such study.
    """
    one_of("study", study, tuple(STUDIES))
    found = STUDIES[study](config)
    if study == "data-fraction":  # else fewer clips would also mean fewer steps
        steps = max(config.optim.epochs * -(-items // config.optim.batch_size), config.optim.min_steps)
        equal = ["optim.epochs=1", f"optim.min_steps={steps}"]
        found = {label: [*settings, *equal] for label, settings in found.items()}
    return found if views > 1 else {label: settings for label, settings in found.items() if label not in VIEWS}


def pairs(study: str, labels: Sequence[str]) -> list[Pair]:
    """What a study compares, whatever comes out; `labels`: of its variants."""
    if study == "tokens":  # the paper's claim: joints and pixels together are better than either
        return [("both", "jm"), ("both", "gg")]
    if study in CLAIMED:
        return [(CLAIMED[study], other) for other in labels if other != CLAIMED[study]]
    return [(other, labels[0]) for other in labels[1:]]


def against_controls(study: str, labels: Sequence[str]) -> str:
    """The variant that is compared with a control, whatever comes out: the claimed one, else the first."""
    return CLAIMED.get(study, labels[0])

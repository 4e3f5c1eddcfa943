"""The handful of controls that stand beside a model: of each kind of input the best one on the validation side.

In: controls. Out: some of them, the best informed first. Computes nothing, and never looks at a test score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from star.controls.inputs import COORDINATES, PIXELS, name_of
from star.controls.kept import Control
from star.controls.linear import METHODS
from star.controls.run import CHANCE, GRU, KINDS


def whole(kinds: str) -> str:
    """What the strongest linear control on a model's tokens sees; `kinds`: "gg", "jm" or "both"."""
    return f"all {name_of(KINDS[kinds][-1])}"


def handful(found: Sequence[Control], kinds: str) -> list[Control]:
    """A model's tokens whole (both kinds, and each alone), as the model reads them, pooled, of one frame; coordinates
    by a linear model and by a GRU; pixels; chance. What was not computed is left out."""
    tokens = name_of(KINDS[kinds][-1])
    shown: list[tuple[Sequence[str], Callable[[str], bool]]] = [
        *((["ridge"], f"all {name_of(some)}".__eq__) for some in reversed(KINDS[kinds])),
        (["ridge"], lambda sees: sees.startswith(f"{tokens} as the model reads them")),
        (["ridge"], lambda sees: sees in (f"the mean of all {tokens}", f"{tokens} averaged over time")),
        (list(METHODS), lambda sees: sees == f"one frame's {tokens}"),
        (list(METHODS), lambda sees: sees.startswith(COORDINATES)),
        ([GRU], lambda sees: sees.startswith(COORDINATES)),
        (list(METHODS), lambda sees: sees == PIXELS),
        ([CHANCE], lambda sees: True),
    ]
    best = []
    for methods, fits in shown:
        those = [control for control in found if control.method in methods and fits(control.sees)]
        best += [max(those, key=lambda control: control.validation.top1)] if those else []
    return best

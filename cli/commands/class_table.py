"""The accuracy of each class, as text and as JSON.

In: `star.evaluate.scores.Scores`. Out: lines of a table; plain values for JSON. `star report` shows the same on a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from star.evaluate.scores import Scores


def class_facts(scores: Scores) -> dict[str, Any]:
    """{"per_class": {name: accuracy, or None without clips}, "confusion": counts, a row for each true class}."""
    shares = [None if np.isnan(share) else share for share in scores.per_class.tolist()]
    return {
        "per_class": dict(zip(scores.class_names, shares, strict=True)),
        "confusion": scores.confusion.tolist(),
    }


def class_lines(scores: Scores) -> list[str]:
    """A line for each class that has clips, the worst first: accuracy, clips, name, most frequent confusion."""
    counts, shares = scores.confusion, scores.per_class
    lines = [f"{'right':>7} {'clips':>6}  class"]
    for label in sorted(np.flatnonzero(~np.isnan(shares)).tolist(), key=lambda label: (shares[label], label)):
        wrong = counts[label].copy()
        wrong[label] = 0
        taken = f", {wrong.max()} taken for {scores.class_names[int(wrong.argmax())]}" if wrong.any() else ""
        name = scores.class_names[label]
        lines.append(f"{100 * shares[label]:5.1f} % {counts[label].sum():6d}  {name}{taken}")
    return lines

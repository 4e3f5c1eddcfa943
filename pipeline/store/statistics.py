"""Mean, spread, share of zeros and count of NaN of a store's tokens, from clips spread over it.

In: a TokenStore. Out: a plain dict for `star inspect`. Absent joints do not count for JM: their zeros are no values.
Holds a few clips at a time, whatever the store's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.store.batches import DONE
from pipeline.store.token_store import TokenStore

MAX_CLIPS = 64
BATCH_CLIPS = 4


@dataclass
class Sums:
    """Running sums over values; `finite` of them enter mean and spread."""

    values: int = 0
    finite: int = 0
    total: float = 0.0
    squares: float = 0.0
    zeros: int = 0
    nan: int = 0

    def add(self, tokens: np.ndarray) -> None:
        """Add values of any shape."""
        values = tokens.astype(np.float64)
        finite = values[np.isfinite(values)]
        self.values += values.size
        self.finite += finite.size
        self.total += float(finite.sum())
        self.squares += float(np.square(finite).sum())
        self.zeros += int((values == 0).sum())
        self.nan += int(np.isnan(values).sum())

    def summary(self) -> dict[str, float | int]:
        """Rounded to five digits."""
        if self.values == 0:
            return {"values": 0}
        mean = self.total / max(self.finite, 1)
        spread = max(self.squares / max(self.finite, 1) - mean**2, 0.0) ** 0.5
        return {
            "mean": round(mean, 5),
            "spread": round(spread, 5),
            "zeros": round(self.zeros / self.values, 5),
            "nan": self.nan,
        }


def token_statistics(store: TokenStore, *, most: int = MAX_CLIPS) -> dict[str, Any]:
    """Statistics of view 0 of at most `most` done clips; {} where none is done."""
    done = np.flatnonzero(store.status[:, 0] == DONE)
    if len(done) == 0:
        return {}
    rows = np.unique(done[np.linspace(0, len(done) - 1, min(most, len(done))).round().astype(int)])
    gg, jm, present = Sums(), Sums(), 0.0
    for first in range(0, len(rows), BATCH_CLIPS):
        batch = store.read(rows[first : first + BATCH_CLIPS])
        gg.add(batch.gg)
        jm.add(batch.jm[batch.joint_mask])
        present += float(batch.joint_mask.mean(axis=(1, 2)).sum())
    return {
        "clips_read": len(rows),
        "gg": gg.summary(),
        "jm": jm.summary(),
        "joints_present": round(present / len(rows), 4),
    }

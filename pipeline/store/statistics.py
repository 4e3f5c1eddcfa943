"""Mean, spread, share of zeros and count of NaN of a store's tokens, from clips spread over it.

In: a TokenStore. Out: a plain dict for `star inspect`. Absent joints do not count for JM: their zeros are not values.
Holds a few clips at a time, whatever the store's size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.records import evenly_spread
from pipeline.store.batches import DONE
from pipeline.store.token_store import TokenStore

MAX_CLIPS = 64
BATCH_CLIPS = 4


@dataclass
class RunningMoments:
    """Mean and spread over the first axis of float64 arrays (n, ...), numpy's or torch's, added one after the other.

    Sums in float64 are exact enough for float16 values, whatever their order.
    """

    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0

    def add(self, values: Any) -> None:
        self.count += len(values)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + (values * values).sum(0)

    def mean_and_spread(self) -> tuple[Any, Any]:
        mean = self.total / max(1, self.count)
        return mean, (self.squares / max(1, self.count) - mean * mean).clip(0) ** 0.5


@dataclass
class TokenSummary:
    """Of the values added so far, of any shape; only finite ones enter mean and spread."""

    values: int = 0
    zeros: int = 0
    nan: int = 0
    finite: RunningMoments = field(default_factory=RunningMoments)

    def add(self, tokens: np.ndarray) -> None:
        values = tokens.astype(np.float64)
        self.values += values.size
        self.zeros += int((values == 0).sum())
        self.nan += int(np.isnan(values).sum())
        self.finite.add(values[np.isfinite(values)])

    def summary(self) -> dict[str, float | int]:
        """Rounded to five digits."""
        if self.values == 0:
            return {"values": 0}
        mean, spread = self.finite.mean_and_spread()
        return {
            "mean": round(float(mean), 5),
            "spread": round(float(spread), 5),
            "zeros": round(self.zeros / self.values, 5),
            "nan": self.nan,
        }


def token_statistics(store: TokenStore) -> dict[str, Any]:
    """Statistics of view 0 of at most `MAX_CLIPS` done clips; {} where none is done."""
    done = np.flatnonzero(store.status[:, 0] == DONE)
    if len(done) == 0:
        return {}
    rows = done[evenly_spread(len(done), MAX_CLIPS)]
    gg, jm, present = TokenSummary(), TokenSummary(), 0.0
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

"""Mean, spread, share of zeros and count of NaN of a store's tokens, from clips spread over it.

In: a TokenStore. Out: a plain dict for `star inspect`. Absent joints are left out of JM's figures: their zeros are
not values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.store import DONE, TokenStore

MOST_CLIPS = 64


def token_statistics(store: TokenStore, *, most: int = MOST_CLIPS) -> dict[str, Any]:
    """Over view 0 of at most `most` done clips; {} where none is done."""
    done = np.flatnonzero(store.status[:, 0] == DONE)
    if len(done) == 0:
        return {}
    rows = np.unique(done[np.linspace(0, len(done) - 1, min(most, len(done))).round().astype(int)])
    batch = store.read(rows)
    return {
        "clips_read": len(rows),
        "gg": _describe(batch.gg),
        "jm": _describe(batch.jm[batch.joint_mask]),
        "joints_present": round(float(batch.joint_mask.mean()), 4),
    }


def _describe(tokens: np.ndarray) -> dict[str, float | int]:
    if tokens.size == 0:
        return {"values": 0}
    values = tokens.astype(np.float64)
    finite = values[np.isfinite(values)]
    return {
        "mean": round(float(finite.mean()), 5) if finite.size else 0.0,
        "spread": round(float(finite.std()), 5) if finite.size else 0.0,
        "zeros": round(float((values == 0).mean()), 5),
        "nan": int(np.isnan(values).sum()),
    }

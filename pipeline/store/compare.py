"""A comparison of two token stores: what they were made from, their clips, their tokens.

In: two TokenStores. Out: a plain dict for `star inspect A B`. Equality is that of the digests in the commit records, so
it covers every clip; the size of differences is measured on a few unequal clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.artifacts.fingerprint import differences
from pipeline.records import evenly_spread
from pipeline.store.token_store import TokenStore

MAX_CLIPS = 16


def compare(a: TokenStore, b: TokenStore) -> dict[str, Any]:
    """What differs between two stores.

    Returns:
        "same_content": the content digests agree. "made_from": a line for each difference. "sizes": likewise.
        "only_in_a", "only_in_b": clips. "clips": in both. "views": in both. "outcomes_differ": clips and views whose
        outcomes differ. "equal", "unequal": those done in both, by digest; "unequal_clips": at most `MAX_CLIPS` of the
        latter. "gg", "jm": over at most `MAX_CLIPS` of those the largest difference, absolute and in units of A's
        standard deviation, and the root mean square in these units; absent where shapes differ or nothing is unequal.
    """
    _, of_a, of_b = np.intersect1d(a.clip_ids, b.clip_ids, assume_unique=True, return_indices=True)
    rows = list(zip(of_a.tolist(), of_b.tolist(), strict=True))  # of each clip that both have
    views = min(a.sizes.views, b.sizes.views)
    report: dict[str, Any] = {
        "same_content": a.content_digest() == b.content_digest(),
        "made_from": differences(a.attrs["made_from"], b.attrs["made_from"]),
        "sizes": differences(a.sizes.attributes(), b.sizes.attributes()),
        "only_in_a": len(a) - len(rows),
        "only_in_b": len(b) - len(rows),
        "clips": len(rows),
        "views": views,
        "outcomes_differ": 0,
        "equal": 0,
        "unequal": 0,
    }
    unequal: list[tuple[int, int, int]] = []
    for view in range(views):
        left, right = a.outcomes(view), b.outcomes(view)
        for i, j in rows:
            if left[i]["outcome"] != right[j]["outcome"]:
                report["outcomes_differ"] += 1
            elif left[i]["outcome"] == "done":
                same = left[i]["sha256"] == right[j]["sha256"]
                report["equal" if same else "unequal"] += 1
                if not same:
                    unequal.append((i, j, view))
    report["unequal_clips"] = [f"{a.clip_ids[i]}, view {view}" for i, _, view in unequal[:MAX_CLIPS]]
    return report | _token_differences(a, b, unequal)


def _token_differences(a: TokenStore, b: TokenStore, unequal: list[tuple[int, int, int]]) -> dict[str, Any]:
    if not unequal:
        return {}
    chosen = [unequal[i] for i in evenly_spread(len(unequal), MAX_CLIPS)]
    measured: dict[str, Any] = {}
    for name in ("gg", "jm"):
        if a.array(name).shape[2:] != b.array(name).shape[2:]:
            continue
        largest, spreads, squares = 0.0, [], []
        for i, j, view in chosen:
            left, right = (
                getattr(store.read([row], view=view, tokens=(name,)), name).astype(np.float64)
                for store, row in ((a, i), (b, j))
            )
            largest = max(largest, float(np.abs(left - right).max()))
            spreads.append(float(left.std()))
            squares.append(float(np.square(left - right).mean()))
        spread = float(np.mean(spreads))
        measured[name] = {"largest": largest}
        for key, value in (("of_spread", largest), ("rms_of_spread", float(np.sqrt(np.mean(squares))))):
            measured[name][key] = round(value / spread, 6) if spread else None
    return measured

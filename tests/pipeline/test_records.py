"""Indices that are spread evenly over a range."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.records import evenly_spread


@pytest.mark.parametrize(("count", "most"), [(1, 1), (1, 9), (7, 1), (7, 2), (7, 3), (100, 12), (5, 5), (5, 64)])
def test_indices_are_evenly_spread(count: int, most: int) -> None:
    found = evenly_spread(count, most)
    assert found.dtype == np.int64
    assert len(found) == min(count, most)
    assert (found[0], found[-1]) == (0, count - 1 if most > 1 else 0)
    assert np.ptp(np.diff(found)) <= 1 if len(found) > 1 else True


def test_nothing_has_no_indices() -> None:
    assert evenly_spread(0, 5).tolist() == []

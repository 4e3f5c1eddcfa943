"""What a `.skeleton` file holds, as numbers: the table that both of its readers give.

In: nothing. Out: the positions of the fields, the Table, and how a field's text becomes a number. Reads no file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
BODY_FIELDS, JOINT_FIELDS, JOINTS = 10, 12, 25
PLACE_COLUMNS, STATE_COLUMN = (0, 1, 2, 5, 6), 11  # of a joint line's fields: x y z colorX colorY, trackingState


class Table(NamedTuple):
    """What a file holds: its frame count T, and B bodies, each in one frame, in the order of the file.

    frames (B,) and ids (B,); places (B, 25, 5), the fields x y z colorX colorY; states (B, 25), trackingState.
    """

    num_frames: int
    frames: Ints
    ids: Ints
    places: NDArray[np.float64]
    states: Ints


def is_whole_number(field: bytes) -> bool:
    """Whether it is a whole number that int64 holds, in digits alone."""
    return field.isdigit() and len(field) < 20 and int(field) < 1 << 63


def number(field: bytes) -> float:
    """The float64 that a decimal field names. ValueError for other text, digits grouped by underscores among it."""
    if b"_" in field:
        raise ValueError(field)
    return float(field)

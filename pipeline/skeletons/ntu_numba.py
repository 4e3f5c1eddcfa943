"""The regular `.skeleton` file, letter by letter in compiled code: bytes -> the table that `skeletons_ntu` slots.

In: the bytes of a file. Out: the same table that reading line by line gives, bit for bit, or None. None says only that
the file is not of the plain form most files have (one space or line end after each field), or that something in it
does not fit: then the slow reader decides, and names the line.

Why it is compiled: a line loop spends its time on 31 thousand Python objects a file, half of them for fields nobody
uses; in whole-array steps of numpy it was four to six times as fast, compiled it is twelve to thirteen
(`python benchmarks/skeletons.py --clock cpu --rounds 9`). Numba does so at the first call, once for each machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.skeletons.ntu_table import (
    BODY_FIELDS,
    JOINT_FIELDS,
    JOINTS,
    PLACE_COLUMNS,
    STATE_COLUMN,
    Ints,
    Table,
    number,
)

_NEWLINE, _RETURN, _SPACE, _MINUS, _DOT, _NOUGHT = b"\n\r -.0"
_SHORTEST_BODY = 2 * BODY_FIELDS + 3 + 2 * JOINTS * JOINT_FIELDS  # letters, one for each field and one after it
_MOST_DIGITS = 18  # of a whole number that surely fits int64
_EXACT_DIGITS = 15  # whole numbers of so many digits are float64 without loss, as are powers of ten up to 10^22
_TENS = 10.0 ** np.arange(_EXACT_DIGITS + 1)
_USED = np.isin(np.arange(STATE_COLUMN), PLACE_COLUMNS)
_IRREGULAR = -1  # in place of a frame count
_BEHIND = b"\n\n\0"  # ends the last line if nothing does, and where the text can be read, one is left before the NUL


def read_table(data: bytes) -> Table | None:
    """The table of a regular file; None where only reading it line by line can tell what it is."""
    bound = len(data) // _SHORTEST_BODY + 1
    frames, ids = np.empty(bound, np.int64), np.empty(bound, np.int64)
    places, states = np.empty((bound * JOINTS, len(PLACE_COLUMNS))), np.empty(bound * JOINTS, np.int64)
    odd = np.empty((places.size, 3), np.int64)  # which place, and where its field begins and ends
    num_frames, bodies, num_odd = _scan(np.frombuffer(data + _BEHIND, np.uint8), frames, ids, places, states, odd)
    if num_frames == _IRREGULAR:
        return None
    for index, start, end in odd[:num_odd].tolist():
        try:
            places.flat[index] = number(data[start:end])
        except ValueError:
            return None
    return Table(
        num_frames,
        frames[:bodies],
        ids[:bodies],
        places.reshape(bound, JOINTS, len(PLACE_COLUMNS))[:bodies],
        states.reshape(bound, JOINTS)[:bodies],
    )


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in machine code, kept on disk where there is a folder to keep it in."""
    try:
        return numba.njit(nogil=True, cache=True, forceinline=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba's word for: neither beside the source nor under the home folder can a file be made
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


# Each of these reads from the place `at` and gives the place behind what it read, or, where that does not lie there,
# the place of the NUL behind the text. There nothing can be read, so whatever comes after a failure stays there.


@_compiled
def _after_field(letters: NDArray[np.uint8], at: int) -> int:
    """Behind a field of any letters, at least one."""
    start = at
    while letters[at] > _SPACE:
        at += 1
    return at if at > start else len(letters) - 1


@_compiled
def _after_space(letters: NDArray[np.uint8], at: int) -> int:
    return at + 1 if letters[at] == _SPACE else len(letters) - 1


@_compiled
def _after_line(letters: NDArray[np.uint8], at: int) -> int:
    """Behind LF or CRLF."""
    if letters[at] == _RETURN:
        at += 1
    return at + 1 if letters[at] == _NEWLINE else len(letters) - 1


@_compiled
def _whole_number(letters: NDArray[np.uint8], at: int) -> tuple[int, int]:
    """A whole number in digits alone, exact, and the place behind it."""
    value, start = 0, at
    while _NOUGHT <= letters[at] < _NOUGHT + 10:
        value = 10 * value + (letters[at] - _NOUGHT)
        at += 1
    return (value, at) if 0 < at - start <= _MOST_DIGITS else (0, len(letters) - 1)


@_compiled
def _decimal(letters: NDArray[np.uint8], at: int) -> tuple[float, bool, int]:
    """A field as the nearest float64, whether it is that for sure, and the place behind the field.

    Sure where digits and power of ten are each exact as float64, so that one division rounds once (Clinger, "How to
    read floating point numbers accurately", PLDI 1990): at most 15 digits and a dot, as the tracker writes them.
    """
    negative = letters[at] == _MINUS
    start = at + negative
    at = start
    digits, dot, odd = 0, -1, False
    while letters[at] > _SPACE:
        letter = letters[at]
        if _NOUGHT <= letter < _NOUGHT + 10:
            digits = 10 * digits + (letter - _NOUGHT)
        elif letter == _DOT and dot < 0:
            dot = at
        else:
            odd = True
        at += 1
    dotted = dot >= 0
    length = at - start - dotted
    sure = not odd and 0 < length <= _EXACT_DIGITS
    value = digits / _TENS[at - 1 - dot if sure and dotted else 0]
    return (-value if negative else value), sure, (at if at > start else len(letters) - 1)


@_compiled
def _joint(
    letters: NDArray[np.uint8], at: int, places: NDArray[np.float64], joint: int, odd: Ints, num_odd: int
) -> tuple[int, int]:
    """Fills a joint's places (5,) from its line up to the state; the place of that, and the odd places so far."""
    filled = 0
    for column in range(STATE_COLUMN):
        if _USED[column]:
            start = at
            places[joint, filled], sure, at = _decimal(letters, at)
            if not sure:
                odd[num_odd, 0], odd[num_odd, 1], odd[num_odd, 2] = joint * len(PLACE_COLUMNS) + filled, start, at
                num_odd += 1
            filled += 1
        else:
            at = _after_field(letters, at)
        at = _after_space(letters, at)
    return at, num_odd


@_compiled
def _scan(
    letters: NDArray[np.uint8], frames: Ints, ids: Ints, places: NDArray[np.float64], states: Ints, odd: Ints
) -> tuple[int, int, int]:
    """Fills the arrays. Frame count, bodies and odd places; _IRREGULAR for the first where the file is that."""
    irregular, end = (_IRREGULAR, 0, 0), len(letters) - 1
    bodies = num_odd = 0
    num_frames, at = _whole_number(letters, 0)
    at = _after_line(letters, at)
    if at == end:
        return irregular
    for frame in range(num_frames):
        count, at = _whole_number(letters, at)
        at = _after_line(letters, at)
        if at == end or count > len(ids) - bodies:
            return irregular
        for body in range(bodies, bodies + count):
            frames[body] = frame
            ids[body], at = _whole_number(letters, at)
            for _ in range(BODY_FIELDS - 1):
                at = _after_field(letters, _after_space(letters, at))
            joints, at = _whole_number(letters, _after_line(letters, at))
            at = _after_line(letters, at)
            if at == end or joints != JOINTS:
                return irregular
            for joint in range(body * JOINTS, (body + 1) * JOINTS):
                at, num_odd = _joint(letters, at, places, joint, odd, num_odd)
                states[joint], at = _whole_number(letters, at)
                at = _after_line(letters, at)
            if at == end:
                return irregular
        bodies += count
    while letters[at] == _NEWLINE or letters[at] == _RETURN or letters[at] == _SPACE:
        at += 1
    return (num_frames, bodies, num_odd) if at == end else irregular

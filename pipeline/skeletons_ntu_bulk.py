"""The regular `.skeleton` file, all lines at once: bytes -> the table that `skeletons_ntu` puts into slots.

In: the bytes of a file. Out: the same table that reading line by line gives, bit for bit, or None. None says only that
the file is not of the plain form most files have (one space or line end after each field), or that something in it
does not fit: then the slow reader decides, and names the line.

Why it is here: a line loop spends its time on 31 thousand Python objects a file, half of them for fields nobody uses.
Here the blanks of the whole file are found in one pass, the structure is checked by counting, and the decimals that
are used become numbers eight digits at a time (`benchmarks/skeletons.py` measures both).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]  # eight letters each, the first in the lowest byte
Flags = NDArray[np.bool_]

BODY_FIELDS, JOINT_FIELDS, JOINTS = 10, 12, 25
PLACE_COLUMNS, STATE_COLUMN = (0, 1, 2, 5, 6), 11  # of a joint line's fields: x y z colorX colorY, trackingState
_BODY_LINES = np.array([BODY_FIELDS, 1, *[JOINT_FIELDS] * JOINTS])  # fields of each of a body's 27 lines

_NEWLINE, _SPACE, _MINUS, _DOT, _NOUGHT = b"\n -.0"
_NOUGHT_DOT = int.from_bytes(b"0.", "little")
_WORD = 8
_KEEP = np.array([(1 << 64) - (1 << 8 * (_WORD - n)) for n in range(_WORD + 1)], dtype=np.uint64)  # the last n letters
_TENS = 10 ** np.arange(_WORD + 1, dtype=np.uint64)
_AT_ONCE = 8192  # fields: their arrays stay in the cache, and below the size from which malloc asks for fresh pages


class Table(NamedTuple):
    """What a file holds: its frame count T, and B bodies, each in one frame, in the order of the file.

    frames (B,) and ids (B,); places (B, 25, 5), the fields x y z colorX colorY; states (B, 25), trackingState.
    """

    num_frames: int
    frames: Ints
    ids: Ints
    places: NDArray[np.float64]
    states: Ints


def read_table(data: bytes) -> Table | None:
    """The table of a regular file; None where only reading it line by line can tell what it is."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    end = b"" if data.endswith(b"\n") else b"\n"
    text = b"".join((b" " * (_WORD + 1), data, end))  # a word of eight letters may begin before the first field
    letters = np.frombuffer(text, dtype=np.uint8)
    blanks = np.flatnonzero(letters <= _SPACE)[_WORD:]  # field k lies between blanks k and k + 1
    kinds = letters[blanks]
    newline = kinds == _NEWLINE
    if not (newline | (kinds == _SPACE)).all() or (blanks[1:] - blanks[:-1] == 1).any():
        return None
    last = np.flatnonzero(newline)  # the blank that ends each line
    first = np.concatenate(([0], last[:-1]))  # the first field of each line
    bodies = np.flatnonzero(last - first == BODY_FIELDS)  # the lines that begin a body
    heads = _heads(last - first, bodies)
    if heads is None:
        return None
    counts, joint_counts, ids = (_whole_numbers(text, blanks, first[lines]) for lines in (heads, bodies + 1, bodies))
    if not counts or joint_counts is None or set(joint_counts) - {JOINTS} or counts[0] != len(counts) - 1:
        return None
    between = np.diff(heads[1:], append=len(first)) - 1  # lines from one body count to the next
    if between.tolist() != [count * len(_BODY_LINES) for count in counts[1:]]:
        return None
    lines = first[bodies[:, None] + np.arange(2, 2 + JOINTS)]  # (B, 25)
    places, states = _places(text, blanks, lines), _states(letters, blanks, lines + STATE_COLUMN)
    if places is None or states is None or ids is None:
        return None
    frames = np.repeat(np.arange(counts[0]), np.array(counts[1:], dtype=np.int64))
    return Table(counts[0], frames, np.array(ids, dtype=np.int64), places, states)


def _whole_numbers(text: bytes, blanks: Ints, fields: Ints) -> list[int] | None:
    """Some fields as exact integers; None where one of them is none. IDs exceed what a float can hold."""
    spans = zip((blanks[fields] + 1).tolist(), blanks[fields + 1].tolist(), strict=True)
    texts = [text[start:end] for start, end in spans]
    return [int(text) for text in texts] if all(map(is_whole_number, texts)) else None


def _states(letters: NDArray[np.uint8], blanks: Ints, fields: Ints) -> Ints | None:
    """Some fields of one digit each; None where one of them is another."""
    starts = blanks[fields] + 1
    states = letters[starts].astype(np.int64) - _NOUGHT
    return states if ((states >= 0) & (states <= 9) & (blanks[fields + 1] - starts == 1)).all() else None


def _places(text: bytes, blanks: Ints, lines: Ints) -> NDArray[np.float64] | None:
    """The numbers (B, 25, 5) of joint lines that begin with the fields `lines` (B, 25); None where one is no number."""
    fields = (lines[..., None] + np.array(PLACE_COLUMNS)).ravel()
    numbers = np.empty(fields.shape)
    for part in range(0, len(fields), _AT_ONCE):
        some = fields[part : part + _AT_ONCE]
        if not _decimals(text, blanks[some] + 1, blanks[some + 1], out=numbers[part : part + _AT_ONCE]):
            return None
    return numbers.reshape(*lines.shape, len(PLACE_COLUMNS))


def _heads(fields: Ints, bodies: Ints) -> Ints | None:
    """The lines that belong to no body: the frame count, then a body count a frame.

    `fields` are the fields of each line, `bodies` the lines that begin a body. None where a line has the wrong number.
    """
    lines = bodies[:, None] + np.arange(len(_BODY_LINES))  # (B, 27)
    if lines.size and lines[-1, -1] >= len(fields):
        return None
    outside = np.ones(len(fields), dtype=bool)
    outside[lines] = False
    heads = np.flatnonzero(outside)
    regular = (fields[lines] == _BODY_LINES).all() and (fields[heads] == 1).all() and outside[0]
    return heads if regular else None


def _decimals(text: bytes, starts: Ints, ends: Ints, *, out: NDArray[np.float64]) -> bool:
    """Puts the float64 of each field, as `float` gives it, into `out`; False where one of them is no number.

    The tracker writes seven significant digits, so the last eight letters of a field hold all of them, and at most
    "0." goes before. Without their dot they are a whole number, and a power of ten divides it. Other fields (exponents,
    NaN, more digits) are few, and go through `number`.
    """
    letters = np.frombuffer(text, dtype=np.uint8)
    negative = letters[starts] == _MINUS
    length = ends - starts - negative
    long = length > _WORD
    tail = _at(text, ends - _WORD, "<u8").astype(np.uint64, copy=False) ^ _each(_NOUGHT)
    digits, dotted, behind = _without_dot(tail & _KEEP[np.minimum(length, _WORD)])
    behind += _WORD * (long & ~dotted)
    odd = long & ((length != behind + 2) | (_at(text, ends - behind - 2, "<u2") != _NOUGHT_DOT))
    odd |= (((digits + _each(0x7F - 9)) | digits) & _each(0x80)) != 0  # a letter that is no digit
    odd |= length - dotted < 1
    np.divide(_spelled(digits), _TENS[behind], out=out)
    np.negative(out, where=negative, out=out)
    for index in np.flatnonzero(odd):
        try:
            out[index] = number(text[starts[index] : ends[index]])
        except ValueError:
            return False
    return True


def _at(text: bytes, places: Ints, kind: str) -> NDArray[Any]:
    """The few letters that lie at each of `places`, seen as one item of the dtype `kind`."""
    dtype = np.dtype(kind)
    return np.ndarray(len(text) - dtype.itemsize + 1, f"V{dtype.itemsize}", text, strides=(1,))[places].view(dtype)


def _each(byte: int) -> np.uint64:
    """A word of eight equal bytes."""
    return np.uint64(byte * 0x0101010101010101)


def _without_dot(word: Words) -> tuple[Words, Flags, Ints]:
    """Each word with its dot taken out and what lies before it moved up; whether it has one; how many follow it.

    Bytes are letters less "0". A word of two dots becomes one without digits.
    """
    other = word ^ _each(_DOT ^ _NOUGHT)
    dot = ~(((other & _each(0x7F)) + _each(0x7F)) | other | _each(0x7F)) >> np.uint64(7)  # lowest bit of the dot's byte
    dotted = dot != 0
    before = word & (dot - dotted)
    follow = (dot * np.uint64(0x0706050403020100)) >> np.uint64(56)  # byte b becomes 7 - b
    closed = word + before * np.uint64(0xFF) - dot * np.uint64(_DOT ^ _NOUGHT)
    closed[dot & (dot - dotted) != 0] = _each(0xFF)
    return closed, dotted, follow.astype(np.int64)


def _spelled(digits: Words) -> Words:
    """The whole numbers that words of eight digits spell: eight ones, joined to four pairs, two fours, one eight."""
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    mask = np.uint64(0x000000FF000000FF)
    fours = (pairs & mask) * np.uint64(100 + (1000000 << 32))
    fours += ((pairs >> np.uint64(16)) & mask) * np.uint64(1 + (10000 << 32))
    return fours >> np.uint64(32)


def is_whole_number(field: bytes) -> bool:
    """Whether it is a whole number that int64 holds, in digits alone."""
    return field.isdigit() and len(field) < 20 and int(field) < 1 << 63


def number(field: bytes) -> float:
    """The float64 that a decimal field names. ValueError for other text, digits grouped by underscores among it."""
    if b"_" in field:
        raise ValueError(field)
    return float(field)

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

_NEWLINE, _RETURN, _SPACE, _MINUS, _DOT, _NOUGHT = b"\n\r -.0"
_NOUGHT_DOT, _JOINT_COUNT = (int.from_bytes(text, "little") for text in (b"0.", b"25"))
_WORD = 8
_KEEP = np.array([(1 << 64) - (1 << 8 * (_WORD - n)) for n in range(_WORD + 1)], dtype=np.uint64)  # the last n letters
_TENS = np.concatenate((10.0 ** np.arange(_WORD + 1), -(10.0 ** np.arange(_WORD + 1))))  # the latter for negatives
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


class _Fields(NamedTuple):
    """Where each of the K fields of a text begins and ends, and by line, its first field and how many it has."""

    text: bytes
    starts: Ints
    ends: Ints
    first: Ints
    counts: Ints


def read_table(data: bytes) -> Table | None:
    """The table of a regular file; None where only reading it line by line can tell what it is."""
    fields = _fields(data)
    if fields is None:
        return None
    first = fields.first
    bodies = np.flatnonzero(fields.counts == BODY_FIELDS)  # the lines that begin a body
    heads = _heads(fields.counts, bodies)
    if heads is None:
        return None
    frame_count, ids = _whole_numbers(fields, first[:1]), _whole_numbers(fields, first[bodies])
    per_frame = _single_digits(fields, first[heads[1:]])
    if frame_count != [len(heads) - 1] or ids is None or per_frame is None:
        return None
    counts = first[bodies + 1]
    joint_counts_fit = (_at(fields.text, fields.starts[counts], "<u2") == _JOINT_COUNT).all()
    between = np.diff(heads[1:], append=len(first)) - 1  # lines from one body count to the next
    if not joint_counts_fit or (_lengths(fields, counts) != 2).any() or (between != per_frame * len(_BODY_LINES)).any():
        return None
    lines = first[bodies[:, None] + np.arange(2, 2 + JOINTS)]  # (B, 25)
    places, states = _places(fields, lines), _single_digits(fields, lines + STATE_COLUMN)
    if places is None or states is None:
        return None
    return Table(
        frame_count[0], np.repeat(np.arange(len(per_frame)), per_frame), np.array(ids, np.int64), places, states
    )


def _fields(data: bytes) -> _Fields | None:
    """The fields of a file; None unless one space or line end follows each, and all lines end alike."""
    if not data.isascii():  # `_without_dot` reckons with letters below 128
        return None
    crlf = b"\r" in data
    end = b"" if data.endswith(b"\n") else b"\r\n" if crlf else b"\n"
    text = b"".join((b" " * (_WORD + 1), data, end))  # a word of eight letters may begin before the first field
    letters = np.frombuffer(text, dtype=np.uint8)
    blanks = np.flatnonzero(letters <= _SPACE)[_WORD:]
    kinds = letters[blanks]
    newline = kinds == _NEWLINE
    before, after = blanks, blanks  # field k lies between before[k] and after[k + 1]
    if crlf:
        between = kinds == _RETURN
        if not np.array_equal(blanks[between] + 1, blanks[newline]):
            return None
        before, after, newline = blanks[~between], blanks[~newline], newline[~between]
        kinds = kinds[~between]
    starts, ends = before[:-1] + 1, after[1:]
    if not (newline | (kinds == _SPACE)).all() or (starts >= ends).any():
        return None
    beyond = np.flatnonzero(newline)  # by line, the field that follows it
    first = np.concatenate(([0], beyond[:-1]))
    return _Fields(text, starts, ends, first, beyond - first)


def _lengths(fields: _Fields, which: Ints) -> Ints:
    return fields.ends[which] - fields.starts[which]


def _whole_numbers(fields: _Fields, which: Ints) -> list[int] | None:
    """Some fields as exact integers; None where one of them is none. IDs exceed what a float can hold."""
    spans = zip(fields.starts[which].tolist(), fields.ends[which].tolist(), strict=True)
    texts = [fields.text[start:end] for start, end in spans]
    return [int(text) for text in texts] if all(map(is_whole_number, set(texts))) else None


def _single_digits(fields: _Fields, which: Ints) -> Ints | None:
    """Some fields of one digit each; None where one of them is another."""
    values = np.frombuffer(fields.text, dtype=np.uint8)[fields.starts[which]].astype(np.int64) - _NOUGHT
    return values if ((values >= 0) & (values <= 9) & (_lengths(fields, which) == 1)).all() else None


def _places(fields: _Fields, lines: Ints) -> NDArray[np.float64] | None:
    """The numbers (B, 25, 5) of joint lines that begin with the fields `lines` (B, 25); None where one is no number."""
    which = (lines[..., None] + np.array(PLACE_COLUMNS)).ravel()
    numbers = np.empty(which.shape)
    for part in range(0, len(which), _AT_ONCE):
        some = which[part : part + _AT_ONCE]
        if not _decimals(fields.text, fields.starts[some], fields.ends[some], out=numbers[part : part + _AT_ONCE]):
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
    negative = np.frombuffer(text, dtype=np.uint8)[starts] == _MINUS
    length = np.minimum(ends - starts, 99).astype(np.int8) - negative  # of a number without its sign
    long = length > _WORD
    tail = _at(text, ends - _WORD, "<u8").astype(np.uint64, copy=False) ^ _each(_NOUGHT)
    digits, dotted, behind, odd = _without_dot(tail & _KEEP[np.minimum(length, _WORD)])
    behind += _WORD * (long & ~dotted).view(np.int8)
    odd |= long & ((length != behind + 2) | (_at(text, ends - behind - 2, "<u2") != _NOUGHT_DOT))
    odd |= length <= dotted
    np.divide(_spelled(digits), _TENS[behind + (_WORD + 1) * negative.view(np.int8)], out=out)
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


def _without_dot(word: Words) -> tuple[Words, Flags, NDArray[np.int8], Flags]:
    """Each word, of letters less "0", with its dot taken out and what lies before it moved up.

    Returns:
        the words; whether each has a dot; how many letters follow the dot (0 without one); whether something is left
        that is no digit, a second dot for instance.
    """
    other = word ^ _each(_DOT ^ _NOUGHT)
    dot = (~(other + _each(0x7F)) & _each(0x80)) >> np.uint64(7)  # lowest bit of its byte; right for letters below 128
    dotted = dot != 0
    below = dot - dotted  # all bits below that
    behind = (dot * np.uint64(0x0706050403020100)) >> np.uint64(56)  # byte b becomes 7 - b
    closed = word + (word & below) * np.uint64(0xFF) - dot * np.uint64(_DOT ^ _NOUGHT)
    left = (((closed + _each(0x7F - 9)) | closed) & _each(0x80)) | (dot & below)
    return closed, dotted, behind.astype(np.int8) & np.int8(7), left != 0  # of two dots any number up to 7


def _spelled(digits: Words) -> Words:
    """The whole numbers that words of eight digits spell: eight ones, joined to four pairs, two fours, one eight."""
    pairs = digits * np.uint64(10)
    pairs += digits >> np.uint64(8)
    mask = np.uint64(0x000000FF000000FF)
    fours = (pairs & mask) * np.uint64(100 + (1000000 << 32))
    pairs >>= np.uint64(16)
    fours += (pairs & mask) * np.uint64(1 + (10000 << 32))
    return fours >> np.uint64(32)


def is_whole_number(field: bytes) -> bool:
    """Whether it is a whole number that int64 holds, in digits alone."""
    return field.isdigit() and len(field) < 20 and int(field) < 1 << 63


def number(field: bytes) -> float:
    """The float64 that a decimal field names. ValueError for other text, digits grouped by underscores among it."""
    if b"_" in field:
        raise ValueError(field)
    return float(field)

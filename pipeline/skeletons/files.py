"""Pose files as bytes and as JSON, whoever wrote them: regular files of a bounded size, values of a checked form.

In: a path. Out: its bytes, its JSON content, or numbers taken from that. A pipe, a device, a huge file, a repeated name
or a text in the place of a number is a SkeletonError, in bounded time and memory. What the numbers mean is not decided
here.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkeletonError

Parsed = TypeVar("Parsed")

MOST_BYTES = 64 << 20  # of a pose file as text: an hour of one person; Python holds JSON in up to 25 times as much
MOST_BINARY_BYTES = 256 << 20  # of a file of arrays, and of each array
FORMS = "OpenPose, AlphaPose, COCO or Kinetics JSON, .skeleton, .mat, or .npz or .json with `joints`"
OWN_FORM = "write `joints` (persons, frames, joints, 2) in pixels, and `scores`, into an .npz"
_DEPTH = 8  # lists within lists that may hold numbers


@contextmanager
def open_regular(path: str | Path, *, most: int) -> Iterator[BinaryIO]:
    """A regular file of at most `most` bytes, open for reading. SkeletonError for any other, without waiting on it."""
    with ExitStack() as stack:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened, which for a device may have effects
                raise SkeletonError(path, "is not a regular file", remedy="replace it by the pose file itself")
            file = stack.enter_context(open(path, "rb", opener=_without_waiting))
            found = os.fstat(file.fileno())
        except (OSError, ValueError) as error:
            got = error.strerror if isinstance(error, OSError) else error
            raise SkeletonError(path, "cannot be read", got=got, remedy="check the path") from error
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            got, expected = f"{found.st_size >> 20} MiB", f"a regular file of at most {most >> 20} MiB"
            raise SkeletonError(path, "is too large for a pose file", got=got, expected=expected)
        yield file


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a regular file of at most `MOST_BYTES`. SkeletonError if it is none or cannot be read."""
    with open_regular(path, most=MOST_BYTES) as file:
        try:
            return file.read(MOST_BYTES)
        except OSError as error:
            raise SkeletonError(path, "cannot be read", got=error.strerror, remedy="check the disk") from error


def load_json(path: str | Path) -> Any:
    """The content of a JSON file, NaN and Infinity allowed as Python writes them. SkeletonError if it is none."""
    try:
        return json.loads(read_bytes(path), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        remedy = "make it again with the pose estimator"
        raise SkeletonError(path, "cannot be read as JSON", got=error, remedy=remedy) from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {shown(next(name for name in names if names.count(name) > 1))} twice in one object")
    return content


def parsed(path: str | Path, content: Any, parse: Callable[[Any], Parsed]) -> Parsed:
    """What `parse` makes of a file's content. SkeletonError, naming the file, where the content is of another form."""
    try:
        return parse(content)
    except KeyError as error:
        got: object = f"no {shown(error.args[0])}"
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        got = str(error)[:200]
    raise SkeletonError(path, "is of another form than expected", got=got, expected=FORMS, remedy=OWN_FORM)


def listed(value: Any) -> list[Any]:
    """A list as it is. TypeError for anything else, which could be taken for one with nothing in it."""
    if type(value) is not list:
        raise TypeError(f"{shown(value)} where a list belongs")
    return value


def numbers(value: Any) -> NDArray[np.float32]:
    """A list of numbers, or of lists of them, as an array; null is NaN, and beyond float32 is infinite.

    Raises TypeError, ValueError, OverflowError: it is no list, its rows differ in length, or it holds something else,
    such as a text or true.
    """
    leaves = listed(value)
    for _ in range(_DEPTH):
        if not leaves or any(type(item) is not list for item in leaves):
            break
        leaves = list(chain.from_iterable(leaves))
    others = set(map(type, leaves)) - {int, float, type(None)}
    if others:
        raise TypeError(f"{others.pop().__name__} where a number belongs")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(value, dtype=np.float64).astype(np.float32)


def whole(value: Any, what: str) -> int:
    """A whole number of 64 bits, which JSON may hold as 7 or 7.0. TypeError or ValueError if it is none."""
    if type(value) not in (int, float) or value != value // 1 or not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{shown(value)} is no {what}")
    return int(value)


def shown(value: object) -> str:
    """A value of a stranger's in a message: printable, and short. Large containers are named by their type alone."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or type(value) is bool:
        return json.dumps(value)
    text = ascii(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."

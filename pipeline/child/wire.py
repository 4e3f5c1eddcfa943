"""Messages between a process and its child: JSON, and the bytes of arrays behind it. No pickles.

In and out: None, bool, int, float, str, lists, tuples and dicts of these, numpy arrays of numbers, paths (as text), and
the dataclasses of `pipeline.child.calls.VALUES`. A message is two little-endian 64-bit lengths, a JSON header of the
first and a payload of the second: the arrays, each at a multiple of `_ALIGN`. Errors of `pipeline.errors` travel as
their parts. It neither opens nor reads pipes.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import fields
from os import PathLike, fspath
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from pipeline import errors
from pipeline.child.calls import VALUES, find
from pipeline.errors import StarError

LENGTHS = struct.Struct("<QQ")
# What is accepted at most: 300 frames of 1080p. A longer reply would take as much memory in the parent.
HEADER_BYTES, REPLY_BYTES = 64 << 20, 2 << 30
_ALIGN = 64
_ERRORS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, StarError)}


def pack(value: Any) -> list[memoryview]:
    """The parts of a message, to be written one after the other; an array in C order is not copied."""
    arrays: list[memoryview] = []
    header = json.dumps(_tree(value, arrays)).encode()
    length = sum(map(len, arrays))
    return [memoryview(LENGTHS.pack(len(header), length) + header), *arrays]


def unpack(header: bytes, payload: np.ndarray) -> Any:
    """The value; its arrays are views into `payload`, uint8 (length,). Raises ValueError: it is no message."""
    try:
        return _value(json.loads(header), payload)
    except (KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise ValueError(f"no message: {error!r}") from error


def parts_of(error: StarError) -> list[Any]:
    """An error as a value of this module. What was got and expected becomes text, unless it is a number."""
    facts = {name: fact for name, fact in vars(error).items() if name not in ("item", "problem")}
    plain = {name: fact if isinstance(fact, int | float | None) else str(fact) for name, fact in facts.items()}
    return [type(error).__name__, error.item, error.problem, plain]


def error_of(parts: list[Any]) -> StarError:
    """The error of `parts_of`. Raises ValueError: these are no parts of one."""
    try:
        name, item, problem, facts = parts
        texts = all(isinstance(fact, str | int | float | None) for fact in (problem, *facts.values()))
        if not texts or not isinstance(facts.get("frames"), int | None):
            raise ValueError("no error")
        return _ERRORS[name](item, problem, **facts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no error: {error!r}") from error


def _tree(value: Any, arrays: list[memoryview]) -> Any:
    """What JSON holds: a list for a list, and {kind: content} for what JSON does not know."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, list):
        return [_tree(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_tree(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": {name: _tree(item, arrays) for name, item in value.items()}}
    if isinstance(value, np.ndarray):
        return {"array": _placed(value, arrays)}
    assert type(value).__name__ in VALUES, f"{type(value)} cannot be sent"
    content = {field.name: _tree(getattr(value, field.name), arrays) for field in fields(value)}
    return {type(value).__name__: content}


def _placed(array: np.ndarray, arrays: list[memoryview]) -> list[Any]:
    """[start, type, shape] of an array, whose bytes are appended to `arrays`."""
    assert array.dtype.kind in "biuf", f"an array of {array.dtype} cannot be sent"
    start = sum(map(len, arrays))
    if gap := -start % _ALIGN:
        arrays.append(memoryview(bytes(gap)))
    if array.size:
        arrays.append(np.ascontiguousarray(array).data.cast("B"))
    return [start + gap, array.dtype.str, list(array.shape)]


def _value(tree: Any, payload: np.ndarray) -> Any:
    if isinstance(tree, list):
        return [_value(item, payload) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tuple":
        return tuple(_value(item, payload) for item in content)
    if kind == "array":
        start, name, shape = content
        dtype = np.dtype(name)
        end = start + dtype.itemsize * math.prod(shape)
        if dtype.kind not in "biuf" or not 0 <= start <= end <= len(payload):
            raise ValueError("no array")
        return payload[start:end].view(dtype).reshape(shape)
    members = {name: _value(item, payload) for name, item in content.items()}
    return members if kind == "dict" else _built(find(VALUES[kind]), members)


def _built(kind: type, members: dict[str, Any]) -> Any:
    """A dataclass of `VALUES`, each member of its field's type: a reply may come from a reader that was taken over."""
    for name, hint in get_type_hints(kind).items():
        if not is_of(members[name], hint):
            raise ValueError(f"no {kind.__name__}: {name} is a {type(members[name]).__name__}")
    return kind(**members)


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of the type of an annotation; an array's numbers may be of any type."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if hasattr(kind, "__value__"):  # a type alias, as numpy's NDArray is from 2.5 on
        kind = get_origin(kind.__value__) or kind.__value__
    if kind is UnionType:
        return any(is_of(value, one) for one in inner)
    if kind is Any or type(value) is not kind:
        return kind is Any
    if kind is tuple:
        return len(value) == len(inner) and all(map(is_of, value, inner))
    return kind is not dict or all(is_of(one, inner[1]) for one in value.values())

"""JSON of strangers, and its types: one checker for records, attributes, configs and metrics.

In: bytes, and a schema of plain Python. Out: plain values of exactly those types, or a CorruptError that names the
place. A schema is a type (`str`, `int`, `float`, `bool`, `dict`, `list`), a tuple of allowed values, a list of one
schema, a dict of names to schemas (further names are allowed), or a function that says whether a value is right.
No library is used for it: what is needed of one is these forty lines.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, NoReturn, TypeVar

from pipeline.errors import CorruptError

DEEPEST = 24  # nested lists and dicts; ours have six
REMEDY = "restore it from a copy, or make it again"

Built = TypeVar("Built")


def parse_json(data: bytes | str, item: object) -> Any:
    """The value of a JSON text: finite numbers, whole characters, at most `DEEPEST` levels. Raises CorruptError."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        _check_plain(value)
    except RecursionError:
        raise CorruptError(item, "is nested too deeply", remedy=REMEDY) from None
    except MemoryError:
        raise CorruptError(item, "is larger than the free memory", remedy=REMEDY) from None
    except ValueError as error:
        raise CorruptError(item, f"is not JSON ({str(error)[:100]})", remedy=REMEDY) from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_plain(value: Any) -> None:
    """RecursionError where it is too deep, ValueError for half a character or a number without end."""
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str):
                if not one.isascii():
                    one.encode()
            elif isinstance(one, float) and not math.isfinite(one):  # 1e999
                raise ValueError("a number is not finite")
        if not below:
            return
        level = below
    raise RecursionError


def check(value: Any, schema: Any, item: object, where: str = "") -> None:
    """Raise CorruptError, naming the place in `item`, where a value is not of the schema."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            _wrong(item, where, value, "an object")
        for name, inner in schema.items():
            if name not in value:
                raise CorruptError(item, f"has no {where}{'.' if where else ''}{name}", remedy=REMEDY)
            check(value[name], inner, item, f"{where}{'.' if where else ''}{name}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            _wrong(item, where, value, "a list")
        for i, one in enumerate(value):
            check(one, schema[0], item, f"{where}[{i}]")
    elif isinstance(schema, tuple):
        if not isinstance(value, str | int) or value not in schema:
            _wrong(item, where, value, " | ".join(map(str, schema)))
    elif isinstance(schema, type):
        if not _is_a(value, schema):
            _wrong(item, where, value, schema.__name__)
    elif not schema(value):
        _wrong(item, where, value, (schema.__doc__ or "another value").strip().rstrip("."))


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _wrong(item: object, where: str, value: Any, expected: str) -> NoReturn:
    problem = f"has a wrong {where}" if where else "has a wrong value"
    raise CorruptError(item, problem, got=repr(value)[:60], expected=expected, remedy=REMEDY)


def whole(least: int = 0, most: int = 1 << 62) -> Callable[[Any], bool]:
    """A schema for integers in a range."""

    def check_range(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    check_range.__doc__ = f"an integer of {least} to {most}"
    return check_range


def each(schema: Any) -> Callable[[Any], bool]:
    """A schema for objects of any names, whose values are all of one schema."""

    def check_values(value: Any) -> bool:
        try:
            check([*value.values()] if isinstance(value, dict) else None, [schema], "")
        except CorruptError:
            return False
        return True

    check_values.__doc__ = "an object of such values"
    return check_values


def sha256_hex(value: Any) -> bool:
    """64 hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and not value.strip("0123456789abcdef")


def names(value: Any) -> bool:
    """a list of at least one name."""
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def build(cls: type[Built], values: Any, item: object) -> Built:
    """A dataclass of plain fields from an object of exactly its names and types. Raises CorruptError, ConfigError."""
    hints, found = typing.get_type_hints(cls), {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    check(values, dict, item)
    for name in values.keys() - found.keys():
        raise CorruptError(item, f"has an unknown {name}", remedy="use the version of this program that made it")
    required = {name for name, field in found.items() if field.default is MISSING and field.default_factory is MISSING}
    check(values, dict.fromkeys(required, _anything), item)
    return cls(**{name: _typed(value, hints[name], item, name) for name, value in values.items()})


def _typed(value: Any, hint: Any, item: object, name: str) -> Any:
    if isinstance(hint, types.UnionType):
        if not any(value is None if kind is types.NoneType else _is_a(value, kind) for kind in hint.__args__):
            _wrong(item, name, value, str(hint))
        return value
    if typing.get_origin(hint) is tuple:
        check(value, list, item, name)
        return tuple(value)
    check(value, typing.get_origin(hint) or hint, item, name)
    return value


def _anything(value: Any) -> bool:
    """Any value."""
    return True


def check_columns(rows: list[Any], kinds: Mapping[str, type], item: object) -> None:
    """Raise CorruptError where a row is no list with a value of the right type for each column; fast for many rows."""
    if not all(isinstance(row, list) and len(row) == len(kinds) for row in rows):
        raise CorruptError(item, "has a row of another length", expected=f"{len(kinds)} values", remedy=REMEDY)
    for (name, kind), column in zip(kinds.items(), zip(*rows, strict=True), strict=False):
        if {*map(type, column)} != {kind}:
            raise CorruptError(item, f"has a wrong {name} in a row", expected=kind.__name__, remedy=REMEDY)

"""Identity of an artifact: a digest of what it was made from, and the differences between two such descriptions.

In: nested dicts of plain values. Out: a hex digest, or lines of text. A value without an exact text form is an error.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def fingerprint(made_from: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of `made_from`.

    Raises:
        TypeError: a value is no str, int, float (finite), bool, None, list, tuple or str-keyed dict.
    """
    return sha256(canonical_json(_plain(made_from, "")))


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], *, exact: bool = False) -> list[str]:
    """One line, "name: found, wanted", for each leaf in which two descriptions differ, in order of name.

    With `exact`, 1 and 1.0 differ, as they do in a fingerprint.
    """
    left, right = _leaves(found), _leaves(wanted)
    missing = object()
    lines = []
    for name in sorted(left.keys() | right.keys()):
        old, new = left.get(name, missing), right.get(name, missing)
        if old != new or (exact and canonical_json(old) != canonical_json(new)):
            lines.append(f"{name}: {'nothing' if old is missing else old}, now {'nothing' if new is missing else new}")
    return lines


def _plain(value: Any, name: str) -> Any:
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"fingerprint: {name.lstrip('.')} is a {type(value).__name__}, which has no exact text form")


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, item in value.items():
            found.update(_leaves(item, f"{name}.{key}" if name else str(key)))
        return found
    return {name: list(value) if isinstance(value, tuple) else value}


def sha256(*parts: bytes | memoryview) -> str:
    """The hex digest of the parts, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

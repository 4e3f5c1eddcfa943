"""JSON records whose last line is a checksum of all lines before it.

In: dicts of plain values, or the bytes of such a record. Out: bytes, or dicts that are proven whole. It reads and
writes no file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.schema import check, parse_json
from pipeline.errors import CorruptError

_CHECKSUM = '"checksum": "'


def seal(record: Mapping[str, Any]) -> bytes:
    """A record as JSON, a line a key (and a line a row, where a value is a list of rows), its own checksum last.

    The checksum is the SHA-256 of every byte before the line it stands on, so reading it back costs one pass.
    """
    assert "checksum" not in record
    text = "{\n" + "".join(f"{json.dumps(key)}: {_rows(value)},\n" for key, value in record.items())
    body = text.encode()
    return body + _last_lines(sha256(body))


def _rows(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return "[\n" + ",\n".join(_compact(row) for row in value) + "\n]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def unseal(data: bytes, item: object, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The record that `seal` wrote, without its checksum. Anyone can compute a checksum, so its types are checked too.

    Args:
        schema: see `pipeline.artifacts.schema`.

    Raises:
        CorruptError: it is not whole, any bit of it differs, or it is no record of this schema.
    """
    body = data[: data.rfind(_CHECKSUM.encode())] if _CHECKSUM.encode() in data else b""
    if not body or data != body + _last_lines(sha256(body)):
        raise CorruptError(
            item,
            "does not match its own checksum" if body else "is not a whole record",
            got=f"{len(data)} bytes",
            remedy="restore it from a copy, or delete it and run the same command again",
        )
    record = parse_json(data, item)
    check(record, {**schema, "checksum": str}, item)
    del record["checksum"]
    return dict(record)


def _last_lines(checksum: str) -> bytes:
    return f'{_CHECKSUM}{checksum}"\n}}\n'.encode()

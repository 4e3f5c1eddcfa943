"""JSON records that carry their own checksum, in the last line.

In: dicts of plain values, or the bytes and files that hold such records. Out: bytes, or dicts that are proven whole. A
commit record goes last: what it names is complete.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts.fingerprint import sha256
from pipeline.errors import ArtifactError, CorruptError

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


def unseal(data: bytes, item: object) -> dict[str, Any]:
    """The record that `seal` wrote, without its checksum.

    Raises:
        CorruptError: it is not whole, or any bit of it differs.
    """
    body = data[: data.rfind(_CHECKSUM.encode())] if _CHECKSUM.encode() in data else b""
    if not body or data != body + _last_lines(sha256(body)):
        raise _not_sealed(item, whole=bool(body), length=len(data))
    record = json.loads(data)
    del record["checksum"]
    return record


def unseal_rows(path: Path, key: str, wanted: range) -> dict[str, Any]:
    """As `unseal`, from a file, with only the `wanted` rows of the list under `key`.

    Every byte is read and checked, but the memory that this takes does not grow with the list.

    Raises:
        ArtifactError: the file cannot be read. CorruptError: as `unseal`.
    """
    kept: list[bytes] = []
    row = -1  # -1 outside the list
    for line in _body_lines(path):
        if row < 0:
            kept.append(line)
            row = 0 if line == f'"{key}": [\n'.encode() else -1
        elif line == b"],\n":
            kept.append(b"null" + line)  # after the comma of the last row
            row = -1
        else:
            if row in wanted:
                kept.append(line.rstrip(b",\n") + b",\n")
            row += 1
    record = json.loads(b"".join(kept) + b'"checksum": ""}')
    del record["checksum"]
    return {**record, key: [row for row in record[key] if row is not None]}


def _body_lines(path: Path) -> Iterator[bytes]:
    """The lines of a sealed file without its last two; after them, CorruptError where the checksum is another."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(_CHECKSUM.encode()):
                    if line + file.read() != _last_lines(digest.hexdigest()):
                        break
                    return
                digest.update(line)
                yield line
            raise _not_sealed(path, whole=file.tell() > 0, length=path.stat().st_size)
    except OSError as error:
        raise ArtifactError(path, f"cannot be read on {socket.gethostname()} ({error.strerror})") from error


def _last_lines(checksum: str) -> bytes:
    return f'{_CHECKSUM}{checksum}"\n}}\n'.encode()


def _not_sealed(item: object, *, whole: bool, length: int) -> CorruptError:
    return CorruptError(
        item,
        "does not match its own checksum" if whole else "is not a whole record",
        got=f"{length} bytes",
        remedy="restore it from a copy, or delete it and run the same command again",
    )

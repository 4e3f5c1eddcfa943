"""Atomic, verified commits, for both data stages and for checkpoints.

In: bytes. Out: files that are either whole or absent: temporary name, fsync, rename, fsync of the folder. A commit
record is a small JSON file that carries its own checksum and goes last: what it names is complete. No knowledge of
what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ArtifactError, CorruptError

TEMPORARY = ".part-"  # a dot file's suffix, then a random word: never a name that a reader looks for
LOCK = ".lock"


def sha256(*parts: bytes | memoryview) -> str:
    """The hex digest of the parts, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path`, whole and on the disk, or leave what was there.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}{secrets.token_hex(6)}")
    try:
        _make_folder(path.parent)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, all to outlast a power cut: else a record in a folder that was there
    before would, and the files that it names would not."""
    if folder.is_dir():
        return
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        with contextlib.suppress(PermissionError):  # of the folder that was there: one may make folders in it, not list
            _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    """Make what was named in `folder` outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path | str, error: OSError) -> ArtifactError:
    """The sentence for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            path,
            "the disk is full",
            remedy="free some space and run the same command again: finished shards, or the last checkpoint, are kept",
        )
    return ArtifactError(
        path, f"cannot be written ({error.strerror or error})", remedy="choose a folder that you may write to"
    )


def sweep_temporaries(folder: Path) -> int:
    """Remove what killed writers left behind, at any depth; returns how many files that were."""
    swept = 0
    for path in folder.rglob(f".*{TEMPORARY}*"):
        path.unlink(missing_ok=True)
        swept += 1
    return swept


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[str]:
    """Hold `folder` for one coordinator; yields the word by which its workers can tell that it still does.

    The lock goes with the process, however it ends.

    Raises:
        ArtifactError: another process holds it, or it cannot be made.
    """
    try:
        _make_folder(folder)
        # unbuffered: what a full disk refused would be tried again, and fail again, when the file is closed
        lock = open(folder / LOCK, "ab", buffering=0)  # noqa: SIM115 (held for the whole block, closed below)
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                folder, "another process is writing here", remedy="wait for it or choose another --out"
            ) from None
        except OSError:  # a file system without locks: the commits are atomic all the same
            pass
        word = secrets.token_hex(8)
        try:
            _write_word(lock, word)
        except OSError as error:
            raise unwritable(folder, error) from error
        try:
            yield word
        finally:
            with contextlib.suppress(OSError):
                _write_word(lock, "")


def _write_word(lock: IO[bytes], word: str) -> None:
    lock.truncate(0)
    lock.write(word.encode())


def require_writer(folder: Path, word: str) -> None:
    """Called by a worker before it writes: is the coordinator that sent it still the one?

    A worker of a cluster can outlive its coordinator; it must not write among those of the next one.

    Raises:
        ArtifactError: that coordinator has ended, or another has taken over; or the folder is not to be seen from here.
    """
    try:
        found = (folder / LOCK).read_text()
    except OSError as error:
        raise ArtifactError(
            folder,
            f"cannot be read on {socket.gethostname()} ({error.strerror})",
            remedy="use workers that see the same files under the same paths",
        ) from error
    if found != word:
        raise ArtifactError(folder, "is no longer in the hands of the command that began this work")


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

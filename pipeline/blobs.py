"""Bytes under keys: a local folder, an S3 bucket, or this process's memory, behind the same four verbs.

In: a URL or path. Out: Blobs with put, get, keys, delete, and the zarr store over the same place. A put is whole or
absent: locally by `pipeline.commit`, elsewhere by one PUT of the object store. Knows nothing of zarr's formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import MemoryStore, from_url
from zarr.abc.store import Store
from zarr.storage import LocalStore, ObjectStore

from pipeline.commit import unwritable, write_atomic
from pipeline.errors import ArtifactError

_MEMORY: dict[str, MemoryStore] = {}  # "memory://name" is one place for the life of the process


class Blobs(Protocol):
    """Bytes under "/"-separated keys below one root."""

    url: str

    def put(self, key: str, data: bytes) -> None:
        """Write, whole or not at all. Raises ArtifactError where it cannot."""

    def get(self, key: str) -> bytes | None:
        """The bytes, or None where there are none. Raises ArtifactError where the place cannot be read."""

    def keys(self, prefix: str) -> list[str]:
        """All keys below `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Remove, where it is there."""

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """The same place for zarr."""


class LocalBlobs:
    """A folder of this machine, or of a file system that all workers share."""

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, str(root)

    def put(self, key: str, data: bytes) -> None:
        write_atomic(self.root / key, data)

    def get(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactError(self.root / key, f"cannot be read ({error.strerror})") from error

    def keys(self, prefix: str) -> list[str]:
        found = (p for p in (self.root / prefix).rglob("*") if p.is_file() and not p.name.startswith("."))
        return sorted(p.relative_to(self.root).as_posix() for p in found)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def zarr_store(self, *, read_only: bool = False) -> Store:
        return LocalStore(self.root, read_only=read_only)


class ObjectBlobs:
    """A prefix of an object store, through obstore (credentials and endpoint from the environment, as AWS's own)."""

    def __init__(self, url: str, store: Any) -> None:
        self.url, self._store = url, store

    def put(self, key: str, data: bytes) -> None:
        try:
            obstore.put(self._store, key, data)
        except (BaseError, OSError) as error:
            raise self._unreachable(key, error) from error

    def get(self, key: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._unreachable(key, error) from error

    def keys(self, prefix: str) -> list[str]:
        try:
            return sorted(item["path"] for batch in obstore.list(self._store, prefix) for item in batch)
        except (BaseError, OSError) as error:
            raise self._unreachable(prefix, error) from error

    def delete(self, key: str) -> None:
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            pass
        except (BaseError, OSError) as error:
            raise self._unreachable(key, error) from error

    def zarr_store(self, *, read_only: bool = False) -> Store:
        return ObjectStore(self._store, read_only=read_only)

    def _unreachable(self, key: str, error: Exception) -> ArtifactError:
        reason = str(error).strip().split("\n")[0][:300]
        return ArtifactError(
            f"{self.url}/{key}", f"cannot be reached ({reason})", remedy="check the bucket, endpoint and credentials"
        )


def open_blobs(url: str | Path) -> Blobs:
    """`/a/path`, `s3://bucket/prefix`, or `memory://name`.

    Raises:
        ArtifactError: a local path whose place cannot hold a folder, or a URL that names no store.
    """
    text = str(url)
    if text.startswith("memory://"):
        return ObjectBlobs(text, _MEMORY.setdefault(text, MemoryStore()))
    if "://" in text:
        try:
            return ObjectBlobs(text.rstrip("/"), from_url(text))
        except (BaseError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ArtifactError(text, f"names no store that can be opened ({reason})") from error
    path = Path(text)
    try:
        if path.exists() and not path.is_dir():
            raise ArtifactError(path, "is a file, not a folder", remedy="name a folder")
    except OSError as error:
        raise unwritable(path, error) from error
    return LocalBlobs(path.absolute())

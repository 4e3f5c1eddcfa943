"""Blobs below a prefix of an object store, or in this process's memory, through obstore.

In: keys and bytes. Out: objects, each by one PUT, so whole or absent. Credentials and endpoint come from AWS's
environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, ...). Forked processes
are refused: obstore uses threads, which do not survive a fork.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import MemoryStore, from_url
from zarr.abc.store import Store
from zarr.storage import ObjectStore

from pipeline.artifacts.checksum import crc32c, crc64
from pipeline.errors import ArtifactError, ConfigError

if TYPE_CHECKING:  # defined in the type stubs only
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig

WRITER = "log/writer"  # holds the lease of the newest coordinator

T = TypeVar("T")

_MEMORY: dict[str, MemoryStore] = {}  # "memory://name" lives as long as the process


class ReplacedError(ArtifactError):
    """An object that was opened for reading parts has been replaced or deleted."""


class ObjectParts:
    """One object, read by ranges, each on condition that its ETag has not changed."""

    __slots__ = ("_blobs", "_key", "_size", "_tag", "identity")
    holds_file = False

    def __init__(self, blobs: ObjectBlobs, key: str, meta: ObjectMeta) -> None:
        self._blobs, self._key, self._size, self._tag = blobs, key, meta["size"], meta["e_tag"]
        self.identity: Hashable = (self._tag, self._size, meta["last_modified"])

    def tail(self, count: int) -> bytes:
        count = min(count, self._size)
        return self._blobs.get_range(self._key, self._size - count, count, self._tag)

    def read_into(self, out: memoryview, after: memoryview, offset: int) -> int | None:
        length = len(out) + len(after)
        if offset + length > self._size:
            return None
        data = self._blobs.get_range(self._key, offset, length, self._tag)
        out[:], after[:] = data[: len(out)], data[len(out) :]
        return crc32c(out)


class ObjectBlobs:
    """See `pipeline.store.blobs.Blobs`."""

    threads = 16  # a read costs a round trip, not a core

    def __init__(self, url: str, store: Any) -> None:
        self.url, self._store = url, store

    @classmethod
    def open(cls, url: str) -> ObjectBlobs:
        if url.startswith("memory://"):
            return cls(url, _MEMORY.setdefault(url, MemoryStore()))
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        # a shard of 64 clips is one request of 60 MB, which takes a minute at 1 MB/s
        client: ClientConfig = {"timeout": "600s", "connect_timeout": "20s", "allow_http": plain}
        try:
            return cls(url.rstrip("/"), from_url(url, client_options=client))
        except (BaseError, ValueError) as error:
            raise ArtifactError(url, f"cannot be opened as a store ({_first_line(error)})") from error

    def put(self, key: str, data: bytes) -> None:
        with self._reaching(key):
            obstore.put(self._store, key, data, use_multipart=False)

    def get(self, key: str) -> bytes | None:
        with self._reaching(key):
            return _or_none(lambda: obstore.get(self._store, key).bytes().to_bytes())

    def get_range(self, key: str, start: int, length: int, tag: str | None) -> bytes:
        """A range of an object; ReplacedError where its ETag is no longer `tag` (None: the store has no ETags)."""
        if not length:
            return b""
        options: GetOptions = {"range": (start, start + length)}
        if tag is not None:
            options["if_match"] = tag
        with self._reaching(key):
            try:
                data = obstore.get(self._store, key, options=options).bytes().to_bytes()
            except (PreconditionError, FileNotFoundError):
                data = b""
        if len(data) != length:
            item, problem = f"{self.url}/{key}", "was replaced or deleted while it was read"
            raise ReplacedError(item, problem, remedy="run the same command again")
        return data

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self.get, keys))

    def parts(self, key: str) -> ObjectParts | None:
        with self._reaching(key):
            meta = _or_none(lambda: obstore.head(self._store, key))
        return None if meta is None else ObjectParts(self, key, meta)

    def checksum(self, key: str) -> tuple[int, int] | None:
        count = crc = 0
        with self._reaching(key):
            stream = _or_none(lambda: obstore.get(self._store, key).stream())
            if stream is None:
                return None
            for block in stream:
                count += len(block)
                crc = crc64(memoryview(block), crc)
        return count, crc

    def keys(self, prefix: str) -> list[str]:
        with self._reaching(prefix):
            return sorted(item["path"] for batch in obstore.list(self._store, prefix or None) for item in batch)

    def delete(self, key: str) -> None:
        with self._reaching(key):
            _or_none(lambda: obstore.delete(self._store, key))

    @contextmanager
    def sole_writer(self) -> Iterator[str]:
        lease = secrets.token_hex(8)
        self.put(WRITER, lease.encode())
        try:
            yield lease
        finally:  # stops workers that outlive this command, but not those of a command that took over
            with suppress(ArtifactError):
                if self.get(WRITER) == lease.encode():
                    self.put(WRITER, b"")

    def require_writer(self, lease: str) -> None:
        found = self.get(WRITER)
        if found and found != lease.encode():
            raise ArtifactError(self.url, "another command has begun to write here", remedy="wait until it has ended")
        if not found:
            raise ArtifactError(self.url, "is no longer locked by the command that began this work")

    def names(self) -> list[str]:
        with self._reaching(""):
            found = obstore.list_with_delimiter(self._store)
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted({path.strip("/").rsplit("/", 1)[-1] for path in paths} - {"log"})

    def describe_root(self) -> str:
        return "holds no zarr.json"

    def zarr_store(self, *, read_only: bool = False) -> Store:
        return ObjectStore(self._store, read_only=read_only)

    @contextmanager
    def _reaching(self, key: str) -> Iterator[None]:
        if os.getpid() != _process_of_obstore():
            raise ConfigError(
                self.url,
                "cannot be used in a process forked from one that has used an object store",
                remedy='start processes with "spawn" (for a DataLoader: multiprocessing_context="spawn")',
            )
        try:
            yield
        except (BaseError, OSError) as error:
            raise ArtifactError(
                f"{self.url}/{key}",
                f"cannot be reached ({_first_line(error)})",
                remedy="check the bucket, the endpoint and the credentials",
            ) from error


@functools.cache
def _process_of_obstore() -> int:
    """The process that used obstore first and so has its threads; a fork inherits the cached id."""
    return os.getpid()


def _or_none(request: Callable[[], T]) -> T | None:
    try:
        return request()
    except FileNotFoundError:
        return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]

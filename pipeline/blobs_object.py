"""Blobs below a prefix of an object store, or in this process's memory, through obstore.

In: keys and bytes. Out: objects, each by one PUT, so whole or absent. Credentials and endpoint come from the
environment under AWS's own names (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, ...).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import MemoryStore, from_url
from zarr.abc.store import Store
from zarr.storage import ObjectStore

from pipeline.checksum import crc32c, crc64
from pipeline.errors import ArtifactError

if TYPE_CHECKING:
    from obstore.store import ClientConfig  # a type only: the module itself has it not

WRITER = "log/writer"  # the word of the coordinator that began last

T = TypeVar("T")

_MEMORY: dict[str, MemoryStore] = {}  # "memory://name" is one place for the life of the process


class ObjectParts:
    """One object, read by ranges."""

    def __init__(self, blobs: ObjectBlobs, key: str, size: int) -> None:
        self._blobs, self._key, self._size = blobs, key, size

    def tail(self, count: int) -> bytes:
        count = min(count, self._size)
        return self._blobs.get_range(self._key, self._size - count, count)

    def read_into(self, out: memoryview, after: memoryview, offset: int) -> int | None:
        length = len(out) + len(after)
        if offset + length > self._size:
            return None
        data = self._blobs.get_range(self._key, offset, length)
        out[:], after[:] = data[: len(out)], data[len(out) :]
        return crc32c(out)


class ObjectBlobs:
    """See `pipeline.blobs.Blobs`."""

    threads = 16  # a read costs a round trip, not a core

    def __init__(self, url: str, store: Any) -> None:
        self.url, self._store = url, store

    @classmethod
    def open(cls, url: str) -> ObjectBlobs:
        if url.startswith("memory://"):
            return cls(url, _MEMORY.setdefault(url, MemoryStore()))
        try:
            return cls(url.rstrip("/"), from_url(url, client_options=_client()))
        except (BaseError, ValueError) as error:
            raise ArtifactError(url, f"names no store that can be opened ({_first_line(error)})") from error

    def put(self, key: str, data: bytes) -> None:
        with self._reaching(key):
            obstore.put(self._store, key, data, use_multipart=False)

    def get(self, key: str) -> bytes | None:
        with self._reaching(key):
            return _or_none(lambda: obstore.get(self._store, key).bytes().to_bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of an object that is there."""
        with self._reaching(key):
            return obstore.get_range(self._store, key, start=start, length=length).to_bytes() if length else b""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self.get, keys))

    def parts(self, key: str) -> ObjectParts | None:
        with self._reaching(key):
            there = _or_none(lambda: obstore.head(self._store, key))
        return None if there is None else ObjectParts(self, key, there["size"])

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
        word = secrets.token_hex(8)
        self.put(WRITER, word.encode())
        yield word

    def require_writer(self, word: str) -> None:
        if self.get(WRITER) != word.encode():
            raise ArtifactError(self.url, "another command has begun to write here", remedy="let that one finish")

    def is_empty(self) -> bool:
        with self._reaching(""):
            first = next(iter(obstore.list(self._store)), [])
        return all(item["path"].startswith("log/") for item in first)

    def what_is_there(self) -> str:
        return "holds no zarr.json"

    def zarr_store(self, *, read_only: bool = False) -> Store:
        return ObjectStore(self._store, read_only=read_only)

    @contextmanager
    def _reaching(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            raise ArtifactError(
                f"{self.url}/{key}",
                f"cannot be reached ({_first_line(error)})",
                remedy="check the bucket, the endpoint and the credentials",
            ) from error


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except FileNotFoundError:
        return None


def _client() -> ClientConfig:
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    # a shard of 64 clips is 60 MB and one request: on a line of 1 MB/s that takes a minute
    return {"timeout": "600s", "connect_timeout": "20s", "allow_http": plain}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]

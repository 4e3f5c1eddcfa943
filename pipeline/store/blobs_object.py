"""Blobs below a prefix of an object store, or in this process's memory, through obstore.

In: keys and bytes. Out: objects, each by one PUT, so whole or absent. Credentials and endpoint come from AWS's
environment variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, ...). A server that does
not answer is asked again for some minutes, as long as a restart takes; what waiting cannot cure is told at once. Forked
processes are refused: obstore uses threads, which do not survive a fork.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import MemoryStore, from_url
from zarr.abc.store import Store
from zarr.storage import ObjectStore

from pipeline.artifacts.checksum import crc32c, crc64
from pipeline.errors import ArtifactError, ConfigError
from pipeline.store.blobs_local import LARGEST_BLOB

if TYPE_CHECKING:  # defined in the type stubs only
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

WRITER = "log/writer"  # holds the lease of the newest coordinator
PATIENCE = 300.0  # seconds
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0  # seconds between two attempts

# What waiting does not cure, by words of the answers of S3 and its kin: the problem, and the remedy.
LASTING = (
    (("NoSuchBucket",), "the bucket does not exist", "correct its name, or make it first"),
    # asked of the machine's own service, where the environment has none
    (("/latest/api/token", "/latest/meta-data", "169.254.170.2", "InvalidAccessKeyId", "SignatureDoesNotMatch",
      "InvalidToken", "ExpiredToken"),
     "there are no credentials for it, or they are wrong",
     "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if you use one)"),
    (("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraint", "redirect without LOCATION",
      "301 Moved"),
     "the bucket is in another region", "set AWS_REGION to the bucket's region"),
)  # fmt: skip
_log = logging.getLogger(__name__)

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

    def __init__(self, url: str, store: Any, *, patience: float = PATIENCE) -> None:
        self.url, self._store, self.patience = url, store, patience
        self._waiting = False  # told already

    @classmethod
    def open(cls, url: str, *, patience: float = PATIENCE) -> ObjectBlobs:
        if url.startswith("memory://"):
            return cls(url, _MEMORY.setdefault(url, MemoryStore()))
        once: RetryConfig = {"max_retries": 0}  # `_reaching` asks again: it can be interrupted, and knows what lasts
        try:
            return cls(url.rstrip("/"), from_url(url, client_options=_client(), retry_config=once), patience=patience)
        except (BaseError, ValueError) as error:
            raise ArtifactError(url, f"cannot be opened as a store ({_first_line(error)})") from error

    def put(self, key: str, data: bytes) -> None:
        self._reaching(key, lambda: obstore.put(self._store, key, data, use_multipart=False))

    def get(self, key: str, *, most: int = LARGEST_BLOB) -> bytes | None:
        def request() -> bytes:
            found = obstore.get(self._store, key)
            if found.meta["size"] > most:
                size = f"{found.meta['size']} bytes"
                raise ArtifactError(f"{self.url}/{key}", "is too large", got=size, expected=f"at most {most}")
            return found.bytes().to_bytes()

        return self._reaching(key, lambda: _or_none(request))

    def get_range(self, key: str, start: int, length: int, tag: str | None) -> bytes:
        """A range of an object; ReplacedError where its ETag is no longer `tag` (None: the store has no ETags)."""
        if not length:
            return b""
        options: GetOptions = {"range": (start, start + length)}
        if tag is not None:
            options["if_match"] = tag

        def request() -> bytes:
            try:
                return obstore.get(self._store, key, options=options).bytes().to_bytes()
            except PreconditionError:
                return b""

        data = self._reaching(key, lambda: _or_none(request))
        if data is None or len(data) != length:
            item, problem = f"{self.url}/{key}", "was replaced or deleted while it was read"
            raise ReplacedError(item, problem, remedy="run the same command again")
        return data

    def get_many(self, keys: Sequence[str], *, most: int = LARGEST_BLOB) -> list[bytes | None]:
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda key: self.get(key, most=most), keys))

    def parts(self, key: str) -> ObjectParts | None:
        meta = self._reaching(key, lambda: _or_none(lambda: obstore.head(self._store, key)))
        return None if meta is None else ObjectParts(self, key, meta)

    def checksum(self, key: str, size: int) -> int | None:
        def request() -> int | None:
            crc, found = 0, obstore.get(self._store, key)
            if found.meta["size"] != size:
                return None
            for block in found.stream():
                crc = crc64(memoryview(block), crc)
            return crc

        return self._reaching(key, lambda: _or_none(request))

    def keys(self, prefix: str) -> list[str]:
        def request() -> list[str]:
            return sorted(item["path"] for batch in obstore.list(self._store, prefix or None) for item in batch)

        return self._reaching(prefix, request)

    def delete(self, key: str) -> None:
        self._reaching(key, lambda: _or_none(lambda: obstore.delete(self._store, key)))

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
        found = self._reaching("", lambda: obstore.list_with_delimiter(self._store))
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted({path.strip("/").rsplit("/", 1)[-1] for path in paths} - {"log"})

    def describe_root(self) -> str:
        return "holds no zarr.json"

    def zarr_store(self, *, read_only: bool = False) -> Store:
        if isinstance(self._store, MemoryStore):
            return ObjectStore(self._store, read_only=read_only)
        return ObjectStore(from_url(self.url, client_options=_client()), read_only=read_only)  # with its own attempts

    def _reaching(self, key: str, request: Callable[[], T]) -> T:
        """The result of a request, made again until `patience` has passed; every request of ours may be repeated."""
        if os.getpid() != _process_of_obstore():
            raise ConfigError(
                self.url,
                "cannot be used in a process forked from one that has used an object store",
                remedy='start processes with "spawn" (for a DataLoader: multiprocessing_context="spawn")',
            )
        end, wait = time.monotonic() + self.patience, FIRST_WAIT
        while True:
            try:
                found = request()
            except (BaseError, OSError) as error:
                self._wait(error, f"{self.url}/{key}", wait, end - time.monotonic())
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                self._waiting = False
                return found

    def _wait(self, error: Exception, item: str, wait: float, left: float) -> None:
        """Sleep a little; ArtifactError where that does not help, or no time is left."""
        text = str(error)
        for signs, problem, remedy in LASTING:
            if any(sign in text for sign in signs):
                raise ArtifactError(item, f"{problem} ({_first_line(error)})", remedy=remedy) from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            remedy = "use credentials that may read and write there"
            raise ArtifactError(item, f"may not be reached ({_first_line(error)})", remedy=remedy) from error
        if left <= 0:
            remedy = "check the bucket, the endpoint and the credentials"
            raise ArtifactError(item, f"cannot be reached ({_first_line(error)})", remedy=remedy) from error
        if not self._waiting:
            self._waiting = True
            _log.warning("%s cannot be reached (%s); waiting for it up to %.0f s", item, _first_line(error), left)
        time.sleep(min(left, wait * random.uniform(0.5, 1.0)))  # so that many workers do not ask at once


@functools.cache
def _process_of_obstore() -> int:
    """The process that used obstore first and so has its threads; a fork inherits the cached id."""
    return os.getpid()


def _client() -> ClientConfig:
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    # a shard of 64 clips is one request of 60 MB, which takes a minute at 1 MB/s
    return {"timeout": "600s", "connect_timeout": "20s", "allow_http": plain}


def _or_none(request: Callable[[], T]) -> T | None:
    try:
        return request()
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise
        return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]

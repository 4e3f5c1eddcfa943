"""Bytes under keys: a local folder, an S3 bucket, or this process's memory, behind one protocol.

In: a URL or path. Out: Blobs: put, get, parts of a blob, keys, delete, and a zarr store over the same root. A put is
whole or absent. Zarr's formats are not known here; the implementations are `blobs_local` and `blobs_object`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from zarr.abc.store import Store

from pipeline.store.blobs_local import LARGEST_BLOB, LocalBlobs
from pipeline.store.blobs_object import PATIENCE, ObjectBlobs


class Parts(Protocol):
    """One blob, open for reading parts of it, never of a blob that has replaced it since.

    Reading raises ReplacedError where that blob is gone, since an object store cannot hold it open.
    """

    @property
    def identity(self) -> Hashable:
        """Equal for two openings of a key only if the bytes are the same."""

    @property
    def holds_file(self) -> bool:
        """Whether it counts towards the limit of open files."""

    def tail(self, count: int) -> bytes:
        """The last `count` bytes, or all if there are fewer."""

    def read_into(self, out: memoryview, after: memoryview, offset: int) -> int | None:
        """Fill `out`, then `after`, from `offset` on; the CRC-32C of `out`, or None where the blob is too short."""


class Blobs(Protocol):
    """Bytes under "/"-separated keys below one root: no key leads out of it, and no link in it is followed out of it.

    All methods raise ArtifactError where the root cannot be reached, read or written, and ConfigError in a forked
    process where an object store cannot be used from one.
    """

    url: str  # the root
    threads: int  # the useful number of concurrent reads

    def put(self, key: str, data: bytes) -> None:
        """Write, whole or not at all."""

    def get(self, key: str, *, most: int = LARGEST_BLOB) -> bytes | None:
        """The bytes, or None if the key does not exist. ArtifactError where there are more than `most`."""

    def get_many(self, keys: Sequence[str], *, most: int = LARGEST_BLOB) -> list[bytes | None]:
        """`get` of each."""

    def parts(self, key: str) -> Parts | None:
        """A blob open for reading parts, or None if it does not exist."""

    def checksum(self, key: str, size: int) -> int | None:
        """The CRC-64, read block by block; None, without reading, if the key does not exist or has another size."""

    def keys(self, prefix: str) -> list[str]:
        """All keys below the folder `prefix` ("": the root), sorted."""

    def delete(self, key: str) -> None:
        """Delete, if it exists."""

    def sole_writer(self) -> AbstractContextManager[str]:
        """Be the only coordinator that writes here until the end of the block; yields the lease for its workers.

        Temporary files of killed coordinators are deleted. A folder is locked against a second coordinator; object
        stores have no locks: there the newer one takes over.
        """

    def require_writer(self, lease: str) -> None:
        """Called by a worker before it writes: raises ArtifactError where its coordinator has lost the lease."""

    def names(self) -> list[str]:
        """Names at the root, sorted: files and non-empty folders, without those of `sole_writer` and without `log`."""

    def describe_root(self) -> str:
        """What the root holds if it is not a token store, as the middle of a sentence."""

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """The same root as a zarr store."""


def open_blobs(url: str | Path, *, patience: float = PATIENCE) -> Blobs:
    """`/a/path`, `file:///a/path`, `s3://bucket/prefix`, or `memory://name`.

    Args:
        patience: seconds for which an object store that does not answer is asked again.

    Raises:
        ArtifactError: a local path that cannot be a folder, or a URL of no known store.
    """
    text = str(url)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if "://" in text:
        return ObjectBlobs.open(text, patience=patience)
    return LocalBlobs.open(Path(text))

"""Bytes under keys: a local folder, an S3 bucket, or this process's memory, behind the same few verbs.

In: a URL or path. Out: Blobs: put, get, parts of a blob, keys, delete, and the zarr store over the same place. A put
is whole or absent. Knows nothing of zarr's formats; where the bytes lie is `blobs_local` and `blobs_object`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from zarr.abc.store import Store

from pipeline.store.blobs_local import LocalBlobs
from pipeline.store.blobs_object import ObjectBlobs, ReplacedError

__all__ = ["Blobs", "Parts", "ReplacedError", "open_blobs"]


class Parts(Protocol):
    """One blob, open for reading parts of it: of the one that was opened, never of what is put in its place.

    Where that one is gone, as object stores have no way to hold it, reading raises ReplacedError.
    """

    @property
    def identity(self) -> Hashable:
        """Equal for two openings of a key only where both are of the same bytes."""

    @property
    def holds_file(self) -> bool:
        """It is one of the files that a process may have open."""

    def tail(self, count: int) -> bytes:
        """The last `count` bytes, or all where there are fewer."""

    def read_into(self, out: memoryview, after: memoryview, offset: int) -> int | None:
        """Fill `out`, then `after`, from `offset` on; returns the CRC-32C of `out`, or None where the blob ends."""


class Blobs(Protocol):
    """Bytes under "/"-separated keys below one root.

    All but `url` and `threads` raise ArtifactError where the place cannot be reached, read or written, and ConfigError
    in a forked process where the place cannot be used from one.

    Attributes:
        url: the root. threads: how many reads at a time pay.
    """

    url: str
    threads: int

    def put(self, key: str, data: bytes) -> None:
        """Write, whole or not at all."""

    def get(self, key: str) -> bytes | None:
        """The bytes, or None where there are none."""

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """`get` of each."""

    def parts(self, key: str) -> Parts | None:
        """Open for reading parts, or None where there is nothing."""

    def checksum(self, key: str) -> tuple[int, int] | None:
        """How many bytes there are, and the CRC-64 of them all, read block by block; None where there is nothing."""

    def keys(self, prefix: str) -> list[str]:
        """All keys below the folder `prefix` ("": all there are), sorted."""

    def delete(self, key: str) -> None:
        """Remove, where it is there."""

    def sole_writer(self) -> AbstractContextManager[str]:
        """Be the one coordinator that writes here, and sweep what killed ones left; yields its lease for its workers,
        which holds until the end of the block.

        A folder is locked against a second one. Object stores know no locks: there the newer takes over.
        """

    def require_writer(self, lease: str) -> None:
        """Called by a worker before it writes: raises ArtifactError where its coordinator is no longer the one."""

    def names(self) -> list[str]:
        """What lies at the root, sorted: files, and folders that hold some; not what `sole_writer` puts, nor `log`."""

    def what_is_there(self) -> str:
        """What lies at the root that is no token store, as the middle of a sentence."""

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """The same place for zarr."""


def open_blobs(url: str | Path) -> Blobs:
    """`/a/path`, `file:///a/path`, `s3://bucket/prefix`, or `memory://name`.

    Raises:
        ArtifactError: a local path whose place cannot hold a folder, or a URL that names no store.
    """
    text = str(url)
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    if "://" in text:
        return ObjectBlobs.open(text)
    return LocalBlobs.open(Path(text))

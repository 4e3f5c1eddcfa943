"""Blobs in a folder of this machine, or of a file system that all workers share.

In: keys and bytes. Out: files, by `pipeline.artifacts.files`: temporary name, fsync, rename. Reads go straight into the
caller's buffers and compute the checksum on the way. Files are opened by `pipeline.artifacts.boundary` alone.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zarr.abc.store import Store
from zarr.storage import LocalStore

from pipeline.artifacts.boundary import confined, open_regular, read_file, refuse_links
from pipeline.artifacts.checksum import crc32c, crc64
from pipeline.artifacts.files import sweep_temporaries, unwritable, write_atomic
from pipeline.artifacts.kinds import describe
from pipeline.artifacts.lock import require_writer, sole_writer
from pipeline.errors import ArtifactError

# Bytes are read and checksummed in pieces that stay in a core's second-level cache between the two.
PIECE = 256 * 1024
LARGEST_BLOB = 1 << 34  # bytes read at once where the size is not known better
_OF_THREAD = threading.local()


class LocalFile:
    """An open file; closed when the last reference to it is dropped."""

    __slots__ = ("_fd", "identity", "path")
    holds_file = True

    def __init__(self, path: str, root: str) -> None:
        self._fd, self.path = -1, path
        self._fd = open_regular(path, root=root)
        stat = os.fstat(self._fd)
        # with the time, since the inode number of a replaced file may be reused
        self.identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def tail(self, count: int) -> bytes:
        with _reading(self.path):
            return os.pread(self._fd, count, max(0, self.identity[2] - count))

    def read_into(self, out: memoryview, after: memoryview, offset: int) -> int | None:
        crc, last = 0, (len(out) - 1) // PIECE * PIECE
        try:  # not `_reading`: this runs for every clip of every batch
            for start in range(0, last, PIECE):
                piece = out[start : start + PIECE]
                if os.preadv(self._fd, [piece], offset + start) != PIECE:
                    return None
                crc = crc32c(piece, crc)
            piece = out[last:]
            if os.preadv(self._fd, [piece, after], offset + last) != len(piece) + len(after):
                return None
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return crc32c(piece, crc)

    def checksum(self, size: int) -> int | None:
        if self.identity[2] != size:
            return None
        buffer = _buffer()
        position = crc = 0
        with _reading(self.path):
            while count := os.preadv(self._fd, [buffer], position):
                crc = crc64(buffer[:count], crc)
                position += count
        return crc if position == size else None


def _buffer() -> memoryview:
    """This thread's buffer: a new one for each file would cost a tenth of the time of reading it."""
    if not hasattr(_OF_THREAD, "buffer"):
        _OF_THREAD.buffer = memoryview(bytearray(PIECE))
    return _OF_THREAD.buffer  # type: ignore[no-any-return]


class LocalBlobs:
    """See `pipeline.store.blobs.Blobs`; `root` is the folder."""

    threads = min(4, os.cpu_count() or 1)

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, str(root)
        self._real = os.path.realpath(root)

    @classmethod
    def open(cls, path: Path) -> LocalBlobs:
        try:
            if path.exists() and not path.is_dir():
                raise ArtifactError(path, "is a file, not a folder", remedy="name a folder")
        except OSError as error:
            raise unwritable(path, error) from error
        return cls(path.absolute())

    def put(self, key: str, data: bytes) -> None:
        write_atomic(confined(self.root, key), data, root=self.root)

    def get(self, key: str, *, most: int = LARGEST_BLOB) -> bytes | None:
        path = confined(self.root, key)
        with _reading(path):
            try:
                return read_file(path, root=self.root, most=most)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def get_many(self, keys: Sequence[str], *, most: int = LARGEST_BLOB) -> list[bytes | None]:
        return [self.get(key, most=most) for key in keys]

    def parts(self, key: str) -> LocalFile | None:
        path = f"{self.url}/{key}"  # no Path, and not `_reading`: a store of many shards opens one for each clip
        try:
            return LocalFile(path, self._real)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from error

    def checksum(self, key: str, size: int) -> int | None:
        file = self.parts(key)
        return None if file is None else file.checksum(size)

    def keys(self, prefix: str) -> list[str]:
        found = (p for p in (self.root / prefix).rglob("*") if p.is_file() and not p.name.startswith("."))
        return sorted(p.relative_to(self.root).as_posix() for p in found)

    def delete(self, key: str) -> None:
        path = confined(self.root, key)
        refuse_links(self.root, path.parent)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise unwritable(path, error) from error

    @contextmanager
    def sole_writer(self) -> Iterator[str]:
        with sole_writer(self.root) as lease:
            sweep_temporaries(self.root)
            yield lease

    def require_writer(self, lease: str) -> None:
        require_writer(self.root, lease)

    def names(self) -> list[str]:
        with _reading(self.root):
            found = os.listdir(self.root) if self.root.is_dir() else []
            return sorted(name for name in found if not name.startswith(".") and name != "log" and self._holds(name))

    def _holds(self, name: str) -> bool:
        """Whether it is a file, or a folder with one at any depth: a process killed at its first put leaves none."""
        path = self.root / name
        return not path.is_dir() or any(not p.name.startswith(".") and not p.is_dir() for p in path.rglob("*"))

    def describe_root(self) -> str:
        return describe(self.root, wanted="store")

    def zarr_store(self, *, read_only: bool = False) -> Store:
        return LocalStore(self.root, read_only=read_only)


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: OSError) -> ArtifactError:
    remedy = "allow more open files (ulimit -n)" if error.errno == errno.EMFILE else "check the disk"
    return ArtifactError(path, f"cannot be read ({error.strerror or error})", remedy=remedy)

"""A lock that gives a folder one coordinator at a time, and a lease that its workers check.

In: a folder. Out: a lock that ends with its process, and a lease, a random text that the coordinator gives its workers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.artifacts.boundary import open_to_append, read_file
from pipeline.artifacts.files import make_folder, unwritable
from pipeline.errors import ArtifactError

LOCK = ".lock"
LONGEST_LEASE = 64  # bytes


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[str]:
    """Lock `folder` for one coordinator; yields the lease for `require_writer`.

    The lock ends with the process, however that ends.

    Raises:
        ArtifactError: another process holds it, or it cannot be made: a link in its place, say.
    """
    try:
        make_folder(folder)
        # unbuffered: a buffered write that a full disk refused would fail again when the file is closed
        lock = os.fdopen(open_to_append(folder, LOCK), "ab", buffering=0)
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                folder, "another process is writing here", remedy="wait for it or choose another `out`"
            ) from None
        except OSError:  # a file system without locks: commits are still atomic
            pass
        lease = secrets.token_hex(8)
        try:
            _write_lease(lock, lease)
        except OSError as error:
            raise unwritable(folder, error) from error
        try:
            yield lease
        finally:
            with contextlib.suppress(OSError):
                _write_lease(lock, "")


def _write_lease(lock: IO[bytes], lease: str) -> None:
    lock.truncate(0)
    lock.write(lease.encode())


def require_writer(folder: Path, lease: str) -> None:
    """Called by a worker before it writes: a worker of a cluster can outlive its coordinator.

    Raises:
        ArtifactError: its coordinator has ended or another holds the folder, or the folder cannot be read from here.
    """
    try:
        found = read_file(folder / LOCK, root=folder, most=LONGEST_LEASE)
    except OSError as error:
        raise ArtifactError(
            folder,
            f"cannot be read on {socket.gethostname()} ({error.strerror})",
            remedy="use workers that see the same files under the same paths",
        ) from error
    if found != lease.encode():
        raise ArtifactError(folder, "is no longer locked by the command that began this work")

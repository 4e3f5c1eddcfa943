"""One coordinator at a time in a folder, and workers that can tell whether theirs still is the one.

In: a folder. Out: a lock that ends with its process, and the word that the coordinator hands to its workers.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.artifacts.files import make_folder, unwritable
from pipeline.errors import ArtifactError

LOCK = ".lock"


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[str]:
    """Hold `folder` for one coordinator; yields the word by which its workers can tell that it still does.

    The lock goes with the process, however it ends.

    Raises:
        ArtifactError: another process holds it, or it cannot be made.
    """
    try:
        make_folder(folder)
        # unbuffered: what a full disk refused would be tried again, and fail again, when the file is closed
        lock = open(folder / LOCK, "ab", buffering=0)  # noqa: SIM115 (held for the whole block, closed below)
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                folder, "another process is writing here", remedy="wait for it or choose another `out`"
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

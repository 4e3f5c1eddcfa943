"""Regular files only: a pipe, a device or a socket is refused before anything opens it.

In: a path, which may be a link to a file. Out: the file, open. Opening a pipe can wait for ever, and reading a device
never ends; no stage has a use for either.
"""

from __future__ import annotations

import os
import stat
from os import PathLike
from typing import BinaryIO

from pipeline.errors import DataError, DecodeError


def require_regular(path: str | PathLike[str], *, kind: type[DataError] = DecodeError) -> os.stat_result:
    """The status of a regular file. Raises an error of `kind`: there is none, or it is something else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise kind(path, problem, remedy="check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise kind(path, "is not a regular file", got=_what(status.st_mode), remedy="check the path")
    return status


def open_regular(path: str | PathLike[str], *, kind: type[DataError] = DecodeError) -> BinaryIO:
    """A regular file, open for reading in binary. Raises an error of `kind`: it is none, or cannot be opened."""
    require_regular(path, kind=kind)
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise kind(path, f"cannot be read ({error.strerror})", remedy="check the path") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # exchanged in the meantime
        file.close()
        raise kind(path, "is not a regular file", remedy="check the path")
    return file


def _what(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")

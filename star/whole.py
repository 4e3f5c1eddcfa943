"""Writes to a file past Python's buffers.

In: a file opened with buffering=0, bytes. Out: all of them handed to the system, or an OSError at this very line: a
buffer would keep what a full disk refused and try it once more, and fail once more, when the file is closed.
"""

from __future__ import annotations

from io import FileIO


def write_whole(file: FileIO, data: bytes) -> None:
    """All of `data`; a system that takes only a part of it is given the rest.

    Raises:
        OSError: it takes nothing more.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]

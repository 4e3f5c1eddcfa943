"""A walk through a user's folder: every file below it, in an order that depends on names alone.

In: a folder. Out: paths below it, with forward slashes. No file is opened and no size or date is read, so that a
hundred thousand files take a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError


def require_folder(path: str | Path, *, what: str) -> None:
    """Raises DataError, with `what` was expected, unless the path is a folder."""
    if not Path(path).is_dir():
        home = str(path).startswith("~")
        remedy = "write out what ~ stands for: the shell has not" if home else "check the path"
        raise DataError(path, "is not a folder", expected=f"a folder of {what}", remedy=remedy)


def files_below(root: str | Path) -> Iterator[str]:
    """Every file below a folder, relative to it, through links to folders too (each real folder once).

    Names that begin with a dot are skipped: they belong to the system.

    Raises DataError: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [("", os.fspath(root))]
    while waiting:
        prefix, folder = waiting.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries(folder):
            if entry.is_dir():
                waiting.append((f"{prefix}{entry.name}/", entry.path))
            else:
                yield f"{prefix}{entry.name}"


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """The files and folders in a folder, sorted by name, except dot files. Raises DataError: it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(folder, "cannot be read", got=error.strerror, remedy="check its permissions") from error

"""Atomic writing of files, which are either whole or absent, and checks of the free disk space.

In: bytes. Out: files, by temporary name, fsync, rename, fsync of the folder; or an error that names what the system
refused. A link in the file's place is replaced, never followed. It does not know what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from io import FileIO
from pathlib import Path

from pipeline.artifacts.boundary import open_to_append, refuse_links
from pipeline.errors import ArtifactError

TEMPORARY = ".part-"  # part of a hidden file's name, which no reader looks for


def write_atomic(path: Path, data: bytes | memoryview, *, root: Path | None = None) -> None:
    """Write `data` to `path`, whole and synced to the disk, or leave the old file.

    Args:
        root: the artifact that the path lies in; no folder between the two may be a link.

    Raises:
        ArtifactError: the disk is full, the folder cannot be written, or is a link.
    """
    if root is not None:
        refuse_links(root, path.parent)
    temporary = path.with_name(f".{path.name}{TEMPORARY}{secrets.token_hex(6)}")
    try:
        make_folder(path.parent)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, and sync them: otherwise a power cut could lose files whose commit record,
    in an older folder, survives."""
    if folder.is_dir():
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        with contextlib.suppress(PermissionError):  # one may be allowed to make folders in it, but not to list it
            _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path | str, error: OSError) -> ArtifactError:
    """The error for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            path,
            "the disk is full",
            remedy="free some space and run the same command again: finished shards, or the last checkpoint, are kept",
        )
    return ArtifactError(
        path, f"cannot be written ({error.strerror or error})", remedy="choose a folder that you may write to"
    )


def append_line(root: Path, name: str, line: bytes) -> None:
    """Append a line to the log `name` below `root`, whose folder is made where it is missing.

    Raises:
        ArtifactError: the disk is full or cannot be written, or a link or something else lies in its place.
    """
    path = root / name
    try:
        refuse_links(root, path.parent)
        make_folder(path.parent)
        with open(open_to_append(root, name), "ab", buffering=0) as file:
            write_unbuffered(file, line + b"\n")
    except OSError as error:
        raise unwritable(path, error) from error


def sweep_temporaries(folder: Path) -> int:
    """Remove the temporary files of killed writers, at any depth (links are not entered); returns their number."""
    found = [path for path in folder.rglob(f".*{TEMPORARY}*") if path.is_symlink() or not path.is_dir()]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def bytes_free(out: Path) -> int:
    """Free bytes on the disk of `out`, which need not exist yet."""
    path = out.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def require_disk_space(out: Path, needed: int) -> None:
    """Raises ArtifactError where fewer than `needed` bytes are free for `out`."""
    free = bytes_free(out)
    if free < needed:
        raise ArtifactError(
            out,
            "the disk is too small",
            got=f"{free / 1e6:,.1f} MB free",
            expected=f"at least {needed / 1e6:,.1f} MB",
            remedy="free some space, or choose an `out` on another disk",
        )


def write_unbuffered(file: FileIO, data: bytes) -> None:
    """Write all of `data`, in several calls where the system takes only a part. Raises OSError: it takes no more."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]

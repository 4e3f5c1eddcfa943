"""Files that are either whole or absent, and whether there is room for them.

In: bytes. Out: files, by temporary name, fsync, rename, fsync of the folder; or one sentence for what the system
refused. For both data stages and for checkpoints. No knowledge of what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from io import FileIO
from pathlib import Path

from pipeline.errors import ArtifactError

TEMPORARY = ".part-"  # a dot file's suffix, then a random word: never a name that a reader looks for


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path`, whole and on the disk, or leave what was there.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
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
    """Make a folder and what is missing above it, all to outlast a power cut: else a record in a folder that was there
    before would, and the files that it names would not."""
    if folder.is_dir():
        return
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        with contextlib.suppress(PermissionError):  # of the folder that was there: one may make folders in it, not list
            _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    """Make what was named in `folder` outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path | str, error: OSError) -> ArtifactError:
    """The sentence for a write that the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            path,
            "the disk is full",
            remedy="free some space and run the same command again: finished shards, or the last checkpoint, are kept",
        )
    return ArtifactError(
        path, f"cannot be written ({error.strerror or error})", remedy="choose a folder that you may write to"
    )


def sweep_temporaries(folder: Path) -> int:
    """Remove what killed writers left behind, at any depth; returns how many files that were."""
    swept = 0
    for path in folder.rglob(f".*{TEMPORARY}*"):
        path.unlink(missing_ok=True)
        swept += 1
    return swept


def bytes_free(out: Path) -> int:
    """Bytes free where `out` lies or will lie."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


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
    """All of `data`; a system that takes only a part of it is given the rest.

    Raises:
        OSError: it takes nothing more.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]

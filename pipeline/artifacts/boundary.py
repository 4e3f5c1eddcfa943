"""The trust boundary of files: whatever lies in an artifact may come from a stranger.

In: the artifact's root, and a path below it. Out: open files, bytes, or one sentence. Files that are read are regular
files inside the root; where we write, no link is followed below it. The root itself may be a link: the user named it.
What the bytes mean is checked by `pipeline.artifacts.schema`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

from pipeline.errors import ArtifactError

LARGEST_JSON = 1 << 28  # bytes; records and metadata of the largest data sets take a few megabytes
_NO_FOLLOW = {errno.ELOOP, errno.EMLINK}  # what O_NOFOLLOW raises, by system
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # else opening a pipe waits for its writer
COPY = "replace it by a copy of its file (`cp -rL` copies a whole folder so)"


class BoundaryError(ArtifactError):
    """A file, link or path of an artifact that is not opened."""


def confined(root: Path | str, relative: str) -> Path:
    """`root / relative`, for a path that a record or a listing names.

    It must stay below `root` by its own text: a link that lies there is the user's, and may lead to another disk.

    Raises:
        BoundaryError: it is empty, absolute, holds "." or "..", or a NUL.
    """
    path = PurePosixPath(relative)
    same = str(path) == relative and relative not in ("", ".")
    if not same or path.is_absolute() or ".." in path.parts or "\0" in relative:
        remedy = "name a file inside that folder; links in it may lead elsewhere"
        raise BoundaryError(repr(relative), "leads out of its folder", expected="a path below it", remedy=remedy)
    return Path(root) / path


def open_regular(path: Path | str, *, root: str | None = None) -> int:
    """A descriptor of a regular file, open for reading; the caller closes it.

    Args:
        root: the real path of a folder that the file must lie in, once all links are followed; None: anywhere, for a
            file that the user named.

    Raises:
        OSError: it does not exist or cannot be read. ArtifactError: a pipe, a device or a folder, or outside the root.
    """
    fd = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BoundaryError(path, "is no regular file", remedy="restore it from a copy")
        if root is not None and not _inside(fd, str(path), root):
            raise BoundaryError(path, "is a link that leads out of its folder", remedy=COPY)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _inside(fd: int, path: str, root: str) -> bool:
    """Whether an open file lies below `root`: asked of the system, which costs a tenth of resolving the path."""
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # no /proc
        real = os.path.realpath(path)
    if real.startswith(root.rstrip("/") + "/"):
        return True
    # the file was replaced since it was opened, or the root was renamed or is mounted twice
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def read_file(path: Path | str, *, root: Path | None = None, most: int = LARGEST_JSON) -> bytes:
    """All bytes of a regular file of at most `most` bytes.

    Raises: as `open_regular`. BoundaryError: it is larger, or larger than the memory.
    """
    fd = open_regular(path, root=None if root is None else os.path.realpath(root))
    with open(fd, "rb", buffering=0) as file:
        size = os.fstat(fd).st_size
        if size > most:
            remedy = "restore it from a copy"
            raise BoundaryError(path, "is too large", got=f"{size} bytes", expected=f"at most {most}", remedy=remedy)
        try:
            return file.readall()
        except MemoryError:
            raise BoundaryError(path, "is larger than the free memory", got=f"{size} bytes") from None


def refuse_links(root: Path, path: Path) -> None:
    """Raise BoundaryError where a folder between `root` and `path`, or `path` itself, is a link."""
    between = [*reversed(path.relative_to(root).parents), path.relative_to(root)][1:]
    for part in between:
        if (root / part).is_symlink():
            problem = "is a link, and nothing is written through links"
            raise BoundaryError(root / part, problem, remedy="replace it by a folder or file of its own, or delete it")


def open_to_append(root: Path, name: str) -> int:
    """A descriptor of the file `name` below `root`, open for appending, made where it is missing.

    Raises:
        OSError: it cannot be written. BoundaryError: it, or a folder on the way, is a link; it is no regular file; or
            it has a second name elsewhere (a hard link), under which the bytes would appear too.
    """
    path = confined(root, name)
    refuse_links(root, path.parent)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in _NO_FOLLOW:
            raise _not_ours(path, "is a link") from None
        if error.errno == errno.ENXIO:  # a pipe without a reader
            raise _not_ours(path, "is no regular file") from None
        raise
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(fd)
        raise _not_ours(path, "is another file as well" if stat.S_ISREG(found.st_mode) else "is no regular file")
    return fd


def _not_ours(path: Path, what: str) -> BoundaryError:
    return BoundaryError(path, f"{what}, and is not written to", remedy="delete it and run the same command again")

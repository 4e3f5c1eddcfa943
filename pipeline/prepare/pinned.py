"""Raw files that stay the same while several readers open them, one after the other.

In: a path. Out: for the length of a `with` block, a path of the same name that leads to what lay there at its start,
even where it, or a folder above it, is renamed or replaced; and a stamp, which tells whether it is written to. A folder
is pinned as such: a change of the files in it shows in its stamp. It reads no file.
"""

from __future__ import annotations

import atexit
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.artifacts.files import unwritable
from pipeline.errors import DataError

_PIN = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC  # O_PATH opens nothing: no pipe waits

_home: dict[int, str] = {}  # by process: its temporary folder
_numbers = itertools.count()


@contextmanager
def pinned(path: Path) -> Iterator[Path]:
    """What lies at `path` now, as a path that a child process may open too; without Linux's /proc, `path` itself.

    Raises DataError: nothing lies there, or it cannot be reached. ArtifactError: no temporary file can be made.
    """
    with ExitStack() as held:
        try:
            descriptor = os.open(path, _PIN)
        except (OSError, ValueError) as error:
            problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
            raise DataError(path, problem, remedy="check the path") from error
        held.callback(os.close, descriptor)
        try:
            place = _new_place()
            held.callback(_drop, place, path.name)
            link = Path(place, path.name)
            link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")  # some readers go by the name, which must stay
        except OSError as error:
            raise unwritable(tempfile.gettempdir(), error) from error
        yield link if link.exists() else path


def _new_place() -> str:
    """A new empty folder in this process's temporary one, which is made once, since making it takes milliseconds."""
    place = os.path.join(_home.get(os.getpid(), ""), str(next(_numbers)))
    if os.getpid() in _home:
        with suppress(FileNotFoundError):  # a long run may outlive what sweeps temporary files
            os.mkdir(place)
            return place
    home = _home[os.getpid()] = tempfile.mkdtemp(prefix="star-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    place = os.path.join(home, str(next(_numbers)))
    os.mkdir(place)
    return place


def _drop(place: str, name: str) -> None:
    with suppress(OSError):
        os.unlink(os.path.join(place, name))
    with suppress(OSError):
        os.rmdir(place)


def stamp(path: str | os.PathLike[str]) -> str | None:
    """A digest of what the system says of a file, or of the files in a folder; None where it is gone.

    It is of the inode, the size, mtime and ctime, but not of the device, whose number differs between the machines of a
    cluster, and from one mount to the next.
    """
    try:
        if not os.path.isdir(path):
            return _digest([_facts("", os.stat(path))])
        with os.scandir(path) as found:
            return _digest(sorted(_facts(entry.name, entry.stat()) for entry in found))
    except OSError:
        return None


def _facts(name: str, stat: os.stat_result) -> tuple[str, int, int, int, int]:
    return name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _digest(facts: list[tuple[str, int, int, int, int]]) -> str:
    return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()[:16]

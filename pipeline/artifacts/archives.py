"""Zip archives of strangers: torch's checkpoints and numpy's score files, checked before a byte of them is unpacked.

In: a path. Out: an open file whose archive holds, uncompressed, no more bytes than the file itself, each member whole
by its checksum; or the tensors of a checkpoint. A pickle in it may name tensors and plain values alone. Zip's checksums
cover the members; the seal, the archive's comment, covers every byte before it.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.artifacts.boundary import open_regular
from pipeline.artifacts.schema import DEEPEST

# What zipfile, torch.load and numpy raise on damaged or foreign files: found by flipping and cutting bytes in files of
# all these formats, and the errors that a damaged size can lead to.
UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError, TypeError,
    LookupError, AttributeError, AssertionError, OverflowError, MemoryError, RecursionError, NotImplementedError,
)  # fmt: skip
MOST_MEMBERS, MOST_VALUES = 1 << 16, 1 << 20
ZIP = b"PK\x03\x04"
SEAL_BYTES, READ_AT_ONCE = 64, 1 << 20  # a SHA-256 in hexadecimal digits


@contextmanager
def opened_archive(path: Path, *, root: Path | None = None) -> Iterator[IO[bytes]]:
    """The file of a zip archive, open at its start.

    Raises:
        OSError: it cannot be read. ValueError, BadZipFile: it is damaged, compressed, or claims more than it holds.
        BoundaryError: as `pipeline.artifacts.boundary.open_regular`.
    """
    fd = open_regular(path, root=None if root is None else os.path.realpath(root))
    with open(fd, "rb") as file:
        _check_members(file)
        file.seek(0)
        yield file


def _check_members(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS or any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its archive is not stored as this program stores it")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("its archive holds two files of one name")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its archive claims more than the file holds")
        if archive.testzip() is not None:  # torch does not check these checksums
            raise ValueError("it does not match its checksums")


def sealed_archive(data: bytes) -> bytes:
    """The archive with a comment, the SHA-256 of all bytes before it: its headers and its list of members too."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(SEAL_BYTES)
    body = buffer.getvalue()[:-SEAL_BYTES]
    return body + hashlib.sha256(body).hexdigest().encode()


def is_sealed(file: IO[bytes]) -> bool:
    """Whether an open file is as `sealed_archive` made it, to the byte; leaves it at its end."""
    left, digest = os.fstat(file.fileno()).st_size - SEAL_BYTES, hashlib.sha256()
    file.seek(0)
    while left > 0 and (part := file.read(min(left, READ_AT_ONCE))):
        digest.update(part)
        left -= len(part)
    return file.read() == digest.hexdigest().encode()


def load_tensors(path: Path, *, root: Path | None = None, before_2020: bool = False) -> Any:
    """What `torch.save` wrote: tensors, on the CPU, in plain values; torch compares their sizes with the archive's.

    Args:
        before_2020: also read torch's older format, which is no archive: published weights still have it.

    Raises:
        OSError: it cannot be read. Any of `UNREADABLE`: it is damaged, or holds something else.
        BoundaryError: as `pipeline.artifacts.boundary.open_regular`.
    """
    import torch

    fd = open_regular(path, root=None if root is None else os.path.realpath(root))
    with open(fd, "rb") as file:
        if not before_2020 or file.read(len(ZIP)) == ZIP:
            _check_members(file)
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
    _check_plain(state)
    return state


def _check_plain(state: Any) -> None:
    """Raise ValueError where values are more or deeper than those of any checkpoint (a pickle may name a list twice, or
    in itself), or a tensor is not numbers in memory of its own: one that repeats one number claims any size."""
    from torch import Tensor, strided

    level = [state]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += [*one, *one.values()]
            elif isinstance(one, list | tuple | set | frozenset):
                below += one
            elif isinstance(one, Tensor):
                plain = one.layout is strided and one.device.type == "cpu" and not (one.is_quantized or one.is_nested)
                if not plain or one.nbytes > one.untyped_storage().nbytes():
                    raise ValueError("it holds a tensor that is not numbers in memory of its own")
            if len(below) > MOST_VALUES:
                raise ValueError("it holds more values than a checkpoint does")
        if not below:
            return
        level = below
    raise ValueError("its values are nested too deeply")

"""What a video or pose file holds, as a digest: two files of one name are told apart by it.

In: a file, or a folder of pictures or of pose files. Out: its bytes and its SHA-256. It decodes nothing: two encodings
of one video are two videos.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from pipeline.decode import picture_folder
from pipeline.decode.regular import open_regular
from pipeline.errors import DataError


def identity(path: str | PathLike[str], suffixes: Sequence[str] = ()) -> dict[str, int | str]:
    """{"bytes": size, "sha256": digest} of a file, or of the files of a folder that a reader uses.

    Args:
        path: a regular file, or a folder.
        suffixes: of a folder's files, in lower case, such as (".json",); none: the pictures of a video.

    Returns: for a folder the sum of the sizes, and the digest of the lines "name, NUL, SHA-256" sorted by name.

    Raises DataError: it, or a file in it, cannot be read or is no regular file; the folder holds no such file.
    """
    if not os.path.isdir(path):
        size, digest = _file(path)
        return {"bytes": size, "sha256": digest}
    total, whole = 0, hashlib.sha256()
    for file in _files(Path(path), suffixes):
        size, digest = _file(file)
        total += size
        whole.update(os.fsencode(file.name) + b"\0" + digest.encode() + b"\n")
    return {"bytes": total, "sha256": whole.hexdigest()}


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not suffixes:
        return sorted(picture_folder.pictures(folder))
    found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not found:
        raise DataError(folder, "holds no file of the kind looked for", expected=" or ".join(suffixes))
    return sorted(found)


def _file(path: str | PathLike[str]) -> tuple[int, str]:
    """(bytes read, SHA-256). What is counted is what was read: a file may grow meanwhile."""
    with open_regular(path, kind=DataError) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return file.tell(), digest.hexdigest()

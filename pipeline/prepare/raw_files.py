"""The identity of a clip's raw files: whether they are still those that it was made from.

In: a prepared folder's entries, whose "raw" holds the size and SHA-256 of each video and pose. Out: an error that names
the clips whose files have other content now. A stamp is what the system says of a file; only where it is not the one
that was seen last are the bytes read again. Stamps lie in `log/seen/`, a file a shard, and are no part of the content.
Files of clips that failed or are missing may change.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import read_file
from pipeline.artifacts.files import write_atomic
from pipeline.artifacts.schema import parse_json
from pipeline.cluster.lookahead import prefetch
from pipeline.decode.identity import identity
from pipeline.errors import ArtifactError, DataError
from pipeline.prepare.folder import Entries, PreparedFolder

VIDEO_FILES, POSE_FILES = (), (".json",)  # of a folder, the suffixes of the files that count; none: its pictures
SEEN = "log/seen/{:05d}.json"
THREADS = 8  # a network disk answers many at once


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw file of a clip, and what its record says of it: "bytes" and "sha256"."""

    clip_id: str
    shard: int
    path: str
    suffixes: tuple[str, ...]
    was: dict[str, Any]


def stamp(path: str | os.PathLike[str]) -> str | None:
    """A digest of the sizes and times (mtime, ctime) of a file, or of the files in a folder; None where it is gone."""
    try:
        if not os.path.isdir(path):
            return _digest([_facts("", os.stat(path))])
        with os.scandir(path) as found:
            return _digest(sorted(_facts(entry.name, entry.stat()) for entry in found))
    except OSError:
        return None


def _facts(name: str, stat: os.stat_result) -> tuple[str, int, int, int]:
    return name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _digest(facts: list[tuple[str, int, int, int]]) -> str:
    return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()[:16]


def raw_files(folder: PreparedFolder, entries: Entries) -> Iterator[RawFile]:
    """The raw files of all clips whose entries say what they were made from, where the listing still has them."""
    for row, (record, entry) in enumerate(zip(folder.listing.records, entries, strict=True)):
        for kind, root, below, suffixes in (
            ("video", "videos", record.video, VIDEO_FILES),
            ("pose", "skeletons", record.skeleton, POSE_FILES),
        ):
            if below and "raw" in entry:
                path = os.path.join(folder.listing.roots[root], below)
                yield RawFile(entry["id"], row // folder.options.shard_clips, path, suffixes, entry["raw"][kind])


def require_same_raw_files(folder: PreparedFolder, entries: Entries) -> None:
    """Compare the raw files with the records; a file whose stamp is not the one seen last is read again.

    Raises ArtifactError: some have other content, or cannot be read; their clips are named.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        parts = prefetch(pool, partial(_touched, folder.path), _by_shard(raw_files(folder, entries)), depth=2 * THREADS)
        touched = list(itertools.chain.from_iterable(parts))
        same = list(prefetch(pool, lambda pair: is_same(pair[0]), touched, depth=THREADS))
    changed = sorted({file.clip_id for (file, _), whole in zip(touched, same, strict=True) if not whole})
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ArtifactError(
            folder.path,
            f"{len(changed)} of its clips were made from other files than there are now ({shown})",
            remedy="put the old files back, or choose another `out`",
        )
    for shard, pairs in itertools.groupby(touched, lambda pair: pair[0].shard):
        remember(folder.path, shard, {file.path: now for file, now in pairs})


def _by_shard(files: Iterator[RawFile]) -> Iterator[list[RawFile]]:
    return (list(part) for _, part in itertools.groupby(files, lambda file: file.shard))


def _touched(folder: Path, files: list[RawFile]) -> list[tuple[RawFile, str]]:
    """The files of a shard whose stamps are not those seen last."""
    seen = _seen(folder, files[0].shard)
    stamped = [(file, stamp(file.path)) for file in files]
    return [(file, now) for file, now in stamped if now is not None and now != seen.get(file.path)]


def remember(folder: Path, shard: int, stamps: Mapping[str, str | None]) -> None:
    """Add to the stamps seen last of a shard's files."""
    write_atomic(folder / SEEN.format(shard), json.dumps({**_seen(folder, shard), **stamps}).encode(), root=folder)


def _seen(folder: Path, shard: int) -> dict[str, str | None]:
    """Path -> stamp; where they are lost or damaged, files are read again."""
    path = folder / SEEN.format(shard)
    with suppress(OSError, ArtifactError):
        found = parse_json(read_file(path, root=folder), path)
        if isinstance(found, dict):
            return found
    return {}


def is_same(file: RawFile) -> bool:
    """Whether a file holds the bytes that its clip was made from."""
    try:
        now = identity(file.path, suffixes=file.suffixes)
    except DataError:
        return False
    return (now["bytes"], now["sha256"]) == (file.was["bytes"], file.was["sha256"])


def changed_raw_files(folder: PreparedFolder, entries: Entries) -> Iterator[RawFile]:
    """All raw files that are no longer as they were, every byte of them read."""
    files: Iterable[RawFile] = raw_files(folder, entries)
    with ThreadPoolExecutor(THREADS) as pool:
        for file, whole in prefetch(pool, lambda file: (file, is_same(file)), files, depth=2 * THREADS):
            if not whole:
                yield file

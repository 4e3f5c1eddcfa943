"""The identity of a clip's raw files: whether they are still those that it was made from.

In: a prepared folder's entries, whose "raw" holds the size and SHA-256 of each video and pose. Out: an error that names
the clips whose files have other content now. Only files whose stamps are not known to be those of that content are
read again. Stamps lie in `log/seen/`, a file a shard, each with the SHA-256 of the bytes that were read under it; they
are no part of the content. Files of clips that failed or are missing may change.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import BoundaryError, confined, read_file
from pipeline.artifacts.files import write_atomic
from pipeline.artifacts.schema import parse_json
from pipeline.cluster.lookahead import prefetch
from pipeline.decode.identity import identity
from pipeline.errors import ArtifactError, DataError
from pipeline.prepare.folder import Entries, PreparedFolder
from pipeline.prepare.pinned import pinned, stamp

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


def raw_files(folder: PreparedFolder, entries: Entries) -> Iterator[RawFile]:
    """The raw files of all clips whose entries say what they were made from, where the listing still has them.

    Raises BoundaryError: a row names a file outside its folder.
    """
    for row, (record, entry) in enumerate(zip(folder.listing.records, entries, strict=True)):
        for kind, root, below, suffixes in (
            ("video", "videos", record.video, VIDEO_FILES),
            ("pose", "skeletons", record.skeleton, POSE_FILES),
        ):
            if below and "raw" in entry:
                try:
                    path = str(confined(folder.listing.roots[root], below))
                except BoundaryError as error:
                    raise BoundaryError(entry["id"], f"names a {kind} outside its folder", got=below) from error
                yield RawFile(entry["id"], row // folder.options.shard_clips, path, suffixes, entry["raw"][kind])


def require_same_raw_files(folder: PreparedFolder, entries: Entries) -> None:
    """Compare the raw files with the records; a file of an unknown stamp is read again.

    Raises ArtifactError: some have other content, or cannot be read; their clips are named. BoundaryError: as
        `raw_files`.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        parts = prefetch(pool, partial(_touched, folder.path), _by_shard(raw_files(folder, entries)), depth=2 * THREADS)
        touched = list(itertools.chain.from_iterable(parts))
        stamps = list(prefetch(pool, _stamp_if_same, touched, depth=THREADS))
    read = list(zip(touched, stamps, strict=True))
    changed = sorted({file.clip_id for file, now in read if now is None})
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ArtifactError(
            folder.path,
            f"{len(changed)} of its clips were made from other files than there are now ({shown})",
            remedy="put the old files back, or choose another `out`",
        )
    for shard, pairs in itertools.groupby(read, lambda pair: pair[0].shard):
        remember(folder.path, shard, {file.path: [now, file.was["sha256"]] for file, now in pairs})


def _by_shard(files: Iterator[RawFile]) -> Iterator[list[RawFile]]:
    return (list(part) for _, part in itertools.groupby(files, lambda file: file.shard))


def _touched(folder: Path, files: list[RawFile]) -> list[RawFile]:
    """The files of a shard that are there, but are not known to hold what their clips were made from."""
    seen = _seen(folder, files[0].shard)
    stamped = [(file, stamp(file.path)) for file in files]
    return [file for file, now in stamped if now is not None and seen.get(file.path) != [now, file.was["sha256"]]]


def remember(folder: Path, shard: int, seen: Mapping[str, list[str | None]]) -> None:
    """Add to what is known of a shard's files: path -> [stamp, SHA-256 of the bytes read under it]."""
    write_atomic(folder / SEEN.format(shard), json.dumps({**_seen(folder, shard), **seen}).encode(), root=folder)


def _seen(folder: Path, shard: int) -> dict[str, Any]:
    """As `remember` was given it; where it is lost or damaged, files are read again."""
    path = folder / SEEN.format(shard)
    with suppress(OSError, ArtifactError):
        found = parse_json(read_file(path, root=folder), path)
        if isinstance(found, dict):
            return found
    return {}


def _stamp_if_same(file: RawFile) -> str | None:
    """The stamp under which a file holds the bytes that its clip was made from; None where it does not."""
    try:
        with pinned(Path(file.path)) as path:
            was = stamp(path)
            now = identity(path, suffixes=file.suffixes)
            whole = (now["bytes"], now["sha256"]) == (file.was["bytes"], file.was["sha256"])
            return was if whole and stamp(path) == was else None
    except DataError:
        return None


def changed_raw_files(folder: PreparedFolder, entries: Entries) -> Iterator[RawFile]:
    """All raw files that are no longer as they were, every byte of them read. Raises BoundaryError: as `raw_files`."""
    files: Iterable[RawFile] = raw_files(folder, entries)
    with ThreadPoolExecutor(THREADS) as pool:
        for file, now in prefetch(pool, lambda file: (file, _stamp_if_same(file)), files, depth=2 * THREADS):
            if now is None:
                yield file

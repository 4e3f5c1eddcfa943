"""One shard of a prepared folder: its rows, its file of clips, and the commit record that says it is done.

In: the folder and a shard number. Out: a Shard, which is all that a worker needs: it reads its own rows out of
`dataset.json` and those near them, so that its memory does not grow with the data set. Row r of the listing is
row r - i S of shard i = r // S, for ever. What the clips hold is `pipeline.prepare.hdf5`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.artifacts.files import write_atomic
from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.sealed_json import seal, unseal, unseal_rows
from pipeline.config import PrepareOptions
from pipeline.errors import ArtifactError
from pipeline.prepare.hdf5 import ClipContent, ShardReader
from pipeline.records import VideoRecord

FORMAT = "star-prepared/1"
META = "dataset.json"
COLUMNS = [field.name for field in fields(VideoRecord)]
SHARDS_AT_ONCE = 16  # whose rows are read together: all of NTU 120's file takes a tenth of a second


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows `number * options.shard_clips` and following of a prepared folder, and their two files.

    Attributes:
        folder: the prepared folder.
        fingerprint, options, topology, roots: the folder's.
        records: the rows.
    """

    folder: Path
    number: int
    fingerprint: str
    options: PrepareOptions
    topology: str
    roots: Mapping[str, str]
    records: tuple[VideoRecord, ...]

    @property
    def path(self) -> Path:
        """Its HDF5 file."""
        return self.folder / f"clips-{self.number:05d}.h5"

    @property
    def commit_path(self) -> Path:
        """Its commit record."""
        return self.folder / f"clips-{self.number:05d}.json"

    def commit(self, data: bytes | memoryview, entries: list[dict[str, Any]]) -> None:
        """Put the file of clips, then the record that names it: from then on the shard is done.

        Args:
            entries: for each row {"id", "outcome", ...}: "reason" where it is not done, else the clip's "sha256".
        """
        write_atomic(self.path, data)
        record = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "shard": self.number,
            "file": self.path.name,
            "bytes": len(data),
            "sha256": sha256(data),
            "clips": entries,
        }
        write_atomic(self.commit_path, seal(record))

    def record(self) -> dict[str, Any] | None:
        """The commit record, or None where there is none.

        Raises:
            CorruptError: it is damaged. ArtifactError: it belongs to another prepared folder.
        """
        try:
            data = self.commit_path.read_bytes()
        except FileNotFoundError:
            return None
        record = unseal(data, self.commit_path)
        if (record["fingerprint"], record["shard"]) != (self.fingerprint, self.number):
            raise ArtifactError(
                self.commit_path, "belongs to another prepared folder", remedy="move it and its .h5 file away"
            )
        return record

    def committed(self) -> dict[str, Any] | None:
        """The commit record, or None where there is none or where the file of clips is not there in its full length.

        Raises: as `record`.
        """
        record = self.record()
        if record is None or not self.path.is_file() or self.path.stat().st_size != record["bytes"]:
            return None
        return record

    def clips(self, record: dict[str, Any]) -> list[ClipContent | None]:
        """The clips, None where a row is not done. Raises CorruptError: they cannot be read."""
        with ShardReader(self.path) as reader:
            return [reader.clip(i) if entry["outcome"] == "done" else None for i, entry in enumerate(record["clips"])]


def read_shard(folder: Path, number: int, *, shard_clips: int) -> Shard:
    """A shard of the folder, read by the worker that makes it.

    Args:
        shard_clips: rows of a shard; the folder's options say the same.

    Raises:
        ArtifactError: there is no `dataset.json`, or one of another format. CorruptError: it is damaged.
    """
    path = folder / META
    try:
        found = path.stat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError:
        state = (0, 0, 0)  # what reads it will say why
    block, place = divmod(number, SHARDS_AT_ONCE)
    meta = _rows_of_block(path, state, block, shard_clips)
    return Shard(
        folder=folder,
        number=number,
        fingerprint=meta["fingerprint"],
        options=PrepareOptions(**meta["options"]),
        topology=meta["topology"],
        roots=meta["roots"],
        records=records_of({**meta, "rows": meta["rows"][place * shard_clips : (place + 1) * shard_clips]}),
    )


@functools.lru_cache(maxsize=2)
def _rows_of_block(path: Path, state: tuple[int, int, int], block: int, shard_clips: int) -> dict[str, Any]:
    """What `dataset.json` says of a few neighbouring shards: it is read whole, so not for each of them."""
    rows = SHARDS_AT_ONCE * shard_clips
    meta = unseal_rows(path, "rows", range(block * rows, (block + 1) * rows))
    check_format(meta, path)
    assert meta["options"]["shard_clips"] == shard_clips
    return meta


def check_format(meta: dict[str, Any], path: Path) -> None:
    """Raises ArtifactError where `dataset.json` is of another format than ours."""
    if meta.get("format") != FORMAT:
        raise ArtifactError(path, "is of another format", got=meta.get("format"), expected=FORMAT)


def records_of(meta: dict[str, Any]) -> tuple[VideoRecord, ...]:
    """The rows that `dataset.json` holds under its "columns"."""
    return tuple(VideoRecord(**dict(zip(meta["columns"], row, strict=True))) for row in meta["rows"])

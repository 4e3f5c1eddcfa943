"""One shard of a prepared folder: its rows, its file of clips, and the commit record that says it is done.

In: the folder and a shard number. Out: a Shard, which is all that a worker needs: `dataset.json`, and from `rows.jsonl`
(a JSON list a line, a line a row) its own rows and those near them, so that its memory does not grow with the data set.
Row r of the listing is always row r - i S of shard i = r // S. The content of clips is `pipeline.prepare.hdf5`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.artifacts.boundary import open_regular, read_file
from pipeline.artifacts.files import write_atomic
from pipeline.artifacts.fingerprint import sha256
from pipeline.artifacts.kinds import MARKERS
from pipeline.artifacts.outcomes import OUTCOMES
from pipeline.artifacts.schema import build, check, check_columns, names, parse_json, sha256_hex, whole
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import ArtifactError, CorruptError
from pipeline.prepare.hdf5 import ClipContent, ShardReader
from pipeline.records import UNKNOWN, VideoRecord

FORMAT = "star-prepared/3"
META, ROWS = MARKERS["prepared"], "rows.jsonl"
RESTORE_ROWS = "restore it from a copy, or delete it and run the same `star prepare` again"
ROW_TYPES = typing.get_type_hints(VideoRecord)
ROW_COLUMNS = list(ROW_TYPES)
NUMBERS = ("subject", "camera", "setup", "replication")  # 32 bits in a token store


def _folder(value: Any) -> bool:
    """a path"""
    return isinstance(value, str) and "\0" not in value


META_SCHEMA = {
    "format": str, "fingerprint": sha256_hex, "dataset": str, "topology": manifest.TOPOLOGIES, "protocols": names,
    "options": dict, "roots": {"videos": _folder, "skeletons": _folder}, "class_names": names, "clips": whole(1, 10**9),
    "columns": [str], "rows_sha256": sha256_hex,
}  # fmt: skip
RECORD_SCHEMA = {
    "fingerprint": sha256_hex, "shard": whole(), "bytes": whole(), "sha256": sha256_hex,
    "clips": [{"id": str, "outcome": OUTCOMES}],
}  # fmt: skip


def _frame_or_none(value: Any) -> bool:
    """A frame's number, or null."""
    return value is None or whole()(value)


RAW_FILE = {"bytes": whole(), "sha256": sha256_hex, "frames": whole()}
# of entries of clips whose files were read
ENTRY_SCHEMAS: dict[str, Any] = {
    "raw": {"video": RAW_FILE, "pose": RAW_FILE},
    "poses": {
        "units": str, "first_frame": whole(), "first_pose": _frame_or_none, "last_pose": _frame_or_none,
        "frames_without_pose": whole(), "bodies": whole(), "bodies_left_out": whole(), "outside": float,
    },
    "reader": str, "corrupt": str,
}  # fmt: skip
LONGEST_ROW, LARGEST_ROWS = 1 << 20, 1 << 33  # bytes of a line, of the file
SHARDS_AT_ONCE = 16  # whose rows are read together: reading and checking all of NTU 120's takes a tenth of a second


def joints_of(topology: str) -> int:
    """V of a topology."""
    return len(manifest.topology(topology).joint_names)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows `number * options.shard_clips` and following of a prepared folder, and their two files.

    `fingerprint`, `options`, `topology` and `roots` are the folder's; `records` are the rows.
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
        return self.folder / f"clips-{self.number:05d}.h5"

    @property
    def commit_path(self) -> Path:
        return self.folder / f"clips-{self.number:05d}.json"

    def commit(self, data: bytes | memoryview, entries: list[dict[str, Any]]) -> None:
        """Put the file of clips, then the record that names it: from then on the shard is done.

        Each row's entry is {"id", "outcome", ...}: "reason" where it is not done, else the clip's "sha256"; and where
        its files were read, "raw" and "poses" (`pipeline.prepare.clip`).
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

        Raises CorruptError: it is damaged. ArtifactError: it belongs to another prepared folder.
        """
        try:
            data = read_file(self.commit_path, root=self.folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.commit_path, error) from error
        record = unseal(data, self.commit_path, RECORD_SCHEMA)
        if (record["fingerprint"], record["shard"]) != (self.fingerprint, self.number):
            remedy = "move it and its .h5 file away"
            raise ArtifactError(self.commit_path, "belongs to another prepared folder", remedy=remedy)
        if [entry["id"] for entry in record["clips"]] != [row.clip_id for row in self.records]:
            remedy = f"restore it from a copy, or delete it and {self.path.name} and run the same command again"
            raise CorruptError(self.commit_path, "does not name the clips of its shard", remedy=remedy)
        for entry in record["clips"]:
            check(entry, {"sha256": sha256_hex} if entry["outcome"] == "done" else {"reason": str}, self.commit_path)
            check(entry, {name: schema for name, schema in ENTRY_SCHEMAS.items() if name in entry}, self.commit_path)
            if ("raw" in entry) != ("poses" in entry):
                raise CorruptError(self.commit_path, f"does not say what {entry['id']} was made from")
        return record

    def committed(self) -> dict[str, Any] | None:
        """The commit record, or None where there is none or where the file of clips is missing or has another length.

        Raises: as `record`.
        """
        record = self.record()
        if record is None or not self.path.is_file() or self.path.stat().st_size != record["bytes"]:
            return None
        return record

    def reader(self) -> ShardReader:
        """Of the file of clips. Raises CorruptError: it is missing, or not of the folder's sizes. BoundaryError."""
        persons, draws = self.options.max_persons, self.options.draws
        return ShardReader(self.path, (len(self.records), draws, persons, FRAMES, joints_of(self.topology)))

    def clips(self, record: dict[str, Any]) -> list[ClipContent | None]:
        """The clips, None where a row is not done. Raises CorruptError: they cannot be read."""
        with self.reader() as reader:
            return [reader.clip(i) if entry["outcome"] == "done" else None for i, entry in enumerate(record["clips"])]


def read_shard(folder: Path, number: int, *, shard_clips: int) -> Shard:
    """A shard of the folder, read by the worker that makes it. Raises as `read_meta` and `read_rows`.

    `shard_clips` is as in the folder's options.
    """
    block, index = divmod(number, SHARDS_AT_ONCE)
    versions = tuple(_version_of(folder / name) for name in (META, ROWS))
    meta, records = _read_block(folder, versions, block, shard_clips)
    return Shard(
        folder=folder,
        number=number,
        fingerprint=meta["fingerprint"],
        options=options_of(folder, meta),
        topology=meta["topology"],
        roots=meta["roots"],
        records=records[index * shard_clips : (index + 1) * shard_clips],
    )


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # reading it raises the error
    return found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=2)
def _read_block(
    folder: Path, versions: tuple[object, ...], block: int, shard_clips: int
) -> tuple[dict[str, Any], tuple[VideoRecord, ...]]:
    """The rows of neighbouring shards: each reading checks the whole of `rows.jsonl`, so one serves several shards.

    `versions` of the two files are part of the cache's key.
    """
    meta = read_meta(folder)
    assert meta["options"]["shard_clips"] == shard_clips
    rows = SHARDS_AT_ONCE * shard_clips
    return meta, read_rows(folder, meta, range(block * rows, (block + 1) * rows))


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of `dataset.json`.

    Raises ArtifactError: it cannot be read, or has another format. CorruptError: it is damaged.
    """
    path = folder / META
    try:
        meta = unseal(read_file(path, root=folder), path, {"format": str})
    except OSError as error:
        raise _unreadable(path, error) from error
    if meta["format"] != FORMAT:
        remedy = "make the folder again with `star prepare`, in another `out`"
        raise ArtifactError(path, "has another format", got=meta["format"], expected=FORMAT, remedy=remedy)
    check(meta, META_SCHEMA, path)
    if meta["columns"] != ROW_COLUMNS:
        raise CorruptError(path, "has other columns", got=", ".join(meta["columns"]), expected=", ".join(ROW_COLUMNS))
    options_of(folder, meta)
    return meta


def options_of(folder: Path, meta: Mapping[str, Any]) -> PrepareOptions:
    """The options in `dataset.json`. Raises CorruptError: of other names or types."""
    return build(PrepareOptions, meta["options"], folder / META)


def read_rows(folder: Path, meta: Mapping[str, Any], wanted: range) -> tuple[VideoRecord, ...]:
    """The `wanted` rows of `rows.jsonl`. Every byte is read and checked, but only those rows are held in memory.

    Raises ArtifactError: the file cannot be read. CorruptError: it differs from the digest in `dataset.json`.
    """
    path, digest, lines = folder / ROWS, hashlib.sha256(), []
    try:
        with open(open_regular(path, root=os.path.realpath(folder)), "rb") as file:
            if os.fstat(file.fileno()).st_size > LARGEST_ROWS:
                raise CorruptError(path, "is too large", expected=f"at most {LARGEST_ROWS} bytes", remedy=RESTORE_ROWS)
            for row, line in enumerate(iter(lambda: file.readline(LONGEST_ROW), b"")):
                digest.update(line)
                if row in wanted:
                    lines.append(line)
            length = file.tell()
    except OSError as error:
        raise _unreadable(path, error) from error
    if digest.hexdigest() != meta["rows_sha256"]:
        raise CorruptError(path, f"does not match its checksum in {META}", got=f"{length} bytes", remedy=RESTORE_ROWS)
    rows = parse_json(b"[%b]" % b",".join(lines), path)
    check_columns(rows, ROW_TYPES, path)
    _check_numbers(rows, len(meta["class_names"]), path)
    if len(rows) != len(range(meta["clips"])[wanted.start : wanted.stop]):
        raise CorruptError(path, "does not hold a row for each clip", expected=meta["clips"], remedy=RESTORE_ROWS)
    return tuple(VideoRecord(**dict(zip(ROW_COLUMNS, row, strict=True))) for row in rows)


def _check_numbers(rows: list[list[Any]], classes: int, path: Path) -> None:
    """Raise CorruptError where a row's label is no class, or another number is none that a data set gives."""
    bounds = {"label": (UNKNOWN, classes - 1), **dict.fromkeys(NUMBERS, (-(1 << 31), (1 << 31) - 1))}
    for name, (least, most) in bounds.items():
        column = ROW_COLUMNS.index(name)
        for row in rows:
            if not least <= row[column] <= most:
                expected = f"{least} to {most}"
                raise CorruptError(path, f"has a wrong {name} in a row", got=row[column], expected=expected)


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    missing = path.name == ROWS and isinstance(error, FileNotFoundError)
    remedy = "restore it from a copy, or run the same `star prepare` again" if missing else None
    return ArtifactError(path, f"cannot be read on {socket.gethostname()} ({error.strerror})", remedy=remedy)

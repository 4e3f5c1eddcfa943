"""The folder that stage 1 fills: the listing, the committed shards, and the outcome of every row.

In: a Listing and PrepareOptions, or an existing folder. Out: PreparedFolder. It holds the whole listing in memory, for
coordinators and readers; a worker of stage 1 reads one `pipeline.prepare.shard.Shard` at a time.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import BoundaryError, read_file
from pipeline.artifacts.files import unwritable, write_atomic
from pipeline.artifacts.fingerprint import canonical_json, differences, fingerprint, sha256
from pipeline.artifacts.kinds import describe
from pipeline.artifacts.outcomes import Account, account_of
from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.prepare.shard import FORMAT, META, ROW_COLUMNS, ROWS, Shard, options_of, read_meta, read_rows
from pipeline.records import Listing

VERSIONS = ("star-tokens", "numpy", "av", "opencv-python-headless", "h5py", "pillow", "scipy")
OWN_FILES = ("raw", "log", "manifest.jsonl", ROWS)
SHARD_FILE = re.compile(r"clips-\d{5,}\.(h5|json)")

Entries = list[dict[str, Any]]
IDENTITY_COLUMNS = [name for name in ROW_COLUMNS if name not in ("video", "skeleton", "missing")]
_identity_of = attrgetter(*IDENTITY_COLUMNS)
_row_of = attrgetter(*ROW_COLUMNS)  # a tenth of the time of dataclasses.astuple, which copies


class PreparedFolder:
    """A folder of prepared clips. `open` an existing one, or `match` and `freeze` a new one.

    Its `fingerprint` is the digest of `listing` and `options`, which decide the content.
    """

    def __init__(self, path: Path, listing: Listing, options: PrepareOptions, fingerprint: str) -> None:
        self.path, self.listing, self.options, self.fingerprint = path, listing, options, fingerprint

    @classmethod
    def open(cls, path: Path | str) -> PreparedFolder:
        """Raises ArtifactError: not a prepared folder, or of another format. CorruptError: damaged."""
        path = Path(path)
        if not (path / META).is_file():
            raise ArtifactError(
                path,
                describe(path, wanted="prepared"),
                expected="a folder made by `star prepare`",
                remedy="run `star prepare` first and give its output folder here",
            )
        meta = read_meta(path)
        listing = Listing(
            dataset=meta["dataset"],
            class_names=tuple(meta["class_names"]),
            topology=meta["topology"],
            protocols=tuple(meta["protocols"]),
            roots=meta["roots"],
            records=read_rows(path, meta, range(meta["clips"])),
        )
        options = options_of(path, meta)
        if (digest := folder_fingerprint(listing, options)) != meta["fingerprint"]:
            remedy = f"restore it and {ROWS} from a copy, or delete both and run the same `star prepare` again"
            raise CorruptError(
                path / META, "is not of its own fingerprint: rows or options were changed", remedy=remedy
            )
        return cls(path, listing, options, digest)

    @classmethod
    def match(cls, path: Path, listing: Listing, options: PrepareOptions) -> PreparedFolder:
        """The folder of this listing and these options, which may exist already; writes nothing.

        Raises:
            ArtifactError: `path` was made from other rows or options (the differences are named), or holds something
                else. CorruptError: it is damaged. DataError: nothing is listed.
        """
        if not listing.records:
            raise DataError("the listing", "holds no clip", remedy="check the folders given")
        digest = folder_fingerprint(listing, options)
        refuse_other_content(path, digest)
        new = cls(path, listing, options, digest)
        new._frozen()
        return new

    def freeze(self) -> None:
        """Write `rows.jsonl`, then `dataset.json`: the workers read both. Raises as `match`.

        Of existing ones only that changes which does not decide the content: roots and paths, missing files, the
        budget.
        """
        found = self._frozen()
        rows = "".join(
            json.dumps(_row_of(record), ensure_ascii=False) + "\n" for record in self.listing.records
        ).encode()
        for name, data in ((ROWS, rows), (META, self._meta(sha256(rows), found))):
            path = self.path / name
            if not holds(path, data):
                write_atomic(path, data)

    def _frozen(self) -> dict[str, Any] | None:
        """The content of `dataset.json`, or None where there is none; raises where it differs from this folder's.

        A deleted or damaged `rows.jsonl` of the same fingerprint is no error: `freeze` writes it again.
        """
        path = self.path / META
        if not path.exists():
            return None
        found = read_meta(self.path)
        if found["fingerprint"] != self.fingerprint:
            raise ArtifactError(
                path,
                "was made from something else: " + "; ".join(_what_differs(PreparedFolder.open(self.path), self)),
                remedy="use the same options and input again, or another `out`",
            )
        return found

    def _meta(self, rows_sha256: str, found: dict[str, Any] | None) -> bytes:
        return seal(
            {
                "format": FORMAT,
                "fingerprint": self.fingerprint,
                "dataset": self.listing.dataset,
                "topology": self.listing.topology,
                "protocols": list(self.listing.protocols),
                "options": asdict(self.options),
                "roots": dict(self.listing.roots),
                # of the libraries that decide the bytes, when the folder was begun; recorded, never compared
                "versions": _versions() if found is None else found["versions"],
                "class_names": list(self.listing.class_names),
                "clips": len(self.listing.records),
                "columns": ROW_COLUMNS,
                "rows_sha256": rows_sha256,
            }
        )

    @property
    def shards(self) -> int:
        return -(-len(self.listing.records) // self.options.shard_clips)

    def rows(self, shard: int) -> range:
        size = self.options.shard_clips
        return range(shard * size, min((shard + 1) * size, len(self.listing.records)))

    def shard(self, number: int) -> Shard:
        rows = self.rows(number)
        return Shard(
            folder=self.path,
            number=number,
            fingerprint=self.fingerprint,
            options=self.options,
            topology=self.listing.topology,
            roots=self.listing.roots,
            records=self.listing.records[rows.start : rows.stop],
        )

    def record(self, shard: int) -> dict[str, Any] | None:
        """A shard's commit record, or None where it is not committed. Raises as `Shard.record`."""
        return self.shard(shard).committed()

    def outcomes(self) -> Entries:
        """For every row: its entry in a commit record, or {"id", "outcome": "pending"}. Raises as `Shard.record`."""
        entries: Entries = []
        for number in range(self.shards):
            shard = self.shard(number)
            entries += _entries_of(shard, shard.committed())
        return entries

    def recorded(self) -> Entries:
        """As `outcomes`, but also what the records say of clips whose file is lost; a damaged record counts as none.

        What a clip was made from is known as long as its record is. Raises ArtifactError: a record is another folder's.
        """
        entries: Entries = []
        for number in range(self.shards):
            shard, record = self.shard(number), None
            with suppress(CorruptError):
                record = shard.record()
            entries += _entries_of(shard, record)
        return entries

    def account(self, entries: Entries | None = None) -> Account:
        """Counts of all outcomes, from `outcomes()` if not given."""
        return account_of([(entry["outcome"], entry.get("reason", "")) for entry in entries or self.outcomes()])

    def content_digest(self, entries: Entries | None = None) -> str:
        """SHA-256 over fingerprint, outcomes, reasons, readers, and the digests of clips and of their raw files."""
        rows = [_content_of(entry) for entry in entries or self.outcomes()]
        return sha256(canonical_json([self.fingerprint, rows]))

    @property
    def manifest_path(self) -> Path:
        """`manifest.jsonl`: a line a row, derived from the records, for people and scripts; written at the end."""
        return self.path / "manifest.jsonl"

    def manifest(self, entries: Entries) -> bytes:
        rows = zip(self.listing.records, entries, strict=True)
        return "".join(
            json.dumps({"row": row, **entry, "label": record.label, "video": record.video}) + "\n"
            for row, (record, entry) in enumerate(rows)
        ).encode()

    def drop_manifest(self) -> None:
        """Before records change. Raises ArtifactError: the folder cannot be written."""
        try:
            self.manifest_path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.manifest_path, error) from error


def holds(path: Path, data: bytes) -> bool:
    """Whether a file of a prepared folder is a regular file of exactly these bytes; it may be of any size."""
    try:
        return read_file(path, root=path.parent, most=len(data)) == data
    except (OSError, BoundaryError):
        return False


def _entries_of(shard: Shard, record: dict[str, Any] | None) -> Entries:
    if record is None:
        return [{"id": row.clip_id, "outcome": "pending"} for row in shard.records]
    return list(record["clips"])


def _content_of(entry: dict[str, Any]) -> list[Any]:
    raw = entry.get("raw", {})
    digests = [raw[name]["sha256"] for name in sorted(raw)]
    return [*(entry.get(name, "") for name in ("id", "outcome", "reason", "corrupt", "sha256", "reader")), *digests]


def _versions() -> dict[str, str]:
    import av  # not above: stage 2 needs no video library

    found = {name: version(name) for name in VERSIONS}
    inside = {name: av.library_versions[name] for name in ("libavcodec", "libavformat", "libswscale")}  # FFmpeg's
    return {**found, "ffmpeg": av.ffmpeg_version_info, **{name: ".".join(map(str, n)) for name, n in inside.items()}}


def folder_fingerprint(listing: Listing, options: PrepareOptions) -> str:
    """The digest of all that decides a folder's content but the bytes of the raw files."""
    return fingerprint({"listing": listing_digest(listing), "options": options.content()})


def listing_digest(listing: Listing) -> str:
    """SHA-256 of a listing, but not of where its files lie, nor of which are missing.

    The bytes of the files that clips are made from are in the clips' entries: a missing file can be added later.
    """
    rows = [_identity_of(record) for record in listing.records]
    facts = [listing.dataset, listing.topology, list(listing.class_names), IDENTITY_COLUMNS, rows, FRAMES]
    return sha256(canonical_json(facts))


def refuse_other_content(path: Path, wanted: str | None = None) -> None:
    """Raises ArtifactError where `path` is not a prepared folder, or holds shards of another fingerprint than `wanted`.

    Shards without a `dataset.json` remain where a damaged one was deleted, as its error advises.
    """
    if (path / META).exists() or not path.exists():
        return
    names = sorted(p.name for p in path.iterdir() if p.name[0] != ".") if path.is_dir() else []
    if not path.is_dir() or not all(name in OWN_FILES or SHARD_FILE.fullmatch(name) for name in names):
        problem = describe(path, wanted="prepared")
        raise ArtifactError(path, problem, expected="an empty folder", remedy="choose another `out`")
    record = next((path / name for name in names if SHARD_FILE.fullmatch(name) and name.endswith(".json")), None)
    if (
        wanted is None
        or record is None
        or unseal(read_file(record, root=path), record, {"fingerprint": str})["fingerprint"] == wanted
    ):
        return
    problem = "holds shards that were made from something else"
    raise ArtifactError(path, problem, remedy="use the same options, or another `out`")


def _what_differs(found: PreparedFolder, new: PreparedFolder) -> list[str]:
    lines = differences(found.options.content(), new.options.content())
    old_rows = {record.clip_id: record for record in found.listing.records}
    new_rows = {record.clip_id: record for record in new.listing.records}
    both = old_rows.keys() & new_rows.keys()
    changed = {name for name in both if _identity_of(old_rows[name]) != _identity_of(new_rows[name])}
    for one, several, names in (
        ("clip is no longer there", "clips are no longer there", old_rows.keys() - new_rows.keys()),
        ("clip is new", "clips are new", new_rows.keys() - old_rows.keys()),
        ("clip has changed", "clips have changed", changed),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            lines.append(f"{len(names)} {one if len(names) == 1 else several} ({shown})")
    lines += differences({"dataset": found.listing.dataset}, {"dataset": new.listing.dataset})
    old, now = found.listing.class_names, new.listing.class_names
    if old != now:
        lines.append(f"class names have changed ({len(old)}, now {len(now)})")
    return lines or ["an earlier version of this program"]

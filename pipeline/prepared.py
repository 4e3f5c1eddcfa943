"""The folder that stage 1 fills: what was listed, which shards are committed, and what became of every row.

In: a Listing and PrepareOptions, or an existing folder. Out: PreparedFolder, the one object that knows the file names.
Row r of the listing is row r - i S of shard i = r // S, for ever. Reads and writes JSON; clips' arrays are
`pipeline.clips`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from pipeline.account import Account, account_of
from pipeline.clips import ClipContent, ShardReader
from pipeline.commit import canonical_json, seal, sha256, unseal, write_atomic
from pipeline.config import FRAMES, PrepareOptions
from pipeline.errors import ArtifactError, CorruptError, DataError
from pipeline.fingerprint import differences, fingerprint
from pipeline.records import Listing, VideoRecord

FORMAT = "star-prepared/1"
COLUMNS = [field.name for field in fields(VideoRecord)]


class PreparedFolder:
    """A folder of prepared clips. Use `open`, or `create` which also goes on with an existing one.

    Attributes:
        path: the folder.
        listing: its rows and what holds for all.
        options: what they were made with.
        fingerprint: digest of listing and options: what decides the content.
    """

    def __init__(self, path: Path, listing: Listing, options: PrepareOptions, stamp: str) -> None:
        self.path, self.listing, self.options, self.fingerprint = path, listing, options, stamp

    @classmethod
    def open(cls, path: Path | str) -> PreparedFolder:
        """Raises ArtifactError: no folder, another artifact, half a one; CorruptError: damaged."""
        path = Path(path)
        meta_path = path / "dataset.json"
        if not meta_path.is_file():
            raise ArtifactError(
                path,
                _what_instead(path),
                expected="a folder made by `star prepare`",
                remedy="run `star prepare` first and give its --out here",
            )
        meta = unseal(meta_path.read_bytes(), meta_path)
        if meta.get("format") != FORMAT:
            raise ArtifactError(meta_path, "is of another format", got=meta.get("format"), expected=FORMAT)
        listing = Listing(
            dataset=meta["dataset"],
            class_names=tuple(meta["class_names"]),
            topology=meta["topology"],
            protocols=tuple(meta["protocols"]),
            roots=meta["roots"],
            records=tuple(VideoRecord(**dict(zip(meta["columns"], row, strict=True))) for row in meta["rows"]),
        )
        return cls(path, listing, PrepareOptions(**meta["options"]), meta["fingerprint"])

    @classmethod
    def create(cls, path: Path, listing: Listing, options: PrepareOptions) -> PreparedFolder:
        """Freeze the listing in `dataset.json`; where that exists already, check that it is the same.

        Raises:
            ArtifactError: the folder was made from other rows or options (the differences are named), or holds
                something else.
            DataError: nothing is listed.
        """
        if not listing.records:
            raise DataError("the listing", "holds no clip", remedy="check the folders given")
        stamp = fingerprint({"listing": listing_digest(listing), "options": options.content()})
        if (path / "dataset.json").exists():
            found = cls.open(path)
            if found.fingerprint != stamp:
                raise ArtifactError(
                    path / "dataset.json",
                    "was made from something else: " + "; ".join(_what_differs(found, listing, options)),
                    remedy="use the same options and input again, or another --out",
                )
            # the same content may lie elsewhere now, and be read by another reader
            return cls(path, listing, options, stamp)
        if path.is_dir() and any(p for p in path.iterdir() if p.name not in ("raw", "log") and p.name[0] != "."):
            raise ArtifactError(path, "is not empty and is no prepared folder", remedy="choose another --out")
        meta = {
            "format": FORMAT,
            "fingerprint": stamp,
            "dataset": listing.dataset,
            "topology": listing.topology,
            "protocols": list(listing.protocols),
            "options": asdict(options),
            "roots": dict(listing.roots),
            "versions": versions(),
            "class_names": list(listing.class_names),
            "columns": COLUMNS,
            "rows": [list(astuple(record)) for record in listing.records],
        }
        write_atomic(path / "dataset.json", seal(meta))
        return cls(path, listing, options, stamp)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.listing.records) // self.options.shard_clips)

    def rows(self, shard: int) -> range:
        """The rows of a shard."""
        size = self.options.shard_clips
        return range(shard * size, min((shard + 1) * size, len(self.listing.records)))

    def shard_path(self, shard: int) -> Path:
        """Its HDF5 file."""
        return self.path / f"clips-{shard:05d}.h5"

    def commit_path(self, shard: int) -> Path:
        """Its commit record."""
        return self.path / f"clips-{shard:05d}.json"

    def commit(self, shard: int, data: bytes, clips: list[dict[str, Any]]) -> None:
        """Put a shard's file, then the record that names it: from then on the shard is done."""
        write_atomic(self.shard_path(shard), data)
        record = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "shard": shard,
            "file": self.shard_path(shard).name,
            "bytes": len(data),
            "sha256": sha256(data),
            "clips": clips,
        }
        write_atomic(self.commit_path(shard), seal(record))

    def record(self, shard: int) -> dict[str, Any] | None:
        """A shard's commit record, or None where it is not committed.

        Raises:
            CorruptError: the record is damaged, or belongs to other content.
        """
        path = self.commit_path(shard)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        record = unseal(data, path)
        if record["fingerprint"] != self.fingerprint or record["shard"] != shard:
            raise CorruptError(path, "belongs to another prepared folder", remedy="delete it and run prepare again")
        return record

    def clips(self, shard: int, record: dict[str, Any]) -> list[ClipContent | None]:
        """The clips of a committed shard, None where a row is not done."""
        with ShardReader(self.shard_path(shard)) as reader:
            return [reader.clip(i) if row["outcome"] == "done" else None for i, row in enumerate(record["clips"])]

    def outcomes(self) -> list[dict[str, Any]]:
        """For every row: its entry in a commit record, or {"id", "outcome": "pending"}."""
        entries: list[dict[str, Any]] = []
        for shard in range(self.shards):
            record = self.record(shard)
            if record is None:
                ids = (self.listing.records[row].clip_id for row in self.rows(shard))
                entries += [{"id": clip_id, "outcome": "pending"} for clip_id in ids]
            else:
                entries += record["clips"]
        return entries

    def account(self) -> Account:
        """How all rows ended."""
        return account_of([(entry["outcome"], entry.get("reason", "")) for entry in self.outcomes()])

    def content_digest(self) -> str:
        """SHA-256 over fingerprint, outcomes, reasons and clips' digests: what a user would call the content."""
        rows = [[e["id"], e["outcome"], e.get("reason", ""), e.get("sha256", "")] for e in self.outcomes()]
        return sha256(canonical_json([self.fingerprint, rows]))

    def write_manifest(self) -> None:
        """`manifest.jsonl`: one line a row, derived from the records, for people and scripts."""
        lines = []
        for row, entry in enumerate(self.outcomes()):
            record = self.listing.records[row]
            lines.append(json.dumps({"row": row, **entry, "label": record.label, "video": record.video}))
        write_atomic(self.path / "manifest.jsonl", ("\n".join(lines) + "\n").encode())


def listing_digest(listing: Listing) -> str:
    """SHA-256 of the rows and what holds for all; not of where they lie."""
    return sha256(
        canonical_json(
            [
                listing.dataset,
                listing.topology,
                list(listing.class_names),
                COLUMNS,
                [list(astuple(record)) for record in listing.records],
                FRAMES,
            ]
        )
    )


def versions() -> dict[str, str]:
    """Of what decides the bytes; told, never compared."""
    from importlib.metadata import version

    return {name: version(name) for name in ("star-tokens", "numpy", "av", "h5py", "pillow")}


def _what_differs(found: PreparedFolder, listing: Listing, options: PrepareOptions) -> list[str]:
    lines = differences(found.options.content(), options.content())
    old = {record.clip_id: record for record in found.listing.records}
    new = {record.clip_id: record for record in listing.records}
    for word, names in (
        ("no longer there", sorted(old.keys() - new.keys())),
        ("new", sorted(new.keys() - old.keys())),
        ("told otherwise", sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    ):
        if names:
            lines.append(f"{len(names)} clips are {word} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
    if not lines:
        lines = differences(
            {"dataset": found.listing.dataset, "classes": list(found.listing.class_names)},
            {"dataset": listing.dataset, "classes": list(listing.class_names)},
        )
    return lines


def _what_instead(path: Path) -> str:
    if not path.exists():
        return "does not exist"
    if path.is_file():
        return "is a file"
    if (path / "zarr.json").exists():
        return "is a token store, not a prepared folder"
    if (path / "metrics.jsonl").exists():
        return "is a training run, not a prepared folder"
    return "holds no dataset.json"

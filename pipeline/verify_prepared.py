"""Re-reads every byte of a prepared folder against its digest.

In: a folder. Out: one Damage for each file that is not as it was committed, naming the clips it holds. Repairs
nothing. What a digest cannot tell (a video that was damaged before it was prepared) is not found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.commit import sha256
from pipeline.errors import CorruptError
from pipeline.prepared import PreparedFolder


@dataclass(frozen=True)
class Damage:
    """A file that differs, and the ids of the clips that it costs (empty: none can be told, or it holds no clip)."""

    file: str
    clips: tuple[str, ...]


def verify_prepared(path: Path) -> Iterator[Damage]:
    """Every shard of a prepared folder.

    Raises:
        ArtifactError: it is none. CorruptError: `dataset.json` itself is damaged.
    """
    folder = PreparedFolder.open(path)
    for shard in range(folder.shards):
        ids = tuple(folder.listing.records[row].clip_id for row in folder.rows(shard))
        try:
            record = folder.record(shard)
        except CorruptError:
            yield Damage(str(folder.commit_path(shard)), ids)
            continue
        if record is None:
            continue
        file = folder.shard_path(shard)
        if file.is_file() and sha256(file.read_bytes()) == record["sha256"]:
            continue
        done = tuple(clip["id"] for clip in record["clips"] if clip["outcome"] == "done")
        try:
            clips = folder.clips(shard, record)
        except (CorruptError, ValueError):
            yield Damage(str(file), done)
            continue
        entries = zip(record["clips"], clips, strict=True)
        differ = tuple(e["id"] for e, clip in entries if clip is not None and clip.digest() != e["sha256"])
        yield Damage(str(file), differ)

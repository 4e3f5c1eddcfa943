"""What commit records say of the files of a store, for its readers, who notice by it a whole file in another's place.

In: Blobs, fingerprint and sizes. Out: checksums by shard and view, each record read once; the check of a small file.
Reads no array.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.artifacts.boundary import LARGEST_JSON
from pipeline.artifacts.checksum import crc64
from pipeline.store.blobs import Blobs
from pipeline.store.commit_records import ViewShard, checked_record, each_record, record_key
from pipeline.store.layout import ArraySpec, StoreSizes, specs


class Committed(NamedTuple):
    """Of a shard and view: the CRC-64 of each small file, and the CRC-32C (n,) of each clip in the others, by array."""

    small: dict[str, int]
    clips: dict[str, np.ndarray]

    @classmethod
    def of(cls, record: dict[str, Any], kept: Iterable[ArraySpec]) -> Committed:
        small, clips = {}, {}
        for spec, entry in zip(kept, record["files"], strict=True):
            if spec.sharded:
                clips[spec.name] = np.frombuffer(bytes.fromhex(entry["crc32c"]), ">u4").astype(np.int64)
            else:
                small[spec.name] = int(entry["crc64"], 16)
        return cls(small, clips)


class CommittedFiles:
    """Reads commit records for all threads of a process, each once; those not there yet are asked for again."""

    def __init__(self, blobs: Blobs, fingerprint: str, sizes: StoreSizes) -> None:
        self._blobs, self._fingerprint, self._sizes, self._specs = blobs, fingerprint, sizes, specs(sizes)
        self._known: dict[ViewShard, Committed] = {}
        self._lock = threading.Lock()

    def of(self, view: int, shard: int) -> Committed | None:
        """None where the shard is not committed. Raises CorruptError where its record is damaged."""
        with self._lock:
            found = self._known.get((view, shard))
        if found is None:
            data = self._blobs.get(record_key((view, shard)), most=LARGEST_JSON)
            record = checked_record(self._blobs, data, self._fingerprint, self._sizes, (view, shard))
            if record is not None:
                found = self._remember((view, shard), record)
        return found

    def read(self, wanted: Sequence[ViewShard]) -> None:
        """Read many records at once, for `of`. Raises as `of`."""
        for view_shard, record in each_record(self._blobs, self._fingerprint, self._sizes, wanted):
            if record is not None:
                self._remember(view_shard, record)

    def forget(self, view: int, shard: int) -> None:
        """The shard may have been put again."""
        with self._lock:
            self._known.pop((view, shard), None)

    def _remember(self, view_shard: ViewShard, record: dict[str, Any]) -> Committed:
        found = Committed.of(record, self._specs)
        with self._lock:
            self._known[view_shard] = found
        return found

    def agrees(self, spec: ArraySpec, view: int, shard: int, data: bytes) -> bool:
        """Whether a small file is the one that was committed in its place, or nothing is committed there yet."""
        found = self.of(view, shard)
        return found is None or crc64(data) == found.small[spec.name]

"""Reads what the owner of a shard wrote, straight from its files: single clips of the large arrays, at the speed of the
hardware, and the small arrays a shard at a time.

In: Blobs and sizes; rows and views. Out: values in the caller's buffers. The index of a shard is read once; every byte
is checked against its CRC-32C. Plain zarr reads the same files, and is what the tests compare this with.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np

from pipeline.blobs import Blobs, Parts
from pipeline.checksum import CRC_BYTES
from pipeline.errors import CorruptError
from pipeline.store_chunks import REMEDY, decode_chunk, decode_file, decode_index, decompress, index_bytes
from pipeline.store_layout import ArraySpec, StoreSizes, chunk_key, spec_of, specs
from pipeline.store_records import file_entry

# Files: a process may usually have 1,024 open. So many are kept, and each thread that reads a batch may hold as many as
# it reads together beside them.
OPEN_SHARDS = 256
AT_ONCE = 128


class Shard(NamedTuple):
    """An open shard: its file and its index, offset and length of each row."""

    parts: Parts
    table: list[list[int]]


class Wanted(NamedTuple):
    """One clip of one array, and where its bytes are to go."""

    name: str
    shard: int
    view: int
    row: int
    out: memoryview


class ClipReader:
    """Reads clips of a store; of one process and its threads. A fork may use it after its parent did."""

    def __init__(self, blobs: Blobs, sizes: StoreSizes, name: Callable[[int, int], str], threads: int) -> None:
        """`name(row, view)` is how messages call a clip; so many threads read."""
        self._blobs, self._sizes, self._name, self._count = blobs, sizes, name, threads
        self._shards: dict[tuple[str, int, int], Shard] = {}
        self._lock = threading.Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def forget(self) -> None:
        """Read the indices anew: a shard may have been put again."""
        with self._lock:
            self._shards.clear()

    def small(self, spec: ArraySpec, shard: int, view: int) -> np.ndarray:
        """(n, *tail) of an unsharded array for the n rows of a shard; all fill where nothing is written yet.

        Raises:
            CorruptError: its bytes do not match their checksum.
        """
        key = chunk_key(spec, shard, view)
        return self._small(spec, shard, key, self._blobs.get(key))

    def small_of_all(self, spec: ArraySpec, views: Iterable[int]) -> np.ndarray:
        """(N, K', *tail) of an unsharded array for some views."""
        numbers = list(views)
        keys = [chunk_key(spec, shard, view) for view in numbers for shard in range(self._sizes.shards)]
        found = iter(zip(keys, self._blobs.get_many(keys), strict=True))
        columns = []
        for _ in numbers:
            parts = [self._small(spec, shard, *next(found)) for shard in range(self._sizes.shards)]
            columns.append(np.concatenate(parts))
        return np.stack(columns, axis=1)

    def _small(self, spec: ArraySpec, shard: int, key: str, data: bytes | None) -> np.ndarray:
        clips = len(self._sizes.rows(shard))
        if data is None:
            return spec.blank(clips)
        return decode_chunk(spec, data, clips, self._sizes, f"{self._blobs.url}/{key}")

    def read(self, wanted: Mapping[str, np.ndarray], rows: list[int], views: list[int]) -> None:
        """Clips of the sharded arrays `wanted`, in the order asked, each into its `out` (B, *tail), contiguous.

        Raises:
            CorruptError: bytes that are missing or do not match their checksum, and of which clip.
        """
        clips: list[Wanted] = []
        for name, out in wanted.items():
            flat, size = out.reshape(-1).view(np.uint8).data, spec_of(self._sizes, name).clip_bytes
            for i, (row, view) in enumerate(zip(rows, views, strict=True)):
                shard = row // self._sizes.shard_clips
                clips.append(Wanted(name, shard, view, row, flat[i * size : (i + 1) * size]))
        clips.sort(key=lambda clip: clip[:4])  # file by file, in its order: a disk likes that
        for first in range(0, len(clips), AT_ONCE):
            self._read_together(clips[first : first + AT_ONCE])

    def _read_together(self, clips: list[Wanted]) -> None:
        """At most AT_ONCE clips, whose files are all open at a time."""
        found = [(clip, self._shard(spec_of(self._sizes, clip.name), clip.row, clip.view)) for clip in clips]
        # One iterator for all threads: one that is held up by another program holds up no batch.
        left = iter(found)
        others = [self._threads().submit(self._fetch, left) for _ in range(min(self._count, len(clips)) - 1)]
        try:
            self._fetch(left)  # this thread works too
        finally:
            others = [other for other in others if not other.cancel()]  # begun, or nothing was left for it
            wait(others)  # nobody writes into the caller's arrays any more
        for other in others:
            other.result()

    def _fetch(self, left: Iterator[tuple[Wanted, Shard]]) -> None:
        codec = self._sizes.codec
        tail, scratch = memoryview(bytearray(CRC_BYTES)), memoryview(b"")
        for clip, shard in left:
            offset, length = shard.table[clip.row % self._sizes.shard_clips]
            size = length - CRC_BYTES
            if size < 0 or (codec == "none" and size != len(clip.out)):
                raise self._damaged(clip.name, clip.row, clip.view, "is not in its shard")
            if codec != "none" and size > len(scratch):
                scratch = memoryview(bytearray(size))
            buffer = clip.out if codec == "none" else scratch[:size]
            if shard.parts.read_into(buffer, tail, offset) != int.from_bytes(tail, "little"):
                raise self._damaged(clip.name, clip.row, clip.view, "does not match its checksum")
            if codec != "none":
                decompress(buffer, clip.out, codec, self._name(clip.row, clip.view))

    def _shard(self, spec: ArraySpec, row: int, view: int) -> Shard:
        place = (spec.name, row // self._sizes.shard_clips, view)
        opened = self._shards.get(place)
        if opened is not None:
            return opened
        key = chunk_key(spec, place[1], view)
        parts = self._blobs.parts(key)
        if parts is None:
            raise self._damaged(spec.name, row, view, f"is missing with its whole shard {key}")
        tail = parts.tail(index_bytes(self._sizes))
        opened = Shard(parts, decode_index(tail, self._sizes, f"{self._blobs.url}/{key}").tolist())
        with self._lock:
            self._shards[place] = opened
            if len(self._shards) > OPEN_SHARDS:
                self._shards.pop(next(iter(self._shards)))  # whoever reads from it still holds it
        return opened

    def _damaged(self, name: str, row: int, view: int, problem: str) -> CorruptError:
        return CorruptError(self._name(row, view), f"{name} {problem}", remedy=REMEDY)

    def _threads(self) -> ThreadPoolExecutor:
        """Made when first needed, and again after a fork, which threads do not survive."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = (os.getpid(), ThreadPoolExecutor(self._count - 1, thread_name_prefix="star-read"))
        return self._pool[1]


def read_committed(blobs: Blobs, sizes: StoreSizes, record: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """All arrays (n, *tail) of a committed shard and view, or None where a file is not as it was committed."""
    entries = {entry["key"]: entry for entry in record["files"]}
    arrays = {}
    for spec in specs(sizes):
        key = chunk_key(spec, record["shard"], record["view"])
        data = blobs.get(key)
        if data is None or file_entry(key, data) != entries[key]:
            return None
        arrays[spec.name] = decode_file(spec, data, len(record["clips"]), sizes, f"{blobs.url}/{key}")
    return arrays

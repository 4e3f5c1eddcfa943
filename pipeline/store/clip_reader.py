"""A reader of shards: single clips of the large arrays at the speed of the hardware, small arrays a shard at a time.

In: Blobs, fingerprint and sizes; rows and views. Out: values in the caller's buffers. The index of a shard is read
once, and with it the shard's commit record: every byte is checked against its CRC-32C, and that against the record, so
that a file in another's place is noticed. Plain zarr reads the same files; tests compare the two.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np

from pipeline.artifacts.checksum import CRC_BYTES
from pipeline.errors import CorruptError
from pipeline.store.blobs import Blobs, Parts
from pipeline.store.blobs_object import ReplacedError
from pipeline.store.chunks import REMEDY, decode_chunk, decode_file, decode_index, decompress, file_bytes, index_bytes
from pipeline.store.commit_records import matches, view_shards
from pipeline.store.committed import CommittedFiles
from pipeline.store.layout import ArraySpec, StoreSizes, chunk_key, specs

# The usual limit of a process is 1,024. So many stay open, and each reading thread may hold one more. NTU 120 has 3,578
# files for each view; `benchmarks/store.py --shard 1` measures a store with more files than stay open.
OPEN_FILES = 256


class MisplacedError(CorruptError):
    """A clip that is whole, but not the one that was committed in its place."""


class OpenShard:
    """The cached index of a shard's file, and the open file."""

    __slots__ = ("identity", "index", "opening", "parts")

    def __init__(self) -> None:
        self.opening = threading.Lock()  # so that only one thread opens it
        self.parts: Parts | None = None
        self.index: np.ndarray | None = None  # (n, 3) int64: offset, length, checksum; lists would be larger
        self.identity: Hashable = None  # of the file that the index was read from


class Wanted(NamedTuple):
    """One clip of one array, and the memory for its bytes."""

    name: str
    shard: int
    view: int
    row: int
    out: memoryview

    @property
    def shard_file(self) -> tuple[str, int, int]:
        """Array, shard and view: they identify a file."""
        return self[:3]


class Scratch:
    """A thread's buffers for checksums and for clips before decompression."""

    def __init__(self) -> None:
        self.crc, self._encoded = memoryview(bytearray(CRC_BYTES)), memoryview(b"")

    def encoded(self, size: int) -> memoryview:
        if size > len(self._encoded):
            self._encoded = memoryview(bytearray(size))
        return self._encoded[:size]


class ClipReader:
    """Reads clips of a store for all threads of a process; after a fork it starts afresh."""

    def __init__(
        self, blobs: Blobs, fingerprint: str, sizes: StoreSizes, name: Callable[[int, int], str], threads: int
    ) -> None:
        """`name(row, view)` names a clip in errors; `threads` read at the same time."""
        self._blobs, self._fingerprint, self._sizes, self._name, self._count = blobs, fingerprint, sizes, name, threads
        self._specs = {spec.name: spec for spec in specs(sizes)}
        self._longest = {name: file_bytes(spec, 1, sizes) for name, spec in self._specs.items()}  # bytes of a clip
        self._begin()

    def _begin(self) -> None:
        """(Re)initialise: threads do not survive a fork, and locks that they held stay locked."""
        self._shards: dict[tuple[str, int, int], OpenShard] = {}
        self._kept: OrderedDict[OpenShard, None] = OrderedDict()  # with open files, least recently used first
        self._committed = CommittedFiles(self._blobs, self._fingerprint, self._sizes)
        self._pool = ThreadPoolExecutor(max(1, self._count - 1), thread_name_prefix="star-read")  # starts no thread yet
        self._lock = threading.Lock()
        self._process = os.getpid()

    def forget(self) -> None:
        """Drop all indices: a shard may have been put again."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            self._shards.clear()
            self._kept.clear()
            self._committed = CommittedFiles(self._blobs, self._fingerprint, self._sizes)

    def small(self, spec: ArraySpec, shard: int, view: int) -> np.ndarray:
        """(n, *tail) of an unsharded array for the n rows of a shard; all fill value where nothing is written yet.
        Raises CorruptError where its bytes do not match their checksum, or were committed in another place."""
        key = chunk_key(spec, shard, view)
        for fresh in (False, True):
            if fresh:  # it may have been put again since the record was read
                self._committed.forget(view, shard)
            data = self._blobs.get(key, most=file_bytes(spec, self._sizes.shard_clips, self._sizes))
            values = self._small(spec, shard, key, data)
            if data is None or self._committed.agrees(spec, view, shard, data):
                return values
        item = f"{self._blobs.url}/{key}"
        raise MisplacedError(item, "is not the file that was committed in its place", remedy=REMEDY)

    def small_of_all(self, spec: ArraySpec) -> np.ndarray:
        """(N, K, *tail) of an unsharded array. Raises as `small`."""
        every = view_shards(self._sizes)
        keys = [chunk_key(spec, shard, view) for view, shard in every]
        most = file_bytes(spec, self._sizes.shard_clips, self._sizes)
        found = list(zip(every, keys, self._blobs.get_many(keys, most=most), strict=True))
        self._committed.read([view_shard for view_shard, _, data in found if data is not None])
        parts = [
            self._small(spec, shard, key, data)
            if data is None or self._committed.agrees(spec, view, shard, data)
            else self.small(spec, shard, view)
            for (view, shard), key, data in found
        ]
        return np.concatenate(parts).reshape(self._sizes.views, self._sizes.clips, *spec.tail).swapaxes(0, 1)

    def _small(self, spec: ArraySpec, shard: int, key: str, data: bytes | None) -> np.ndarray:
        clips = len(self._sizes.rows(shard))
        if data is None:
            return spec.blank(clips)
        return decode_chunk(spec, data, clips, self._sizes, f"{self._blobs.url}/{key}")

    def read(self, wanted: Mapping[str, np.ndarray], rows: list[int], views: list[int]) -> None:
        """Read clips of sharded arrays into `wanted`: by name a contiguous (B, *tail), in the order of `rows`.

        Raises:
            CorruptError: a clip's bytes are missing or do not match their checksum.
        """
        if self._process != os.getpid():
            self._begin()
        clips: list[Wanted] = []
        for name, out in wanted.items():
            flat, size = out.reshape(-1).view(np.uint8).data, self._specs[name].clip_bytes
            for i, (row, view) in enumerate(zip(rows, views, strict=True)):
                shard = row // self._sizes.shard_clips
                clips.append(Wanted(name, shard, view, row, flat[i * size : (i + 1) * size]))
        clips.sort(key=lambda clip: clip[:4])  # sequential reads, file by file
        # All threads share one iterator, so that a slow thread does not delay the batch.
        left = iter(clips)
        others = [self._pool.submit(self._fetch, left) for _ in range(min(self._count, len(clips)) - 1)]
        try:
            self._fetch(left)  # this thread works too
        finally:
            others = [other for other in others if not other.cancel()]  # those not started have nothing left to do
            wait(others)  # so that no thread writes into the caller's arrays any more
        for other in others:
            other.result()

    def _fetch(self, left: Iterator[Wanted]) -> None:
        scratch = Scratch()
        for clip in left:
            try:
                self._read_clip(clip, scratch)
            except (ReplacedError, MisplacedError):  # read the new file, by its own index and record
                with self._lock:
                    self._shards.pop(clip.shard_file, None)
                    self._committed.forget(clip.view, clip.shard)
                self._read_clip(clip, scratch)

    def _read_clip(self, clip: Wanted, scratch: Scratch) -> None:
        parts, index = self._opened(clip)
        offset, length, checksum = index[clip.row % self._sizes.shard_clips].tolist()
        size, codec = length - CRC_BYTES, self._sizes.codec
        if size < 0 or offset < 0 or size > self._longest[clip.name] or (codec == "none" and size != len(clip.out)):
            raise self._damaged(clip, "is not in its shard")
        buffer = clip.out if codec == "none" else scratch.encoded(size)
        found = parts.read_into(buffer, scratch.crc, offset)
        if found != int.from_bytes(scratch.crc, "little"):
            raise self._damaged(clip, "does not match its checksum")
        if found != checksum:
            name = self._name(clip.row, clip.view)
            raise MisplacedError(name, f"{clip.name} is not what was committed in its place", remedy=REMEDY)
        if codec != "none":
            decompress(buffer, clip.out, codec, self._name(clip.row, clip.view))

    def _opened(self, clip: Wanted) -> tuple[Parts, np.ndarray]:
        """The open file of a clip's shard, and its index."""
        with self._lock:
            shard = self._shards.get(clip.shard_file)
            if shard is None:
                shard = self._shards[clip.shard_file] = OpenShard()
        with shard.opening:
            parts, index = shard.parts, shard.index
            if parts is None or index is None:
                parts, index = self._open(clip, shard)
        if parts.holds_file:
            self._keep(shard)
        return parts, index

    def _open(self, clip: Wanted, shard: OpenShard) -> tuple[Parts, np.ndarray]:
        key = chunk_key(self._specs[clip.name], clip.shard, clip.view)
        parts = self._blobs.parts(key)
        if parts is None:
            raise self._damaged(clip, f"is missing with its whole shard {key}")
        index = shard.index
        if index is None or shard.identity != parts.identity:  # not read yet, or the file was put again
            index = self._index(clip, parts, key)
        shard.parts, shard.index, shard.identity = parts, index, parts.identity
        return parts, index

    def _index(self, clip: Wanted, parts: Parts, key: str) -> np.ndarray:
        """(n, 3) of a shard's rows: where its clip lies, and its checksum by the commit record."""
        tail = parts.tail(index_bytes(self._sizes))
        places = decode_index(tail, self._sizes, f"{self._blobs.url}/{key}")
        committed = self._committed.of(clip.view, clip.shard)
        if committed is None:
            problem = "has no commit record: it is not finished, or is being made again"
            raise CorruptError(f"{self._blobs.url}/{key}", problem, remedy=REMEDY)
        return np.column_stack([places[: len(committed.clips[clip.name])], committed.clips[clip.name]])

    def _keep(self, shard: OpenShard) -> None:
        """Keep its file open; close the least recently used one where there are too many."""
        oldest = None
        with self._lock:
            self._kept[shard] = None
            self._kept.move_to_end(shard)
            if len(self._kept) > OPEN_FILES:
                oldest, _ = self._kept.popitem(last=False)
        if oldest is not None:
            oldest.parts = None  # a thread that reads from it still holds it

    def _damaged(self, clip: Wanted, problem: str) -> CorruptError:
        return CorruptError(self._name(clip.row, clip.view), f"{clip.name} {problem}", remedy=REMEDY)


def read_committed(blobs: Blobs, sizes: StoreSizes, record: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """All arrays (n, *tail) of a committed shard and view, or None where a file has changed since."""
    entries = {entry["key"]: entry for entry in record["files"]}
    arrays = {}
    for spec in specs(sizes):
        key = chunk_key(spec, record["shard"], record["view"])
        data = blobs.get(key, most=file_bytes(spec, len(record["clips"]), sizes))
        if data is None or not matches(entries[key], data):
            return None
        arrays[spec.name] = decode_file(spec, data, len(record["clips"]), sizes, f"{blobs.url}/{key}")
    return arrays

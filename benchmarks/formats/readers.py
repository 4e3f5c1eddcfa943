"""Batches of given rows, by one process without a loader, from each format.

In: a folder that `writers` filled. Out: a function from rows (B,) to their tokens, and a note. A
format without row access gives batches in its own order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from formats.writers import BATCH, GG, JM
from pipeline.store.blobs_local import LocalBlobs

Read = Callable[[np.ndarray], object]


def read_preadv(root: Path) -> Read:
    handles = [os.open(root / name, os.O_RDONLY) for name in ("gg", "jm")]
    buffers = [np.zeros((BATCH, *shape), np.float16) for shape in (GG, JM)]

    def read(rows: np.ndarray) -> object:
        for handle, buffer in zip(handles, buffers, strict=True):
            size = buffer[0].nbytes
            for target, row in zip(buffer, rows.tolist(), strict=False):
                os.preadv(handle, [target.data], row * size)
        return buffers

    return read


def read_memmap(root: Path) -> Read:
    maps = [np.memmap(root / name, np.float16, "r").reshape(-1, *shape) for name, shape in (("gg", GG), ("jm", JM))]
    return lambda rows: [array[rows] for array in maps]


def read_preadv_twice(root: Path) -> Read:
    """Two threads, each with half of the batch."""
    halves = [read_preadv(root) for _ in range(2)]
    pool = ThreadPoolExecutor(1)

    def read(rows: np.ndarray) -> object:
        other = pool.submit(halves[0], rows[: BATCH // 2])
        return halves[1](rows[BATCH // 2 :]), other.result()

    return read


def read_ours(root: Path, threads: int | None = None) -> Read:
    from pipeline.store.token_store import TokenStore

    store = TokenStore.open(root, threads=threads)
    buffers = store.buffers(BATCH)
    return lambda rows: store.read(rows, out=buffers)


def read_ours_alone(root: Path) -> Read:
    return read_ours(root, threads=1)


def read_ours_fresh(root: Path) -> Read:
    from pipeline.store.token_store import TokenStore

    return TokenStore.open(root).read


def read_zarr(root: Path) -> Read:
    import zarr

    group = zarr.open_group(root, mode="r")
    arrays: list[Any] = [group[name] for name in ("gg", "jm")]
    return lambda rows: [np.stack([array[row, 0] for row in rows.tolist()]) for array in arrays]


def read_tensorstore(root: Path) -> Read:
    import tensorstore

    driver = {"driver": "zarr3", "kvstore": {"driver": "file"}}
    specs = [{**driver, "kvstore": {"driver": "file", "path": f"{root / name}/"}} for name in ("gg", "jm")]
    arrays = [tensorstore.open(spec).result() for spec in specs]

    def read(rows: np.ndarray) -> object:
        waiting = [array[rows, 0].read() for array in arrays]
        return [future.result() for future in waiting]

    return read


def read_hdf5(root: Path) -> Read:
    import h5py

    file = h5py.File(root / "a.h5", "r")
    buffers = [np.zeros((BATCH, *shape), np.float16) for shape in (GG, JM)]

    def read(rows: np.ndarray) -> object:
        for name, buffer in zip(("gg", "jm"), buffers, strict=True):
            for i, row in enumerate(rows.tolist()):
                file[name].read_direct(buffer, np.s_[row], np.s_[i])
        return buffers

    return read


def read_webdataset(root: Path) -> Read:
    """In its own order, shuffled in a buffer: it has no other."""
    import webdataset

    urls = sorted(str(path) for path in root.glob("*.tar"))
    data = iter(webdataset.WebDataset(urls, shardshuffle=False).repeat().shuffle(128))

    def read(rows: np.ndarray) -> object:
        clips = [next(data) for _ in rows]
        gg = np.stack([np.frombuffer(clip["gg.bin"], np.float16).reshape(GG) for clip in clips])
        return gg, np.stack([np.frombuffer(clip["jm.bin"], np.float16).reshape(JM) for clip in clips])

    return read


def read_litdata(root: Path) -> Read:
    """In its own order, chunks and the clips in them shuffled."""
    from litdata import StreamingDataset

    data = StreamingDataset(str(root), shuffle=True)

    def clips() -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield from data

    given = clips()

    def read(rows: np.ndarray) -> object:
        batch = [next(given) for _ in rows]
        return [np.stack([clip[name] for clip in batch]) for name in ("gg", "jm")]

    return read


class Reader(NamedTuple):
    """Which format it reads, the module that it needs, how many threads it reads with ("own": it decides), and how."""

    format: str
    needs: str
    threads: str
    opened: Callable[[Path], Read]


LIMIT = "preadv, one buffer"
READERS = {
    LIMIT: Reader("flat", "", "1", read_preadv),
    "preadv, two buffers": Reader("flat", "", "2", read_preadv_twice),
    "TokenStore.read(out=)": Reader("ours", "", str(LocalBlobs.threads), read_ours),
    "same, one thread": Reader("ours", "", "1", read_ours_alone),
    "TokenStore.read": Reader("ours", "", str(LocalBlobs.threads), read_ours_fresh),
    "memmap": Reader("flat", "", "1", read_memmap),
    "tensorstore": Reader("ours", "tensorstore", "own", read_tensorstore),
    "h5py": Reader("hdf5", "h5py", "1", read_hdf5),
    "WebDataset (its order)": Reader("webdataset", "webdataset", "1", read_webdataset),
    "LitData (its order)": Reader("litdata", "litdata", "own", read_litdata),
    "zarr-python": Reader("ours", "", "own", read_zarr),
}

"""Batches of tensors from each format by its usual loader with two workers, in shuffled order.

In: a folder that `writers` filled, and the rows of each batch. Out: batches without end, or as many as there are rows.
Workers are those of the format's own loader: processes, but threads with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from formats.writers import BATCH, GG, JM

WORKERS = 2
Batches = Iterator[object]


def load_ours(root: Path, rows: list[list[int]], kinds: tuple[str, ...] = ("gg", "jm")) -> Batches:
    from star.data.dataset import TokenDataset
    from star.data.loader import loader

    return loader(TokenDataset(root, tokens=kinds, in_memory=False), rows, workers=WORKERS, pin=False)


def load_joints(root: Path, rows: list[list[int]]) -> Batches:
    return load_ours(root, rows, ("jm",))


class Clips(Dataset[tuple[torch.Tensor, ...]]):
    """Clip by clip, as data sets are usually written; opened in the process that reads."""

    def __init__(self, root: Path, opened: Callable[[Path], list[np.ndarray]]) -> None:
        self.root, self.opened = root, opened
        self.arrays: list[np.ndarray] = []

    def __getitem__(self, row: int) -> tuple[torch.Tensor, ...]:
        if not self.arrays:
            self.arrays = self.opened(self.root)
        return tuple(torch.from_numpy(array[row]) for array in self.arrays)


def open_memmap(root: Path) -> list[np.ndarray]:
    return [np.memmap(root / name, np.float16, "c").reshape(-1, *shape) for name, shape in (("gg", GG), ("jm", JM))]


def open_hdf5(root: Path) -> list[np.ndarray]:
    import h5py

    file = h5py.File(root / "a.h5", "r")
    return [file["gg"], file["jm"]]


def load_memmap(root: Path, rows: list[list[int]]) -> Batches:
    return iter(DataLoader(Clips(root, open_memmap), batch_sampler=rows, num_workers=WORKERS))


def load_hdf5(root: Path, rows: list[list[int]]) -> Batches:
    return iter(DataLoader(Clips(root, open_hdf5), batch_sampler=rows, num_workers=WORKERS))


def load_webdataset(root: Path, rows: list[list[int]]) -> Batches:
    import webdataset

    def arrays(clip: dict[str, bytes]) -> tuple[torch.Tensor, ...]:
        found = (("gg.bin", GG), ("jm.bin", JM))
        return tuple(torch.frombuffer(bytearray(clip[name]), dtype=torch.float16).view(shape) for name, shape in found)

    urls = sorted(str(path) for path in root.glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=len(urls)).repeat().shuffle(128).map(arrays)
    return iter(webdataset.WebLoader(data.batched(BATCH), batch_size=None, num_workers=WORKERS))


def load_litdata(root: Path, rows: list[list[int]]) -> Batches:
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(root), shuffle=True)
    given = StreamingDataLoader(data, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    while True:
        yield from given


class Loader(NamedTuple):
    """Which format it reads, the module that it needs, what its workers are, and how."""

    format: str
    needs: str
    workers: str
    opened: Callable[[Path, list[list[int]]], Batches]


PEER = "memmap, DataLoader"
LOADERS = {
    PEER: Loader("flat", "", "processes", load_memmap),
    "TokenDataset": Loader("ours", "", "threads", load_ours),
    "TokenDataset, JM alone": Loader("ours", "", "threads", load_joints),
    "h5py, DataLoader": Loader("hdf5", "h5py", "processes", load_hdf5),
    "WebDataset (its order)": Loader("webdataset", "webdataset", "processes", load_webdataset),
    "LitData (its order)": Loader("litdata", "litdata", "processes", load_litdata),
}

"""Batches of a token data set, read ahead of their use.

In: a TokenDataset and the picks of each batch. Out: its batches, in order. Chooses and shuffles nothing.

Readers are threads, not processes: the system copies outside Python's lock, and a process would need new shared memory
for each batch. Measured (`benchmarks/store.py`, two workers): 3.4 times the clips a second of memmap in a DataLoader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch

from pipeline.cluster.lookahead import cancelling_pool, prefetch
from star.batch import Batch
from star.data.dataset import TokenDataset
from star.data.sampler import Pick

PREFETCHED = 4  # batches for each reader: enough to even out a disk's pauses


def workers_for(dataset: TokenDataset, device: torch.device) -> int:
    """Default number of reading threads: none where tokens are in memory, except for a GPU, which should not wait while
    they are gathered into pinned memory."""
    return 0 if dataset.held is not None and device.type == "cpu" else 2


def loader(
    dataset: TokenDataset, batches: Iterable[Sequence[int | Pick]], *, workers: int, pin: bool
) -> Iterator[Batch]:
    """The batches of these items, one read each, by `workers` threads (0: by the caller's thread, when needed)."""
    read = partial(dataset.read, pin=pin)
    if workers == 0:
        yield from map(read, batches)
        return
    with cancelling_pool(workers) as pool:
        yield from prefetch(pool, read, batches, depth=PREFETCHED * workers - 1)

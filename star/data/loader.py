"""Batches of a token data set, read ahead of their use.

In: a TokenDataset and the picks of each batch. Out: its `Batch`es, in order. Chooses and shuffles nothing.

Readers are threads, not processes: the system copies outside Python's lock, and a process would need new shared memory
for each batch. Measured (`benchmarks/store.py`, two workers): 3.4 times the clips a second of memmap in a DataLoader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from star.data.dataset import Batch, TokenDataset
from star.data.sampler import Pick

AHEAD = 4  # batches for each reader: enough to even out a disk's pauses


def workers_for(dataset: TokenDataset, device: torch.device) -> int:
    """Threads that read ahead where nobody says how many: none where tokens lie in memory, but for a GPU, which should
    not wait while they are gathered into pinned memory."""
    return 0 if dataset.in_memory and device.type == "cpu" else 2


def loader(
    dataset: TokenDataset, batches: Iterable[Sequence[int | Pick]], *, workers: int, pin: bool
) -> Iterator[Batch]:
    """The batches of these items, each by one read, by `workers` threads (0: when asked for, by the caller's)."""
    if workers == 0:
        for items in batches:
            yield dataset.read(items, pin=pin)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="star-loader")
    ahead: deque[Future[Batch]] = deque()
    try:
        for items in batches:
            ahead.append(pool.submit(dataset.read, items, pin=pin))
            if len(ahead) == AHEAD * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

"""A token store as a torch data set.

In: a store, a protocol and its split, token kinds, views. Out: clips, or whole batches read at once, as tensors
gg (B, T, P, D), jm (B, T, V, D'), joint_mask (B, T, V), labels (B,), clips (B,) (rows of the store). A kind that was
not asked for has no channels. Does not shuffle (`star.data.sampler`), standardise (`star.model`) or augment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from pipeline.errors import ConfigError
from pipeline.records import keyed_rng
from pipeline.store.batches import TOKEN_KINDS, TokenBatch
from pipeline.store.token_store import TokenStore
from star.data.sampler import Pick
from star.data.selection import rows_of_split, share_of_each_class, usable_views
from star.distributed.machine import free_bytes

READ_AT_ONCE = 64  # clips: what is read in one call when a whole split goes into memory


def kinds_of(tokens: str | Sequence[str]) -> tuple[str, ...]:
    """The token kinds behind "gg", "jm" or "both", as a model's config has them, or those that are listed.

    Raises:
        ConfigError: another kind.
    """
    kinds = (TOKEN_KINDS if tokens == "both" else (tokens,)) if isinstance(tokens, str) else tuple(tokens)
    for kind in kinds:
        if kind not in TOKEN_KINDS:
            raise ConfigError("tokens", "no such kind", got=repr(kind), expected="gg | jm | both")
    return kinds


class Batch(NamedTuple):
    """Clips of a store, or one of them without the first axis; tokens are float16, the mask bool, the rest int64."""

    gg: Tensor
    jm: Tensor
    joint_mask: Tensor
    labels: Tensor
    clips: Tensor


class TokenDataset(Dataset[Batch]):
    """One split of a token store.

    An item is a clip; with views="all" it is a clip in one view (item i: clip i // K, view i % K). It is named by its
    number, or by (epoch, number): with views="random" the view is a function of (seed, epoch, number), so that readers
    need no state (a plain number is epoch 0).

    It may be sent to a DataLoader's workers, where it opens the store anew and reads from it, whatever is held in
    memory here; threads may share it.

    Args:
        store: an open store or where it lies.
        protocol: one of the store's; "" is its first.
        split: "train" or "test".
        tokens: which kinds to give: some of ("gg", "jm"), or "gg", "jm", "both".
        views: "random", "all", or a view's number.
        among: numbers of the views that "random" and "all" choose from; None: all in which no clip is pending.
        seed: of random views, of the fraction and of shuffled labels.
        frame_step: every n-th token frame.
        fraction: share of each class's clips, at least one; a smaller share is part of a larger one.
        shuffled_labels: labels are dealt out at random among the clips (a control).
        in_memory: hold all tokens of the split; None: if they take at most a quarter of the free memory.

    Attributes:
        rows: (n,) rows of the store; labels: (n,); left_out: clips of the split that have no tokens (failed, excluded).

    Raises:
        ConfigError: unknown protocol, split, token kind or view.
        ArtifactError: no store, or an unfinished one.
        DataError: the split is empty.
    """

    def __init__(
        self,
        store: TokenStore | str | Path,
        *,
        protocol: str = "",
        split: str = "train",
        tokens: str | Sequence[str] = TOKEN_KINDS,
        views: str | int = 0,
        among: Sequence[int] | None = None,
        seed: int = 0,
        frame_step: int = 1,
        fraction: float = 1.0,
        shuffled_labels: bool = False,
        in_memory: bool | None = None,
    ) -> None:
        opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
        self.url, self._store = opened.url, opened
        self.sizes, self.attrs = opened.sizes, opened.attrs
        self.protocol = protocol or self.attrs["protocols"][0]
        self.split, self.tokens, self.seed, self.frame_step = split, kinds_of(tokens), seed, frame_step
        status = opened.status
        self.views = usable_views(opened, status, views, among)  # (K,) numbers of the views to choose from
        self.view_rule = views
        self.rows, self.left_out = rows_of_split(opened, status[:, self.views], self.protocol, split)
        labels = np.asarray(opened.labels)[self.rows]
        if fraction < 1:
            kept = share_of_each_class(labels, fraction, seed)
            self.rows, labels = self.rows[kept], labels[kept]
        if shuffled_labels:
            labels = keyed_rng(seed, "shuffled labels").permutation(labels)
        self.labels = labels
        self._view_of_epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self._held: Batch | None = None
        if self.fits_in_memory if in_memory is None else in_memory:
            self.hold()

    def __len__(self) -> int:
        return len(self.rows) * (len(self.views) if self.view_rule == "all" else 1)

    @property
    def class_names(self) -> list[str]:
        return list(self.attrs["class_names"])

    @property
    def in_memory(self) -> bool:
        return self._held is not None

    @property
    def held(self) -> Batch | None:
        """Every clip in every view, (n * K, ...), a clip's views side by side; None where they are not in memory."""
        return self._held

    @property
    def nbytes(self) -> int:
        """What all tokens of the split take in memory."""
        s = self.sizes
        a_frame = ("gg" in self.tokens) * s.cells * s.gg_channels + ("jm" in self.tokens) * s.joints * s.jm_channels
        return 2 * len(self.rows) * len(self.views) * len(range(0, s.frames, self.frame_step)) * a_frame

    @property
    def fits_in_memory(self) -> bool:
        """Whether they take at most a quarter of what is free now."""
        return self.nbytes <= free_bytes(torch.device("cpu")) / 4

    def clip_ids(self) -> np.ndarray:
        """(n,) str."""
        return self.store.clip_ids[self.rows]

    @property
    def store(self) -> TokenStore:
        if self._store is None:
            # a DataLoader's spawned workers share the cores: a thread each
            self._store = TokenStore.open(self.url, threads=None if get_worker_info() is None else 1)
        return self._store

    def __getstate__(self) -> dict[str, object]:
        """To another process goes what it needs to read for itself: not a store, nor gigabytes of tokens."""
        return {**self.__dict__, "_store": None, "_held": None}

    def __getitem__(self, item: int | Pick) -> Batch:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int | Pick]) -> list[Batch]:
        batch = self.read(items)
        return [Batch._make(tensor[i] for tensor in batch) for i in range(len(items))]

    def read(self, items: Sequence[int | Pick], *, pin: bool = False) -> Batch:
        """A batch, read at once, into pinned memory if asked; no items give a batch of none."""
        picks = np.asarray([(0, item) if isinstance(item, int | np.integer) else item for item in items], np.int64)
        epochs, numbers = picks.reshape(-1, 2).T
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"items {numbers.min()} to {numbers.max()} of {len(self)}")
        clips, views = self._clips_and_views(epochs, numbers)
        batch = self._room(len(items), pin)
        if self._held is None:
            self._fetch(self.rows[clips], self.views[views], batch)
        else:
            at = torch.from_numpy(clips * len(self.views) + views)
            for held, tensor in zip(self._held[:3], batch[:3], strict=True):
                torch.index_select(held, 0, at, out=tensor)
        batch.labels.numpy()[:] = self.labels[clips]
        batch.clips.numpy()[:] = self.rows[clips]
        return batch

    def _room(self, clips: int, pin: bool = False) -> Batch:
        """Empty tensors for a batch of so many clips."""
        s, frames = self.sizes, len(range(0, self.sizes.frames, self.frame_step))
        gg, jm = s.gg_channels * ("gg" in self.tokens), s.jm_channels * ("jm" in self.tokens)

        def empty(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(clips, *shape, dtype=dtype, pin_memory=pin)

        return Batch(
            gg=empty(frames, s.cells, gg, dtype=torch.float16),
            jm=empty(frames, s.joints, jm, dtype=torch.float16),
            joint_mask=empty(frames, s.joints, dtype=torch.bool),
            labels=empty(dtype=torch.int64),
            clips=empty(dtype=torch.int64),
        )

    def _clips_and_views(self, epochs: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each item its place among the rows, and its place among the views."""
        if self.view_rule == "all":
            return np.divmod(numbers, len(self.views))
        if self.view_rule != "random" or len(self.views) == 1:
            return numbers, np.zeros_like(numbers)
        views = np.empty_like(numbers)
        for epoch in np.unique(epochs).tolist():
            known, drawn = self._view_of_epoch  # both at once: readers are threads
            if known != epoch:
                drawn = keyed_rng(self.seed, "views", epoch).integers(len(self.views), size=len(self.rows))
                self._view_of_epoch = (epoch, drawn)
            views[epochs == epoch] = drawn[numbers[epochs == epoch]]
        return numbers, views

    def _fetch(self, rows: np.ndarray, views: np.ndarray, out: Batch) -> None:
        """gg, jm and joint_mask from the store; labels are left to the caller."""
        room = TokenBatch(*(tensor.numpy() for tensor in out[:4]))
        if self.frame_step == 1:
            self.store.read(rows, view=views, tokens=self.tokens, out=room)
            return
        read = self.store.read(rows, view=views, tokens=self.tokens)
        for target, values in zip(room[:3], read[:3], strict=True):
            target[:] = values[:, :: self.frame_step]

    def hold(self) -> None:
        """Hold all tokens of the split in memory from now on; they are read in order of the rows."""
        if self._held is not None:
            return
        held = self._room(len(self.rows) * len(self.views))
        rows, views = np.repeat(self.rows, len(self.views)), np.tile(self.views, len(self.rows))
        for first in range(0, len(rows), READ_AT_ONCE):
            part = slice(first, first + READ_AT_ONCE)
            self._fetch(rows[part], views[part], Batch._make(tensor[part] for tensor in held))
        held.labels.numpy()[:] = np.repeat(self.labels, len(self.views))
        held.clips.numpy()[:] = rows
        self._held = held

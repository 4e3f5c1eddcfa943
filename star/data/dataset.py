"""A token store as a torch data set.

In: a store, a protocol and its split, token kinds, views. Out: clips, or whole batches read at once, as
`star.batch.Batch`. Does not shuffle (`star.data.sampler`), standardise (`star.model`) or augment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map  # the documented way to extend default_collate

from pipeline.config import one_of
from pipeline.errors import ConfigError
from pipeline.records import keyed_rng
from pipeline.store.batches import JOINT_FIELDS, TOKEN_KINDS, TokenBatch
from pipeline.store.layout import spec_of
from pipeline.store.token_store import TokenStore
from star.batch import Batch
from star.data.frames import frames_of, thinned, thinned_joints
from star.data.sampler import Pick
from star.data.selection import rows_of_split, share_of_each_class, usable_views
from star.distributed.machine import free_bytes


class HeldOut(TypedDict):
    """Which training clips are held out to validate (`star.config.options.DataConfig`)."""

    validation: float
    fold: int


READ_AT_ONCE = 64  # clips of one read when a whole split goes into memory


def _kinds_of(tokens: str | Sequence[str]) -> tuple[str, ...]:
    """The token kinds behind "gg", "jm" or "both", as a model's config has them, or those that are listed."""
    kinds = (TOKEN_KINDS if tokens == "both" else (tokens,)) if isinstance(tokens, str) else tuple(tokens)
    for kind in kinds:
        if kind not in TOKEN_KINDS:
            raise ConfigError("tokens", "no such kind", got=repr(kind), expected="gg | jm | both")
    return kinds


def _stacked(clips: Sequence[Batch], *, collate_fn_map: object = None) -> Batch:
    names = clips[0].tensors()
    return Batch(**{name: torch.stack([getattr(clip, name) for clip in clips]) for name in names})


default_collate_fn_map[Batch] = _stacked  # so that a plain DataLoader takes a TokenDataset


class TokenDataset(Dataset[Batch]):
    """One split of a token store.

    An item is a clip; with views="all" it is a clip in one view (item i: clip i // K, view i % K). Its index is a
    number, or (epoch, number): with views="random" the view is a function of (seed, epoch, number), so that readers
    need no state (a plain number is epoch 0).

    A DataLoader's worker process gets no tokens, even if they are in memory here: it opens the store again and reads
    from it. Threads may share a data set.

    Args:
        store: an open store, its path or URL.
        protocol: one of the store's; "" is its first.
        split: "train", "test", or "val" where there is one (`star.data.selection.sides_of`).
        tokens: the token kinds to read: some of ("gg", "jm"), or "gg", "jm", "both".
        fields: what else to read: some of ("joints", "joint_scores", "xyz").
        views: "random", "all", or a view's number.
        among: numbers of the views that "random" and "all" choose from; None: all in which no clip is pending.
        seed: of random views, of the fraction and of shuffled labels.
        frame_step, frame_mean: every n-th token frame, or the mean of each n (`star.data.frames`); fields: every n-th.
        fraction: share of each class's clips, at least one; a smaller share is part of a larger one.
        shuffled_labels: permute the labels at random among the clips (a control).
        validation, fold: which training clips are "val" instead (`star.config.options.DataConfig`); none by default.
        in_memory: hold all tokens of the split; None: if they take at most a quarter of the free memory.

    Attributes:
        rows: (n,) rows of the store; labels: (n,).
        held_out: `validation` and `fold`, as given.
        left_out: clips of the split that have no tokens (failed, missing, excluded).

    Raises:
        ConfigError: unknown protocol, split, fold, token kind or view.
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
        fields: Sequence[str] = (),
        views: str | int = 0,
        among: Sequence[int] | None = None,
        seed: int = 0,
        frame_step: int = 1,
        frame_mean: bool = False,
        fraction: float = 1.0,
        shuffled_labels: bool = False,
        validation: float = 0.0,
        fold: int = 0,
        in_memory: bool | None = None,
    ) -> None:
        opened = store if isinstance(store, TokenStore) else TokenStore.open(store)
        self.url, self._store = opened.url, opened
        self.sizes, self.attrs = opened.sizes, opened.attrs
        self.protocol = protocol or self.attrs["protocols"][0]
        self.split, self.tokens, self.seed, self.frame_step = split, _kinds_of(tokens), seed, frame_step
        self.frame_mean = frame_mean
        self.fields = tuple(fields)
        for name in self.fields:
            one_of("fields", name, JOINT_FIELDS)
        status = opened.status
        self.views = usable_views(opened, status, views, among)  # (K,) numbers of the views to choose from
        self.view_choice = views
        self.held_out: HeldOut = {"validation": validation, "fold": fold}
        self.rows, self.left_out = rows_of_split(opened, status[:, self.views], self.protocol, split, **self.held_out)
        labels = np.asarray(opened.labels)[self.rows]
        if fraction < 1:
            kept = share_of_each_class(labels, fraction, seed)
            self.rows, labels = self.rows[kept], labels[kept]
        if shuffled_labels:
            labels = keyed_rng(seed, "shuffled labels").permutation(labels)
        self.labels = labels
        self._view_of_epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.held: Batch | None = None  # every clip in every view, (n * K, ...), a clip's views side by side
        if self.fits_in_memory if in_memory is None else in_memory:
            self.hold()

    def __len__(self) -> int:
        return len(self.rows) * (len(self.views) if self.view_choice == "all" else 1)

    @property
    def class_names(self) -> list[str]:
        return list(self.attrs["class_names"])

    @property
    def nbytes(self) -> int:
        """Bytes of all tokens and fields of the split."""
        s = self.sizes
        per_frame = ("gg" in self.tokens) * s.cells * s.gg_channels + ("jm" in self.tokens) * s.joints * s.jm_channels
        fields = sum(spec_of(s, name).clip_bytes for name in self.fields) // s.frames
        per_frame = 2 * per_frame + fields
        return len(self.rows) * len(self.views) * frames_of(s.frames, self.frame_step) * per_frame

    @property
    def fits_in_memory(self) -> bool:
        """Whether the tokens take at most a quarter of the memory that is free now."""
        return self.nbytes <= free_bytes(torch.device("cpu")) / 4

    def clip_ids(self) -> np.ndarray:
        """(n,) str."""
        return self.store.clip_ids[self.rows]

    @property
    def store(self) -> TokenStore:
        if self._store is None:
            # one thread in a DataLoader's worker: the workers share the cores
            self._store = TokenStore.open(self.url, threads=None if get_worker_info() is None else 1)
        return self._store

    def __getstate__(self) -> dict[str, object]:
        """Without the open store and the tokens in memory: another process reads for itself."""
        return {**self.__dict__, "_store": None, "held": None}

    def __getitem__(self, item: int | Pick) -> Batch:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int | Pick]) -> list[Batch]:
        batch = self.read(items)
        return [batch.rows(i) for i in range(len(items))]

    def read(self, items: Sequence[int | Pick], *, pin: bool = False) -> Batch:
        """A batch in one read; `pin`: in pinned memory. No items give an empty batch."""
        picks = np.asarray([(0, item) if isinstance(item, int | np.integer) else item for item in items], np.int64)
        epochs, numbers = picks.reshape(-1, 2).T
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"items {numbers.min()} to {numbers.max()} of {len(self)}")
        clips, views = self._clips_and_views(epochs, numbers)
        batch = self._empty_batch(len(items), pin)
        if self.held is None:
            self._fetch(self.rows[clips], self.views[views], batch)
        else:
            index = torch.from_numpy(clips * len(self.views) + views)
            for name in ("gg", "jm", "joint_mask", *self.fields):
                torch.index_select(getattr(self.held, name), 0, index, out=getattr(batch, name))
        batch.labels.numpy()[:] = self.labels[clips]
        batch.clips.numpy()[:] = self.rows[clips]
        return batch

    def _empty_batch(self, clips: int, pin: bool = False) -> Batch:
        s, frames = self.sizes, frames_of(self.sizes.frames, self.frame_step)
        gg, jm = s.gg_channels * ("gg" in self.tokens), s.jm_channels * ("jm" in self.tokens)

        def empty(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(clips, *shape, dtype=dtype, pin_memory=pin)

        return Batch(
            gg=empty(frames, s.cells, gg, dtype=torch.float16),
            jm=empty(frames, s.joints, jm, dtype=torch.float16),
            joint_mask=empty(frames, s.joints, dtype=torch.bool),
            labels=empty(dtype=torch.int64),
            clips=empty(dtype=torch.int64),
            **{name: empty(*self._field_shape(name), dtype=torch.float32) for name in self.fields},
        )

    def _field_shape(self, name: str) -> tuple[int, ...]:
        """(M, T, V, ...) of one of `fields`, T as far as it is read."""
        persons, frames, *rest = spec_of(self.sizes, name).tail
        return persons, frames_of(frames, self.frame_step), *rest

    def _clips_and_views(self, epochs: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each item its index into `rows`, and its index into `views`."""
        if self.view_choice == "all":
            return np.divmod(numbers, len(self.views))
        if self.view_choice != "random" or len(self.views) == 1:
            return numbers, np.zeros_like(numbers)
        views = np.empty_like(numbers)
        for epoch in np.unique(epochs).tolist():
            known, drawn = self._view_of_epoch  # one read of the pair: other threads may replace it
            if known != epoch:
                drawn = keyed_rng(self.seed, "views", epoch).integers(len(self.views), size=len(self.rows))
                self._view_of_epoch = (epoch, drawn)
            views[epochs == epoch] = drawn[numbers[epochs == epoch]]
        return numbers, views

    def _fetch(self, rows: np.ndarray, views: np.ndarray, out: Batch) -> None:
        """Fill gg, jm, joint_mask and the fields of `out` from the store; the caller sets labels and clips."""
        if self.fields:
            for name, values in self.store.read_joints(rows, view=views, fields=self.fields).items():
                getattr(out, name).numpy()[:] = values[:, :, :: self.frame_step]
        buffers = TokenBatch(*(getattr(out, name).numpy() for name in TokenBatch._fields))
        if self.frame_step == 1:
            self.store.read(rows, view=views, tokens=self.tokens, out=buffers)
            return
        read = self.store.read(rows, view=views, tokens=self.tokens)
        buffers.gg[:] = thinned(read.gg, self.frame_step, mean=self.frame_mean)
        thin = thinned_joints(read.jm, read.joint_mask, self.frame_step, mean=self.frame_mean)
        buffers.jm[:], buffers.joint_mask[:] = thin

    def hold(self) -> None:
        """Read all tokens of the split into memory, in order of the rows, if they are not there yet."""
        if self.held is not None:
            return
        held = self._empty_batch(len(self.rows) * len(self.views))
        rows, views = np.repeat(self.rows, len(self.views)), np.tile(self.views, len(self.rows))
        for first in range(0, len(rows), READ_AT_ONCE):
            part = slice(first, first + READ_AT_ONCE)
            self._fetch(rows[part], views[part], held.rows(part))
        held.labels.numpy()[:] = np.repeat(self.labels, len(self.views))
        held.clips.numpy()[:] = rows
        self.held = held

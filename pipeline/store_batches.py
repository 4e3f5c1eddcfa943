"""Batches of a token store: which clips are done, their tokens as float16, their joint masks.

In: rows and views that the store has. Out: a TokenBatch, in the caller's buffers where it gives some. Knows nothing of
metadata; where bytes come from is `pipeline.store_reader`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pipeline.account import OUTCOMES
from pipeline.errors import ArtifactError, ConfigError
from pipeline.store_int8 import dequantize
from pipeline.store_layout import StoreSizes, spec_of
from pipeline.store_reader import ClipReader

DONE = OUTCOMES.index("done")


class TokenBatch(NamedTuple):
    """Tokens of B clips: gg (B, T, P, D) and jm (B, T, V, D') float16, joint_mask (B, T, V) bool, labels (B,) int64."""

    gg: np.ndarray
    jm: np.ndarray
    joint_mask: np.ndarray
    labels: np.ndarray


def room_for(s: StoreSizes, clips: int) -> TokenBatch:
    """An empty batch of so many clips."""
    return TokenBatch(
        np.empty((clips, s.frames, s.cells, s.gg_channels), np.float16),
        np.empty((clips, s.frames, s.joints, s.jm_channels), np.float16),
        np.empty((clips, s.frames, s.joints), bool),
        np.empty(clips, np.int64),
    )


class BatchReader:
    """Reads batches; keeps of each shard that it has met which clips are done, and their joint masks."""

    def __init__(self, reader: ClipReader, sizes: StoreSizes, name: Callable[[int, int], str]) -> None:
        """`name(row, view)` is how messages call a clip."""
        self._reader, self._sizes, self._name = reader, sizes, name
        self._masks: dict[tuple[int, int], np.ndarray] = {}  # (shard, view): (n, T * V / 8) bits
        self._done: dict[tuple[int, int], np.ndarray] = {}  # (shard, view): (n,) bool

    def read(self, rows: list[int], views: list[int], out: TokenBatch | None) -> TokenBatch:
        """The first len(rows) clips of `out`, or of a new batch, filled; the labels are left to the caller.

        Raises:
            ArtifactError: a clip that is not done. ConfigError: `out` does not fit.
            CorruptError: bytes that do not match their checksum.
        """
        for row, view in zip(rows, views, strict=True):
            if not self._is_done(row, view):
                raise ArtifactError(
                    self._name(row, view),
                    "has no tokens (it is pending, excluded or failed)",
                    remedy="leave it out; `star inspect` tells why",
                )
        batch = self._room(len(rows), out)
        self._read_tokens("gg", rows, views, batch.gg)
        self._read_tokens("jm", rows, views, batch.jm)
        for b, (row, view) in enumerate(zip(rows, views, strict=True)):
            batch.joint_mask[b] = self._mask(row, view)
        return batch

    def _room(self, clips: int, out: TokenBatch | None) -> TokenBatch:
        fresh = room_for(self._sizes, clips if out is None else 0)
        if out is None:
            return fresh
        for name, need, given in zip(TokenBatch._fields, fresh, out, strict=True):
            fits = given.dtype == need.dtype and given.shape[1:] == need.shape[1:] and len(given) >= clips
            if not (fits and given.flags.c_contiguous and given.flags.writeable):
                raise ConfigError(
                    f"out.{name}",
                    "cannot take the batch",
                    got=f"{given.dtype} {given.shape}",
                    expected=f"contiguous {need.dtype} {(clips, *need.shape[1:])}",
                    remedy="use TokenStore.buffers",
                )
        return TokenBatch(*(given[:clips] for given in out))

    def _read_tokens(self, name: str, rows: list[int], views: list[int], out: np.ndarray) -> None:
        spec = spec_of(self._sizes, name)
        if self._sizes.dtype == "float16":
            self._reader.read(spec, rows, views, out)
            return
        steps = np.empty(out.shape, np.int8)
        scale = np.empty(out.shape[:-1], np.float16)
        self._reader.read(spec, rows, views, steps)
        self._reader.read(spec_of(self._sizes, f"{name}_scale"), rows, views, scale)
        for b in range(len(out)):
            dequantize(steps[b], scale[b], out[b])

    def _is_done(self, row: int, view: int) -> bool:
        """What is done stays so; only a miss is looked up anew, since a writer may be at work."""
        shard, i = divmod(row, self._sizes.shard_clips)
        known = self._done.get((shard, view))
        if known is None or not known[i]:
            if known is not None:
                self._reader.forget()
                self._masks.clear()
            known = self._done[shard, view] = self._reader.small(spec_of(self._sizes, "status"), shard, view) == DONE
        return bool(known[i])

    def _mask(self, row: int, view: int) -> np.ndarray:
        """(T, V) bool; kept as bits, since every clip's is asked for in every epoch."""
        shard, i = divmod(row, self._sizes.shard_clips)
        if (shard, view) not in self._masks:
            masks = self._reader.small(spec_of(self._sizes, "joint_mask"), shard, view)
            self._masks[shard, view] = np.packbits(masks.reshape(len(masks), -1), axis=1)
        shape = (self._sizes.frames, self._sizes.joints)
        return np.unpackbits(self._masks[shard, view][i], count=shape[0] * shape[1]).reshape(shape).view(bool)

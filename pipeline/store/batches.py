"""Batches of a token store: tokens as float16, joint masks, and the joints themselves, of done clips.

In: valid rows and views. Out: a TokenBatch, or arrays by name, in the caller's buffers where given. Reads no metadata;
bytes come from `pipeline.store.clip_reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.artifacts.outcomes import OUTCOMES
from pipeline.errors import ArtifactError, ConfigError
from pipeline.store.clip_reader import ClipReader
from pipeline.store.int8 import dequantize
from pipeline.store.layout import StoreSizes, spec_of

DONE = OUTCOMES.index("done")
TOKEN_KINDS = ("gg", "jm")
JOINT_FIELDS = ("joints", "joint_scores", "xyz")


class TokenBatch(NamedTuple):
    """Tokens of B clips: gg (B, T, P, D) and jm (B, T, V, D') float16, joint_mask (B, T, V) bool, labels (B,) int64.

    Tokens of a kind that was not requested have no channels: their last axis is 0.
    """

    gg: np.ndarray
    jm: np.ndarray
    joint_mask: np.ndarray
    labels: np.ndarray


def empty_batch(s: StoreSizes, clips: int, kinds: Sequence[str] = TOKEN_KINDS) -> TokenBatch:
    """A batch of `clips` clips with uninitialised arrays."""
    return TokenBatch(
        np.empty((clips, s.frames, s.cells, s.gg_channels if "gg" in kinds else 0), np.float16),
        np.empty((clips, s.frames, s.joints, s.jm_channels if "jm" in kinds else 0), np.float16),
        np.empty((clips, s.frames, s.joints), bool),
        np.empty(clips, np.int64),
    )


class BatchReader:
    """Reads batches; caches which clips of a shard are done, and their joint masks.

    Both caches are arrays over all rows and views, so that a batch is one numpy expression; shards not read yet cost
    address space, not memory. Masks are kept as bits, since every epoch reads those of all clips.
    """

    def __init__(self, reader: ClipReader, sizes: StoreSizes, name: Callable[[int, int], str]) -> None:
        """`name(row, view)` names a clip in errors."""
        self._reader, self._sizes, self._name = reader, sizes, name
        self._mask_size = sizes.frames * sizes.joints
        self._masks = np.zeros((sizes.clips, sizes.views, -(-self._mask_size // 8)), np.uint8)
        self._done = np.zeros((sizes.clips, sizes.views), bool)
        self._masks_cached, self._status_cached = (np.zeros((sizes.shards, sizes.views), bool) for _ in range(2))

    def read(self, rows: np.ndarray, views: np.ndarray, kinds: Sequence[str], out: TokenBatch | None) -> TokenBatch:
        """Fill the first len(rows) clips of `out`, or of a new batch; the caller fills the labels.

        Raises:
            ArtifactError: a clip that is not done. ConfigError: no such kind of tokens, or `out` does not fit.
            CorruptError: bytes that do not match their checksum.
        """
        self._require_done(rows, views)
        batch = self._batch_to_fill(len(rows), kinds, out)
        self._read_tokens(rows.tolist(), views.tolist(), {kind: getattr(batch, kind) for kind in kinds})
        self._read_masks(rows, views, batch.joint_mask)
        return batch

    def read_joints(self, rows: np.ndarray, views: np.ndarray, out: Mapping[str, np.ndarray]) -> None:
        """Fill arrays by name, each a contiguous (B, *tail). Raises as `read`."""
        self._require_done(rows, views)
        self._reader.read(out, rows.tolist(), views.tolist())

    def _batch_to_fill(self, clips: int, kinds: Sequence[str], out: TokenBatch | None) -> TokenBatch:
        for kind in kinds:
            if kind not in TOKEN_KINDS:
                raise ConfigError("tokens", "no such kind of tokens", got=repr(kind), expected=" | ".join(TOKEN_KINDS))
        fresh = empty_batch(self._sizes, clips if out is None else 0, kinds)
        if out is None:
            return fresh
        for name, wanted, given in zip(TokenBatch._fields, fresh, out, strict=True):
            fits = given.dtype == wanted.dtype and given.shape[1:] == wanted.shape[1:] and len(given) >= clips
            if not (fits and given.flags.c_contiguous and given.flags.writeable):
                raise ConfigError(
                    f"out.{name}",
                    "cannot hold the batch",
                    got=f"{given.dtype} {given.shape}",
                    expected=f"contiguous {wanted.dtype} {(clips, *wanted.shape[1:])}",
                    remedy="use TokenStore.buffers",
                )
        return TokenBatch(*(given[:clips] for given in out))

    def _read_tokens(self, rows: list[int], views: list[int], wanted: dict[str, np.ndarray]) -> None:
        if self._sizes.dtype == "float16":
            self._reader.read(wanted, rows, views)
            return
        stored: dict[str, np.ndarray] = {}
        for name, out in wanted.items():
            stored[name] = np.empty(out.shape, np.int8)
            stored[f"{name}_scale"] = np.empty(out.shape[:-1], np.float16)
        self._reader.read(stored, rows, views)
        for name, out in wanted.items():
            for i in range(len(out)):
                dequantize(stored[name][i], stored[f"{name}_scale"][i], out[i])

    def _require_done(self, rows: np.ndarray, views: np.ndarray) -> None:
        """A done clip stays done; others are looked up again, since a writer may be at work."""
        missing = ~self._done[rows, views]
        if not missing.any():
            return
        for shard, view in self._shards_and_views(rows[missing], views[missing]):
            status = self._reader.small(spec_of(self._sizes, "status"), shard, view)
            if self._status_cached[shard, view]:
                # it was cached as unfinished; `status` is put last, so all of its tokens exist by now
                self._reader.forget()
                self._masks_cached[:] = False
            self._done[self._slice(shard), view] = status == DONE
            self._status_cached[shard, view] = True
        missing = ~self._done[rows, views]
        if missing.any():
            first = int(missing.argmax())
            raise ArtifactError(
                self._name(int(rows[first]), int(views[first])),
                "has no tokens (it is pending, excluded, failed or missing)",
                remedy="leave it out; `star inspect` gives the reason",
            )

    def _read_masks(self, rows: np.ndarray, views: np.ndarray, out: np.ndarray) -> None:
        cached = self._masks_cached[rows // self._sizes.shard_clips, views]
        for shard, view in self._shards_and_views(rows[~cached], views[~cached]):
            masks = self._reader.small(spec_of(self._sizes, "joint_mask"), shard, view)
            self._masks[self._slice(shard), view] = np.packbits(masks.reshape(len(masks), -1), axis=1)
            self._masks_cached[shard, view] = True
        bits = np.unpackbits(self._masks[rows, views], axis=1, count=self._mask_size)
        out[:] = bits.reshape(out.shape).view(bool)

    def _shards_and_views(self, rows: np.ndarray, views: np.ndarray) -> list[tuple[int, int]]:
        return sorted(set(zip((rows // self._sizes.shard_clips).tolist(), views.tolist(), strict=True)))

    def _slice(self, shard: int) -> slice:
        rows = self._sizes.rows(shard)
        return slice(rows.start, rows.stop)

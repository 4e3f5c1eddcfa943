"""Reads a token store: the one door for every model.

In: a path or URL. Out: TokenStore: arrays, rows, what it was made from, and batches of tokens as numpy arrays. The same
store opens by plain `zarr.open`; nothing here is needed for that. Writes nothing; `pipeline.store_writer` does.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from pipeline.account import OUTCOMES, Account, account_of
from pipeline.blobs import Blobs, open_blobs
from pipeline.commit import canonical_json, sha256
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from pipeline.records import VideoRecord
from pipeline.store_layout import FORMAT, StoreSizes
from pipeline.store_writer import read_record, write_arrays

__all__ = ["DONE", "TokenBatch", "TokenStore", "write_arrays"]

DONE = OUTCOMES.index("done")


class TokenBatch(NamedTuple):
    """Tokens of B clips: gg (B, T, P, D) and jm (B, T, V, D') float16, joint_mask (B, T, V) bool, labels (B,) int64."""

    gg: np.ndarray
    jm: np.ndarray
    joint_mask: np.ndarray
    labels: np.ndarray


class TokenStore:
    """An open token store; picklable, since only its URL is carried to another process.

    Attributes:
        url: where it lies.
        attrs: format, fingerprint, made_from, class_names, joint_names, protocols, dataset, topology, sizes.
        gg, jm, joint_mask, joints, frame_index, persons: zarr arrays (N, K, …), see `pipeline.store_layout`.
    """

    def __init__(self, blobs: Blobs, group: zarr.Group) -> None:
        self.url, self._blobs, self._group = blobs.url, blobs, group
        self.attrs: dict[str, Any] = dict(group.attrs)
        self.sizes = StoreSizes(**self.attrs["sizes"])
        self._mask_of: dict[int, np.ndarray] = {}
        self._done_of: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, url: str | Path) -> TokenStore:
        """Open a finished or unfinished store.

        Raises:
            ArtifactError: there is nothing, or something else (what it is instead is said).
        """
        blobs = open_blobs(url)
        data = blobs.get("zarr.json")
        if data is None:
            raise ArtifactError(
                url,
                _what_instead(blobs),
                expected="a token store made by `star extract-tokens`",
                remedy="run `star extract-tokens` first and give its --out here",
            )
        try:
            found = json.loads(data)["attributes"]["format"]
        except (ValueError, KeyError, TypeError):
            found = "a Zarr group without our format version"
        if found != FORMAT:
            raise ArtifactError(url, "is not a token store of this format", got=found, expected=FORMAT)
        return cls(blobs, zarr.open_group(blobs.zarr_store(read_only=True), mode="r"))

    def __reduce__(self) -> tuple[Any, ...]:
        return (TokenStore.open, (self.url,))

    def __repr__(self) -> str:
        s = self.sizes
        return f"TokenStore({self.url!r}, clips={s.clips}, views={s.views}, {self.attrs['dataset']})"

    def __len__(self) -> int:
        return self.sizes.clips

    def _array(self, name: str) -> Any:
        return self._group[name]

    gg = property(lambda self: self._array("gg"), doc="(N, K, T, P, D) float16, lazily read")
    jm = property(lambda self: self._array("jm"), doc="(N, K, T, V, D') float16, lazily read")
    joint_mask = property(lambda self: self._array("joint_mask"), doc="(N, K, T, V) bool, lazily read")
    joints = property(lambda self: self._array("joints"), doc="(N, K, M, T, V, 2) float32 pixels of the crop")
    frame_index = property(lambda self: self._array("frame_index"), doc="(N, K, T) int64 frames of the video")
    persons = property(lambda self: self._array("persons"), doc="(N, K) uint8, how many persons the clip shows")

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, indices into attrs["class_names"]."""
        return np.asarray(self._array("label")[:])

    @functools.cached_property
    def clip_ids(self) -> np.ndarray:
        """(N,) str, sorted."""
        return np.asarray([str(name) for name in self._array("clip_id")[:]])

    @property
    def status(self) -> np.ndarray:
        """(N, K) uint8: 0 pending, 1 done, 2 excluded, 3 failed; read anew each time, since a writer may be at work."""
        return np.asarray(self._array("status")[:])

    def records(self) -> list[VideoRecord]:
        """The rows as VideoRecords (without paths), for `pipeline.manifest.split`."""
        names = ("label", "subject", "camera", "setup", "replication", "key", "split")
        columns = {name: self._array(name)[:].tolist() for name in names}
        return [
            VideoRecord(clip_id=clip_id, **{name: columns[name][row] for name in names})
            for row, clip_id in enumerate(self.clip_ids.tolist())
        ]

    def read(self, indices: Any, view: Any = 0) -> TokenBatch:
        """The tokens of some clips, in the order asked, repeats allowed.

        Args:
            indices: (B,) rows.
            view: one view for all, or (B,) a view for each.

        Raises:
            ConfigError: a row or view that the store does not have.
            ArtifactError: a clip that is not done.
            CorruptError: bytes that do not match their checksum.
        """
        rows = np.atleast_1d(np.asarray(indices, np.int64))
        views = np.broadcast_to(np.asarray(view, np.int64), rows.shape)
        self._check(rows, views)
        s = self.sizes
        gg = np.empty((len(rows), s.frames, s.cells, s.gg_channels), np.float16)
        jm = np.empty((len(rows), s.frames, s.joints, s.jm_channels), np.float16)
        mask = np.empty((len(rows), s.frames, s.joints), bool)
        for b, (row, k) in enumerate(zip(rows.tolist(), views.tolist(), strict=True)):
            try:
                gg[b], jm[b] = self.gg[row, k], self.jm[row, k]
            except (ValueError, RuntimeError) as error:
                raise CorruptError(
                    f"{self.url}: clip {self.clip_ids[row]}, view {k}",
                    f"cannot be read ({str(error)[:120]})",
                    remedy="run `star verify` on the store",
                ) from error
            mask[b] = self._masks(k)[row]
        return TokenBatch(gg, jm, mask, self.labels[rows])

    def _check(self, rows: np.ndarray, views: np.ndarray) -> None:
        for option, values, bound in (("index", rows, self.sizes.clips), ("view", views, self.sizes.views)):
            if values.size and (values.min() < 0 or values.max() >= bound):
                raise ConfigError(
                    f"{self.url}: {option}", "is not in the store", got=values, expected=f"0 to {bound - 1}"
                )
        for view in np.unique(views):
            here = rows[views == view]
            bad = here[~self._done(int(view), here)]
            if len(bad):
                raise ArtifactError(
                    f"{self.url}: clip {self.clip_ids[bad[0]]}, view {view}",
                    "has no tokens (it is pending, excluded or failed)",
                    remedy="leave it out; `star inspect` tells why",
                )

    def _masks(self, view: int) -> np.ndarray:
        """(N, T, V) bool of one view; small, so it is read once."""
        if view not in self._mask_of:
            self._mask_of[view] = np.asarray(self.joint_mask[:, view])
        return self._mask_of[view]

    def _done(self, view: int, rows: np.ndarray) -> np.ndarray:
        """Which rows are done; what is done stays so, hence only a miss is looked up anew (a writer may be at work)."""
        if view not in self._done_of or not self._done_of[view][rows].all():
            self._done_of[view] = np.asarray(self._array("status")[:, view]) == DONE
        return self._done_of[view][rows]

    def outcomes(self, view: int = 0) -> list[dict[str, Any]]:
        """For each row: its entry in a commit record, or {"id", "outcome": "pending"}."""
        entries: list[dict[str, Any]] = []
        for shard in range(self.sizes.shards):
            record = read_record(self._blobs, self.attrs["fingerprint"], shard, view)
            if record is None:
                rows = self.sizes.rows(shard)
                entries += [{"id": str(self.clip_ids[row]), "outcome": "pending"} for row in rows]
            else:
                entries += record["clips"]
        return entries

    def account(self, view: int = 0) -> Account:
        """How the clips of a view ended."""
        return account_of([(entry["outcome"], entry.get("reason", "")) for entry in self.outcomes(view)])

    def content_digest(self) -> str:
        """SHA-256 over metadata and every clip's outcome and digest, for all views; not over `log/`."""
        rows = [
            [e["id"], e["outcome"], e.get("reason", ""), e.get("sha256", "")]
            for view in range(self.sizes.views)
            for e in self.outcomes(view)
        ]
        return sha256(canonical_json([self._blobs.get("zarr.json").decode(), rows]))  # type: ignore[union-attr]


def _what_instead(blobs: Blobs) -> str:
    root = getattr(blobs, "root", None)
    if isinstance(root, Path):
        if not root.exists():
            return "does not exist"
        if (root / "dataset.json").exists():
            return "is a prepared folder, not a token store"
        if (root / "metrics.jsonl").exists():
            return "is a training run, not a token store"
    return "holds no zarr.json"

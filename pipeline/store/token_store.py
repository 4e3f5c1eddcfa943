"""`TokenStore`: a token store, open for reading.

In: a path or URL. Out: arrays, rows, what the store was made from, and batches of tokens as numpy arrays. Plain
`zarr.open` opens the same store without this module. Writes nothing; `pipeline.store.write` does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.artifacts.outcomes import Account
from pipeline.config import one_of
from pipeline.errors import ConfigError, CorruptError
from pipeline.records import VideoRecord
from pipeline.store.batches import JOINT_FIELDS, TOKEN_KINDS, BatchReader, TokenBatch, empty_batch
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.clip_reader import ClipReader
from pipeline.store.description import Description, read_column, read_description
from pipeline.store.layout import COLUMNS, NAMES, spec_of
from pipeline.store.metadata import damaged_metadata
from pipeline.store.survey import StoreSurvey, account_of_entries, clip_digests, outcomes_of, survey


class TokenStore:
    """An open token store; picklable: only its URL is sent to another process.

    Attributes:
        url: of its root.
        attrs: format, fingerprint, made_from, class_names, joint_names, protocols, dataset, topology, sizes, dtype,
            codec.
    """

    def __init__(
        self, blobs: Blobs, group: zarr.Group, description: Description, labels: np.ndarray, threads: int | None
    ) -> None:
        self.url, self._blobs, self._group, self._threads = blobs.url, blobs, group, threads
        self._description, self._labels = description, labels
        self.attrs, self.sizes = description.attributes, description.sizes
        sizes, fingerprint = self.sizes, self.attrs["fingerprint"]
        self._reader = ClipReader(blobs, fingerprint, sizes, self._name_of, threads or blobs.threads)
        try:
            self._batches = BatchReader(self._reader, sizes, self._name_of)
        except MemoryError:
            raise CorruptError(self.url, "claims more clips than the memory has room for", got=sizes.clips) from None

    @classmethod
    def open(cls, url: str | Path, *, threads: int | None = None) -> TokenStore:
        """Open a finished or unfinished store.

        Args:
            threads: the number of concurrent reads; None: as many as are useful for a folder or object store. Use 1 in
                a process that shares its cores with other readers.

        Raises:
            ArtifactError: no token store. CorruptError: its metadata are not those that were committed.
        """
        blobs = open_blobs(url)
        description = read_description(blobs)
        labels = read_column(blobs, description, "label")  # before memory is taken for as many clips as are claimed
        try:
            group = zarr.open_group(blobs.zarr_store(read_only=True), mode="r", use_consolidated=True)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged_metadata(blobs, f"is no group to zarr ({str(error)[:100]})") from error
        return cls(blobs, group, description, labels, threads)

    def __reduce__(self) -> tuple[Any, ...]:
        return (functools.partial(TokenStore.open, threads=self._threads), (self.url,))

    def __repr__(self) -> str:
        s = self.sizes
        return f"TokenStore({self.url!r}, clips={s.clips}, views={s.views}, {self.attrs['dataset']})"

    def __len__(self) -> int:
        return self.sizes.clips

    def array(self, name: str) -> Any:
        """An array as zarr reads it; int8 tokens have a second one, `gg_scale` or `jm_scale`."""
        return self._group[name]

    gg = property(lambda self: self.array("gg"), doc="(N, K, T, P, D) float16 or int8, lazily read")
    jm = property(lambda self: self.array("jm"), doc="(N, K, T, V, D') float16 or int8, lazily read")
    joint_mask = property(lambda self: self.array("joint_mask"), doc="(N, K, T, V) bool, lazily read")
    joints = property(lambda self: self.array("joints"), doc="(N, K, M, T, V, 2) float32 pixels of the crop")
    joint_scores = property(lambda self: self.array("joint_scores"), doc="(N, K, M, T, V) float32 in 0..1, 0: absent")
    xyz = property(lambda self: self.array("xyz"), doc="(N, K, M, T, V, 3) float32 metres, NaN where unknown")
    frame_index = property(lambda self: self.array("frame_index"), doc="(N, K, T) int64 frames of the video")
    persons = property(lambda self: self.array("persons"), doc="(N, K) uint8, the number of persons in the clip")

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, indices into attrs["class_names"]."""
        labels, classes = self._labels, len(self.attrs["class_names"])
        if not 0 <= labels.min() <= labels.max() < classes:
            got, expected = f"{labels.min()} to {labels.max()}", f"0 to {classes - 1}"
            raise CorruptError(
                f"{self.url}/label", "names classes that the store does not have", got=got, expected=expected
            )
        return labels

    @functools.cached_property
    def clip_ids(self) -> np.ndarray:
        """(N,) str, sorted."""
        return self._column("clip_id").astype(np.str_)

    @property
    def status(self) -> np.ndarray:
        """(N, K) uint8: 0 pending, 1 done, 2 excluded, 3 failed, 4 missing; never cached: a writer may be at work."""
        return self._reader.small_of_all(spec_of(self.sizes, "status"))

    def records(self) -> list[VideoRecord]:
        """The rows as VideoRecords (without paths), for `pipeline.manifest.split`."""
        columns = {name: self._column(name).tolist() for name in (*COLUMNS, *NAMES[1:])}
        return [
            VideoRecord(clip_id=clip_id, **{name: columns[name][row] for name in columns})
            for row, clip_id in enumerate(self.clip_ids.tolist())
        ]

    def rows_of(self, clip_ids: Iterable[str]) -> list[int]:
        """The row of each of these clips; KeyError for a clip that is not in the store."""
        row_of = {clip_id: row for row, clip_id in enumerate(self.clip_ids.tolist())}
        return [row_of[clip_id] for clip_id in clip_ids]

    def _column(self, name: str) -> np.ndarray:
        return read_column(self._blobs, self._description, name)

    def read(
        self, indices: Any, view: Any = 0, *, tokens: Sequence[str] = TOKEN_KINDS, out: TokenBatch | None = None
    ) -> TokenBatch:
        """The tokens of some clips, in the order of `indices`; repeats are allowed.

        Args:
            indices: (B,) rows.
            view: one view for all clips, or (B,) a view for each.
            tokens: the kinds to read; a kind left out costs nothing and has no channels in the batch.
            out: arrays to fill, as `buffers(clips, tokens)` makes them with clips >= B (in pinned memory, for example);
                their first B rows are returned.

        Raises:
            ConfigError: no such row, view or kind of tokens, or `out` does not fit.
            ArtifactError: a clip that is not done.
            CorruptError: bytes that do not match their checksum.
        """
        rows, views = self._rows_and_views(indices, view)
        batch = self._batches.read(rows, views, tokens, out)
        batch.labels[:] = self.labels[rows]
        return batch

    def read_joints(
        self, indices: Any, view: Any = 0, *, fields: Sequence[str] = JOINT_FIELDS
    ) -> dict[str, np.ndarray]:
        """The joints of some clips by name, all of them float32: joints (B, M, T, V, 2) in pixels of the crop, NaN
        where absent; joint_scores (B, M, T, V) in 0..1, 0 where absent; xyz (B, M, T, V, 3), metres in the camera's
        frame, NaN where the source has none. In a mirrored view they are those of the mirrored scene.

        Args:
            indices, view: as in `read`. fields: some of these names.

        Raises:
            As `read`; ConfigError: no such field.
        """
        for name in fields:
            one_of("fields", name, JOINT_FIELDS)
        rows, views = self._rows_and_views(indices, view)
        out = {name: np.empty((len(rows), *spec_of(self.sizes, name).tail), np.float32) for name in fields}
        self._batches.read_joints(rows, views, out)
        return out

    def _rows_and_views(self, indices: Any, view: Any) -> tuple[np.ndarray, np.ndarray]:
        """(B,) rows and (B,) views, which are in the store; ConfigError where they are not."""
        rows, views = self._numbers("indices", indices), self._numbers("view", view)
        if len(views) not in (1, len(rows)):
            raise ConfigError(
                f"{self.url}: view", "must be one number or one for each row", got=len(views), expected=len(rows)
            )
        views = np.broadcast_to(views, rows.shape)
        for name, values, bound in (("index", rows, self.sizes.clips), ("view", views, self.sizes.views)):
            if values.size and (values.min() < 0 or values.max() >= bound):
                raise ConfigError(
                    f"{self.url}: {name}", "is not in the store", got=values, expected=f"0 to {bound - 1}"
                )
        return rows, views

    def _numbers(self, name: str, values: Any) -> np.ndarray:
        """(B,) int64 of one integer or a 1-D array; a mask or fractions would select other rows than intended."""
        given = np.asarray(values)
        if (given.size and given.dtype.kind not in "iu") or given.ndim > 1:
            raise ConfigError(
                f"{self.url}: {name}",
                "must be a 1-D array of integers",
                got=f"{given.dtype} {given.shape}",
                remedy="turn a mask into numbers with np.flatnonzero",
            )
        return np.atleast_1d(given).astype(np.int64)

    def buffers(self, clips: int, tokens: Sequence[str] = TOKEN_KINDS) -> TokenBatch:
        """Arrays for a batch of at most `clips` clips, for `read(..., tokens=tokens, out=)`."""
        return empty_batch(self.sizes, clips, tokens)

    def _name_of(self, row: int, view: int) -> str:
        return f"{self.url}: clip {self.clip_ids[row]}, view {view}"

    def outcomes(self, view: int | None = None) -> list[dict[str, Any]]:
        """For each row its entry in a commit record, or {"id", "outcome": "pending"}.

        None: the entry of the worst view: pending, then failed, missing, excluded, done.
        """
        views = range(self.sizes.views) if view is None else [view]
        return outcomes_of(self._blobs, self.attrs["fingerprint"], self.sizes, views, self._id_of)

    def account(self, view: int | None = None) -> Account:
        """The number of each outcome, in one view or (None) in each clip's worst view."""
        return account_of_entries(self.outcomes(view))

    def survey(self) -> StoreSurvey:
        """A survey in one pass over the commit records."""
        return survey(self._blobs, self.attrs["fingerprint"], self.sizes, self._id_of)

    def content_digest(self) -> str:
        """SHA-256 over metadata and every clip's outcome and digest, for all views; not over `log/`."""
        return self.survey().content_digest

    def clip_digests(self, view: int) -> np.ndarray:
        """(N,) S64, the SHA-256 of each clip's tokens in a view; empty where it is not done."""
        return clip_digests(self._blobs, self.attrs["fingerprint"], self.sizes, view)

    def _id_of(self, row: int) -> str:
        return str(self.clip_ids[row])

    def joints_of(self, row: int, view: int) -> np.ndarray:
        """(M, T, V, 2) float32, in pixels of the crop, of one clip with tokens. Raises as `read`."""
        return self.read_joints([row], view, fields=("joints",))["joints"][0]

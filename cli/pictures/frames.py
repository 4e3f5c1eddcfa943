"""The frames of a store's clips: the prepared folder that a store was made from, and its pictures in view 0.

In: an open store, and where its prepared folder is now, if it has moved. Out: frames (T, H, W, 3) uint8 of the crop, in
the pixels of the store's joints, or one small grey picture of each clip. In `cli` because it joins both stages; `star`
never decodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import ArtifactError, CorruptError
from pipeline.extract.coordinator import source_of
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import ClipContent, decode_pictures
from pipeline.store.token_store import TokenStore
from pipeline.views import crop_frames, view_of


def prepared_of(store: TokenStore, path: Path | None = None) -> PreparedFolder:
    """The prepared folder that a store was made from; `path`: where it is now, if it has moved.

    Raises:
        ArtifactError: the store does not name it, it does not exist, or the store was made from another one.
        CorruptError: it is damaged.
    """
    if path is None:
        recorded = source_of(store.url).get("prepared")
        if recorded is None:
            raise ArtifactError(store.url, "does not record where its prepared clips are", remedy="give `prepared`")
        path = Path(recorded)
    folder = PreparedFolder.open(path)
    if store.attrs["made_from"].get("prepared") != folder.fingerprint:
        raise ArtifactError(path, f"is not the prepared folder that {store.url} was made from")
    return folder


def frames_of(store: TokenStore, folder: PreparedFolder, row: int) -> np.ndarray:
    """(T, H, W, 3) uint8: the frames that view 0 of a clip with tokens was made from.

    Raises:
        CorruptError: its shard cannot be read or has changed; a JPEG with a flipped bit still decodes.
    """
    (clip,) = _clips(folder, [row])
    return _cropped(store, folder, row, clip.frames[0])


def middle_pictures(store: TokenStore, folder: PreparedFolder, *, side: int = 28) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows (n,) with tokens to grey pictures (n, side, side) uint8 of their middle frames in view 0.

    It remembers what it has read. It raises as `frames_of`.
    """
    import cv2

    known: dict[int, np.ndarray] = {}

    def pictures(rows: np.ndarray) -> np.ndarray:
        new = [row for row in rows.tolist() if row not in known]
        for row, clip in zip(new, _clips(folder, new), strict=True):
            middle = clip.frames[0][len(clip.frames[0]) // 2]
            grey = cv2.cvtColor(_cropped(store, folder, row, [middle])[0], cv2.COLOR_RGB2GRAY)
            known[row] = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
        return np.stack([known[row] for row in rows.tolist()])

    return pictures


def _clips(folder: PreparedFolder, rows: list[int]) -> Iterator[ClipContent]:
    """Prepared clips in the order of `rows`, each checked; neighbours of a shard in one opening of it."""
    size = folder.options.shard_clips
    for number, group in itertools.groupby(rows, key=lambda row: row // size):
        shard = folder.shard(number)
        record = shard.record()
        with shard.reader() as reader:
            for row in group:
                clip = reader.clip(row % size)
                if record is None or clip.digest() != record["clips"][row % size].get("sha256"):
                    problem = f"clip {folder.listing.records[row].clip_id} does not match its digest"
                    raise CorruptError(shard.path, problem, remedy="run `star verify` on its folder")
                yield clip


def _cropped(store: TokenStore, folder: PreparedFolder, row: int, pictures: Sequence[bytes]) -> np.ndarray:
    """(n, H, W, 3) uint8 of view 0."""
    frames = decode_pictures(pictures)
    crop = store.attrs["made_from"]["crop"]
    view = view_of(folder.listing.records[row].key, 0, seed=0, draws=1, kept=frames.shape[1:3], crop=crop)
    return crop_frames(frames, view, crop=crop)

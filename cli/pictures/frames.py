"""The frames of a store's clips: the prepared folder that a store was made from, and its pictures in view 0.

In: an open store, and where its prepared folder is now, if it has moved. Out: frames (T, H, W, 3) uint8 of the crop, in
the pixels of the store's joints. In `cli` because it joins both stages; `star` never decodes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import ArtifactError, CorruptError
from pipeline.extract.coordinator import source_of
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import decode_pictures
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
    number, index = divmod(row, folder.options.shard_clips)
    shard = folder.shard(number)
    with shard.reader() as reader:
        clip = reader.clip(index)
    record = shard.record()
    if record is None or clip.digest() != record["clips"][index].get("sha256"):
        name = folder.listing.records[row].clip_id
        raise CorruptError(
            shard.path, f"clip {name} does not match its digest", remedy="run `star verify` on its folder"
        )
    frames = decode_pictures(clip.frames[0])
    crop = store.attrs["made_from"]["crop"]
    view = view_of(folder.listing.records[row].key, 0, seed=0, draws=1, kept=frames.shape[1:3], crop=crop)
    return crop_frames(frames, view, crop=crop)

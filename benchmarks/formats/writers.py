"""Random clips of the usual sizes (0.9 MB each), written in our store and in the formats that others use.

In: an empty folder and how many clips. Out: the same tokens in each format, uncompressed. Reads nothing back.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

BATCH, SHARD = 32, 64
GG, JM = (16, 49, 512), (16, 25, 128)


def tokens(shard: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Random gg and jm of one shard's clips."""
    rng = np.random.default_rng(shard)
    return rng.random((clips, *GG), np.float32).astype(np.float16), rng.random((clips, *JM), np.float32).astype("f2")


def write_ours(root: Path, clips: int) -> None:
    from pipeline.records import VideoRecord
    from pipeline.store.write import write_arrays

    parts = [tokens(shard, SHARD) for shard in range(clips // SHARD)]
    gg, jm = (np.concatenate([part[i] for part in parts])[:, None] for i in (0, 1))
    records = [VideoRecord(clip_id=f"{i:06d}", key=f"{i:06d}", label=0, subject=1) for i in range(clips)]
    mask = np.ones((clips, 1, 16, 25), bool)
    write_arrays(root, gg=gg, jm=jm, joint_mask=mask, records=records, class_names=["a"], dataset="synthetic")


def write_flat(root: Path, clips: int) -> None:
    root.mkdir()
    with open(root / "gg", "wb") as gg_file, open(root / "jm", "wb") as jm_file:
        for shard in range(clips // SHARD):
            gg, jm = tokens(shard, SHARD)
            gg_file.write(gg.data)
            jm_file.write(jm.data)


def write_hdf5(root: Path, clips: int) -> None:
    import h5py

    root.mkdir()
    with h5py.File(root / "a.h5", "w") as file:
        gg = file.create_dataset("gg", (clips, *GG), "f2", chunks=(1, *GG))
        jm = file.create_dataset("jm", (clips, *JM), "f2", chunks=(1, *JM))
        for shard in range(clips // SHARD):
            gg[shard * SHARD : (shard + 1) * SHARD], jm[shard * SHARD : (shard + 1) * SHARD] = tokens(shard, SHARD)


def write_webdataset(root: Path, clips: int) -> None:
    import webdataset

    root.mkdir()
    for shard in range(clips // SHARD):
        gg, jm = tokens(shard, SHARD)
        with webdataset.TarWriter(str(root / f"{shard:05d}.tar")) as tar:
            for i in range(SHARD):
                tar.write({"__key__": f"{shard * SHARD + i:06d}", "gg.bin": gg[i].tobytes(), "jm.bin": jm[i].tobytes()})


def write_litdata(root: Path, clips: int) -> None:
    import litdata

    litdata.optimize(_litdata_clip, list(range(clips)), str(root), chunk_bytes="64MB", num_workers=1, verbose=False)


def _litdata_clip(row: int) -> dict[str, np.ndarray]:
    gg, jm = _shard_of(row // SHARD)
    return {"gg": gg[row % SHARD], "jm": jm[row % SHARD]}


@functools.lru_cache(1)
def _shard_of(shard: int) -> tuple[np.ndarray, np.ndarray]:
    return tokens(shard, SHARD)


# format: the module that it needs, and how it is written
WRITERS = {
    "ours": ("", write_ours),
    "flat": ("", write_flat),
    "hdf5": ("h5py", write_hdf5),
    "webdataset": ("webdataset", write_webdataset),
    "litdata": ("litdata", write_litdata),
}

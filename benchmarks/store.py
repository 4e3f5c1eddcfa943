"""How fast shuffled batches come out of a token store, against bare `preadv` (the limit) and other formats.

    python benchmarks/store.py [--clips 512] [--batches 40] [--runs 5]

In: nothing; it makes 512 random clips of the usual sizes (0.9 MB each). Out: one table: bytes, seconds to write, and
clips a second in shuffled batches of 32, warm and uncompressed, each reader in a fresh process, the median of so many
runs, readers by turns; ratios are to `preadv` into one reused buffer. Peers that are not installed are named as such
(`pip install -e '.[bench]'`). Then verification against `cat` on the same warm files.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH, SHARD = 32, 64
GG, JM = (16, 49, 512), (16, 25, 128)
Read = Callable[[np.ndarray], object]


def tokens(shard: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Random gg and jm of one shard's clips."""
    rng = np.random.default_rng(shard)
    return rng.random((clips, *GG), np.float32).astype(np.float16), rng.random((clips, *JM), np.float32).astype("f2")


def write_ours(root: Path, clips: int) -> None:
    from pipeline.records import VideoRecord
    from pipeline.store import write_arrays

    parts = [tokens(shard, SHARD) for shard in range(clips // SHARD)]
    gg, jm = (np.concatenate([part[i] for part in parts])[:, None] for i in (0, 1))
    records = [VideoRecord(clip_id=f"{i:06d}", key=f"{i:06d}", label=0) for i in range(clips)]
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


def read_preadv(root: Path) -> Read:
    handles = [os.open(root / name, os.O_RDONLY) for name in ("gg", "jm")]
    room = [np.zeros((BATCH, *shape), np.float16) for shape in (GG, JM)]

    def read(rows: np.ndarray) -> object:
        for handle, buffer in zip(handles, room, strict=True):
            size = buffer[0].nbytes
            for target, row in zip(buffer, rows.tolist(), strict=True):
                os.preadv(handle, [target.data], row * size)
        return room

    return read


def read_memmap(root: Path) -> Read:
    maps = [np.memmap(root / name, np.float16, "r").reshape(-1, *shape) for name, shape in (("gg", GG), ("jm", JM))]
    return lambda rows: [array[rows] for array in maps]


def read_ours(root: Path) -> Read:
    from pipeline.store import TokenStore

    store = TokenStore.open(root)
    room = store.buffers(BATCH)
    return lambda rows: store.read(rows, out=room)


def read_ours_fresh(root: Path) -> Read:
    from pipeline.store import TokenStore

    return TokenStore.open(root).read


def read_zarr(root: Path) -> Read:
    import zarr

    arrays = [zarr.open_group(root, mode="r")[name] for name in ("gg", "jm")]
    return lambda rows: [np.stack([array[row, 0] for row in rows.tolist()]) for array in arrays]


def read_tensorstore(root: Path) -> Read:
    import tensorstore

    driver = {"driver": "zarr3", "kvstore": {"driver": "file"}}
    specs = [{**driver, "kvstore": {"driver": "file", "path": f"{root / name}/"}} for name in ("gg", "jm")]
    arrays = [tensorstore.open(spec).result() for spec in specs]

    def read(rows: np.ndarray) -> object:
        waiting = [array[rows, 0].read() for array in arrays]
        return [future.result() for future in waiting]

    return read


def read_hdf5(root: Path) -> Read:
    import h5py

    file = h5py.File(root / "a.h5", "r")
    room = [np.zeros((BATCH, *shape), np.float16) for shape in (GG, JM)]

    def read(rows: np.ndarray) -> object:
        for name, buffer in zip(("gg", "jm"), room, strict=True):
            for i, row in enumerate(rows.tolist()):
                file[name].read_direct(buffer, np.s_[row], np.s_[i])
        return room

    return read


def read_webdataset(root: Path) -> Read:
    """In its own order, shuffled in a buffer: it knows no other."""
    import webdataset

    urls = sorted(str(path) for path in root.glob("*.tar"))
    data = iter(webdataset.WebDataset(urls, shardshuffle=False).repeat().shuffle(128))

    def read(rows: np.ndarray) -> object:
        clips = [next(data) for _ in rows]
        gg = np.stack([np.frombuffer(clip["gg.bin"], np.float16).reshape(GG) for clip in clips])
        return gg, np.stack([np.frombuffer(clip["jm.bin"], np.float16).reshape(JM) for clip in clips])

    return read


WRITERS = {"ours": write_ours, "flat": write_flat, "hdf5": write_hdf5, "webdataset": write_webdataset}
READERS: dict[str, tuple[str, str, Callable[[Path], Read]]] = {
    "preadv, one buffer": ("flat", "", read_preadv),
    "TokenStore.read(out=)": ("ours", "", read_ours),
    "TokenStore.read": ("ours", "", read_ours_fresh),
    "memmap": ("flat", "", read_memmap),
    "tensorstore": ("ours", "tensorstore", read_tensorstore),
    "h5py": ("hdf5", "", read_hdf5),
    "webdataset (its order)": ("webdataset", "webdataset", read_webdataset),
    "zarr-python": ("ours", "", read_zarr),
}


def measure(name: str, root: Path, clips: int, batches: int) -> float:
    """Clips a second in this process, after one pass over all of them."""
    kind, _, opened = READERS[name]
    read = opened(root / kind)
    rng = np.random.default_rng(0)
    for rows in np.arange(clips).reshape(-1, BATCH):
        read(rows)
    order = [rng.choice(clips, BATCH, replace=False) for _ in range(batches)]
    start = time.perf_counter()
    for rows in order:
        read(rows)
    return batches * BATCH / (time.perf_counter() - start)


def verification(root: Path, runs: int) -> tuple[float, float]:
    """Seconds of `cat` and of `verify_store` on the same warm store."""
    from pipeline.verify_store import verify_store

    files = [str(path) for path in (root / "ours").rglob("*") if path.is_file()]
    cats, ours = [], []
    for _ in range(runs):
        start = time.perf_counter()
        with open(os.devnull, "wb") as nowhere:
            subprocess.run(["cat", *files], stdout=nowhere, check=True)
        cats.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert not list(verify_store(root / "ours"))
        ours.append(time.perf_counter() - start)
    return statistics.median(cats), statistics.median(ours)


def table(root: Path, clips: int, batches: int, runs: int) -> None:
    """Write everything, read by turns, print."""
    wrote: dict[str, float] = {}
    for kind, write in WRITERS.items():
        if kind != "webdataset" or importlib.util.find_spec("webdataset"):
            start = time.perf_counter()
            write(root / kind, clips)
            wrote[kind] = time.perf_counter() - start
    rates: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, (_, needs, _) in READERS.items():
            if needs and not importlib.util.find_spec(needs):
                continue
            told: Any = [sys.executable, __file__, "--one", name, "--root", str(root)]
            told += ["--clips", str(clips), "--batches", str(batches)]
            shown = subprocess.run(told, capture_output=True, text=True, check=True)
            rates.setdefault(name, []).append(float(shown.stdout))
    limit = statistics.median(rates["preadv, one buffer"])
    print(f"{'reader':24}{'GB':>7}{'written s':>11}{'clips/s':>10}{'of preadv':>11}")
    for name, (kind, needs, _) in READERS.items():
        if name not in rates:
            print(f"{name:24}  {needs} is not installed")
            continue
        size = sum(path.stat().st_size for path in (root / kind).rglob("*") if path.is_file())
        rate = statistics.median(rates[name])
        print(f"{name:24}{size / 1e9:7.2f}{wrote[kind]:11.1f}{rate:10.0f}{rate / limit:11.2f}")
    cat, ours = verification(root, runs)
    print(f"verify: {cat / ours:.2f} of the speed of cat ({ours:.2f} s, {cat:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(measure(given.one, given.root, given.clips, given.batches))
        return
    with tempfile.TemporaryDirectory() as folder:
        table(Path(folder), given.clips, given.batches, given.runs)


if __name__ == "__main__":
    main()

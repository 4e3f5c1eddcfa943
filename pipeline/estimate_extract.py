"""What stage 2 would do, how large the store becomes and how long it takes, before it starts.

In: a prepared folder and the stage's options. Out: a plain dict. Bytes are exact up to compression and metadata;
seconds come from one warm batch and are given as a range. Writes nothing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.config import ExtractOptions
from pipeline.estimate import bytes_free


def estimate_extract(prepared: Path, options: ExtractOptions, out: str, *, workers: int) -> dict[str, Any]:
    """Clips and bytes of stage 2 (exact, up to compression and metadata), and seconds from one batch."""
    from pipeline.extract import sizes_of
    from pipeline.prepared import PreparedFolder
    from pipeline.store_layout import specs

    folder = PreparedFolder.open(prepared)
    sizes, account = sizes_of(folder, options), folder.account()
    row_bytes = sum(int(np.prod(spec.tail)) * np.dtype(spec.dtype).itemsize for spec in specs(sizes))
    total = row_bytes * sizes.clips * sizes.views
    seconds = _batch_seconds(folder, options)
    low, high = (s * account.done * sizes.views / max(workers, 1) for s in (0.8 * seconds, 1.6 * seconds))
    return {
        "dataset": folder.listing.dataset,
        "clips": account.done,
        "excluded": account.excluded,
        "failed": account.failed,
        "views": sizes.views,
        "files": len(specs(sizes)) * sizes.shards * sizes.views,
        "bytes": total if options.codec == "none" else f"at most {total}",
        "seconds": [round(low, 1), round(high, 1)],
        "joints": len(manifest.topology(folder.listing.topology).joint_names),
        "bytes_free": None if "://" in out else bytes_free(Path(out)),
    }


def _batch_seconds(folder: Any, options: ExtractOptions) -> float:
    """Seconds a clip of one warm pass of the backbone over black frames takes here."""
    from pipeline.clips import PERSONS
    from pipeline.config import FRAMES
    from pipeline.engine import computer_for

    computer = computer_for(options)
    joints = len(manifest.topology(folder.listing.topology).joint_names)
    shape = (options.batch_clips, PERSONS, FRAMES, joints)
    frames = np.zeros((options.batch_clips, FRAMES, options.crop, options.crop, 3), np.uint8)
    places = np.full((*shape, 2), options.crop / 2, np.float32)
    for _ in range(2):  # the first pass also sets the kernels up
        start = time.monotonic()
        computer(frames, places, np.ones(shape, bool))
    return (time.monotonic() - start) / options.batch_clips

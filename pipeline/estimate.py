"""What a stage would do, how large it becomes and how long it takes, before it starts.

In: what the stage would get. Out: a plain dict. Bytes of a store are exact; the rest comes from making a few clips,
spread over the listing, and is given as a range. Writes nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest
from pipeline.config import ExtractOptions, PrepareOptions
from pipeline.errors import DataError
from pipeline.records import Listing

PILOT_CLIPS = 6


def estimate_prepare(listing: Listing, options: PrepareOptions, out: Path, *, workers: int) -> dict[str, Any]:
    """Clips, bytes and seconds of stage 1, from a pilot of at most 6 clips."""
    from pipeline.prepare import make_clip
    from pipeline.skeletons import read_skeleton
    from pipeline.watchdog import DecodeProcess

    usable = [record for record in listing.records if not record.excluded]
    places = np.unique(np.linspace(0, len(usable) - 1, PILOT_CLIPS).round().astype(int)) if usable else []
    seconds, sizes, failures = [], [], []
    with DecodeProcess(budget_s=options.budget_s) as decoder:
        for place in places:
            record = usable[place]
            start = time.monotonic()
            try:
                skeleton = read_skeleton(Path(listing.roots["skeletons"]) / record.skeleton)
                video = Path(listing.roots["videos"]) / record.video
                clip, _ = make_clip(skeleton, video, record.key, options, decoder, options.reader)
            except DataError as error:
                failures.append(str(error))
                continue
            finally:
                seconds.append(time.monotonic() - start)
            sizes.append(sum(len(picture) for draw in clip.frames for picture in draw) + clip.joints.nbytes * 2)
    cores = max(1, min(workers, os.cpu_count() or 1))
    report = {
        "dataset": listing.dataset,
        "clips": len(listing.records),
        "excluded": len(listing.records) - len(usable),
        "shards": -(-len(listing.records) // options.shard_clips),
        "pilot_clips": len(places),
        "pilot_failures": failures,
        "bytes": _range(sizes, len(usable)),
        "seconds": _range([s / cores for s in seconds[1:] or seconds], len(usable)),
        "bytes_free": _free(out),
    }
    return report


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
        "bytes_free": None if "://" in out else _free(Path(out)),
    }


def _batch_seconds(folder: Any, options: ExtractOptions) -> float:
    """Seconds a clip of one warm pass of the backbone over black frames takes here."""
    from pipeline.clips import PERSONS
    from pipeline.config import FRAMES
    from pipeline.extract import computer_for

    computer = computer_for(options)
    joints = len(manifest.topology(folder.listing.topology).joint_names)
    shape = (options.batch_clips, PERSONS, FRAMES, joints)
    frames = np.zeros((options.batch_clips, FRAMES, options.crop, options.crop, 3), np.uint8)
    places = np.full((*shape, 2), options.crop / 2, np.float32)
    for _ in range(2):  # the first pass also sets the kernels up
        start = time.monotonic()
        computer(frames, places, np.ones(shape, bool))
    return (time.monotonic() - start) / options.batch_clips


def _range(values: list[float] | list[int], count: int) -> list[int] | None:
    """[low, high] for the sum over `count` clips: the mean of the pilot, give or take two standard errors and 15 %."""
    if not values:
        return None
    mean = float(np.mean(values))
    error = 2 * float(np.std(values)) / max(len(values), 1) ** 0.5 + 0.15 * mean
    return [max(0, int((mean - error) * count)), int((mean + error) * count) + 1]


def _free(out: Path) -> int:
    """Bytes free where `out` will lie."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free

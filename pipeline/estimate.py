"""What stage 1 would do, how large it becomes and how long it takes, before it starts.

In: what the stage would get. Out: a plain dict. Bytes and seconds come from making a few clips, spread over the
listing, and are given as ranges. Writes nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import PrepareOptions
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
        "bytes_free": bytes_free(out),
    }
    return report


def _range(values: list[float] | list[int], count: int) -> list[int] | None:
    """[low, high] for the sum over `count` clips: the mean of the pilot, give or take two standard errors and 15 %."""
    if not values:
        return None
    mean = float(np.mean(values))
    error = 2 * float(np.std(values)) / max(len(values), 1) ** 0.5 + 0.15 * mean
    return [max(0, int((mean - error) * count)), int((mean + error) * count) + 1]


def bytes_free(out: Path) -> int:
    """Bytes free where `out` will lie."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free

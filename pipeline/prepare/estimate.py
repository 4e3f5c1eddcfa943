"""An estimate of stage 1 before it starts: clips, bytes and seconds.

In: the stage's input. Out: a plain dict. Arrays and records have known sizes; pictures and seconds come from making a
few clips, spread over the listing, and are ranges. They should hold on this machine, as busy as it is now, in at least
four of five runs. It writes nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pipeline.artifacts.files import bytes_free, require_disk_space
from pipeline.config import PrepareOptions
from pipeline.decode.child_process import DecodeProcess
from pipeline.errors import DataError
from pipeline.prepare.clip import attempt
from pipeline.prepare.coordinator import unfinished
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import known_bytes
from pipeline.prepare.shard import joints_of
from pipeline.records import Listing, VideoRecord, evenly_spread

PILOT_CLIPS = 12
CONFIDENCE = 0.95  # of the two-sided interval for a mean
MIN_ERROR = 0.05  # least relative error of a mean: the clips are not drawn at random
SLOWER, FASTER = 1.6, 0.7  # drift of the machine's speed between the pilot and the run
CONTENTION = 1.5  # how much longer a clip takes at most where all cores decode at once
# starting Dask and its workers, in units of starting a decoding process, which is what the pilot can time
DASK_STARTS = (3.0, 20.0)


@dataclass(frozen=True)
class Pilot:
    """The result of making a few clips: bytes of their pictures (0 where one failed), seconds, the failures, and
    whether each has xyz."""

    start_seconds: float
    picture_bytes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    xyz: list[bool] = field(default_factory=list)


def estimate_prepare(listing: Listing, options: PrepareOptions, out: Path, *, workers: int) -> dict[str, Any]:
    """Clips, bytes and seconds that the same `prepare` still needs.

    Args:
        workers: local processes. For a cluster, divide the seconds by its threads.

    Returns:
        "bytes" and "seconds" as [low, high], None where no clip of the pilot could be made; "pilot_failures" says why.

    Raises ArtifactError: `out` holds other content, or its disk is too small.
    """
    folder = PreparedFolder.match(out, listing, options)
    todo, _ = unfinished(folder)
    rows = [record for number in todo for record in folder.shard(number).records]
    usable = [record for record in rows if record.usable]
    pilot = run_pilot(usable, listing, options)
    sizes = interval(pilot.picture_bytes, len(usable)) if any(pilot.picture_bytes) else None
    known = known_bytes(len(rows), len(todo), options, joints_of(listing.topology), xyz=any(pilot.xyz))
    total = None if sizes is None else [int(known + sizes[0]), int(known + sizes[1]) + 1]
    if rows:
        require_disk_space(out, known if total is None else total[0])
    return {
        "dataset": listing.dataset,
        "clips": len(listing.records),
        "excluded": sum(bool(record.excluded) for record in listing.records),
        "missing": sum(bool(record.missing) for record in listing.records),
        "clips_to_do": len(rows),
        "shards": folder.shards,
        "shards_to_do": len(todo),
        "pilot_clips": len(pilot.seconds),
        "pilot_failures": pilot.failures,
        "bytes": total if rows else [0, 0],
        "seconds": _seconds(pilot, len(usable), workers) if rows else [0, 0],
        "bytes_free": bytes_free(out),
    }


def run_pilot(usable: list[VideoRecord], listing: Listing, options: PrepareOptions) -> Pilot:
    """Make at most `PILOT_CLIPS` clips as the stage does, and keep their sizes and times only."""
    with DecodeProcess(budget_s=options.budget_s) as decoder:
        start = time.monotonic()
        with suppress(DataError):
            decoder.probe(os.devnull)  # not a video, but it makes the process start
        pilot = Pilot(start_seconds=time.monotonic() - start)
        for row in evenly_spread(len(usable), PILOT_CLIPS).tolist():
            start = time.monotonic()
            clip, entry = attempt(usable[row], listing.roots, listing.topology, options, decoder)
            pilot.seconds.append(time.monotonic() - start)
            if clip is None:
                pilot.failures.append(f"{entry['id']}: {entry['reason']}")
            pilot.xyz.append(clip is not None and clip.xyz is not None)
            pilot.picture_bytes.append(sum(map(len, itertools.chain(*clip.frames))) if clip else 0)
    return pilot


def interval(pilot: list[int] | list[float], count: int) -> tuple[float, float]:
    """Low and high bounds of the sum over `count` clips, from some of them (`pilot`)."""
    mean, n = float(np.mean(pilot)), len(pilot)
    unseen = max(count - n, 0) / count
    error = MIN_ERROR * mean * unseen
    if n > 1:
        spread = float(np.std(pilot, ddof=1)) * (unseen / n) ** 0.5
        error += float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * spread
    return max(0.0, mean - error) * count, (mean + error) * count


def _seconds(pilot: Pilot, clips: int, workers: int) -> list[float] | None:
    if not pilot.seconds:
        return None
    busy = max(1, min(workers, os.cpu_count() or 1))
    low, high = (total / busy for total in interval(pilot.seconds, clips))
    first, last = (1.0, 2.0) if workers == 1 else DASK_STARTS
    high *= SLOWER * (1.0 if workers == 1 else CONTENTION)
    return [round(FASTER * low + first * pilot.start_seconds, 1), round(high + last * pilot.start_seconds, 1)]

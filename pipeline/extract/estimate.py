"""A dry run of stage 2: how large the store becomes, and how long it takes.

In: a prepared folder and the stage's options. Out: a plain dict. Bytes are exact without a codec and an upper bound
with one (`pipeline.extract.estimate_bytes`); seconds are a range, measured by the stage's own steps on a few clips
spread over the folder. Writes nothing.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.files import bytes_free
from pipeline.artifacts.fingerprint import fingerprint as fingerprint_of
from pipeline.config import ExtractOptions
from pipeline.extract import compute, devices
from pipeline.extract.coordinator import require_complete, threads_of, unfinished
from pipeline.extract.estimate_bytes import file_sizes, rows_done
from pipeline.extract.provenance import about_of, made_from_of, sizes_of
from pipeline.extract.shard import begin_group, decode_group, load_job
from pipeline.extract.values import Compute, Group, ShardJob
from pipeline.extract.worker import overlap
from pipeline.prepare.folder import PreparedFolder
from pipeline.store.blobs import open_blobs
from pipeline.store.check import check_store
from pipeline.store.chunks import encode_chunk
from pipeline.store.commit_records import file_entry, view_shards
from pipeline.store.layout import FORMAT, StoreSizes, specs

PILOT_GROUPS = 3  # batches; the first one warms the machine up and is not timed
FASTER, SLOWER = 0.7, 1.6  # how far the machine's speed may drift between the pilot and the run
CONTENTION = 1.5  # workers share the memory bandwidth, which the pilot has to itself
STARTUP = (0.5, 4.0)  # of Dask, workers and backbones, in units of starting a process that imports torch


def estimate_extract(prepared: Path, options: ExtractOptions, out: str, *, workers: int) -> dict[str, Any]:
    """Clips, files and bytes of the finished store; how many shards are still to be made, and in what time.

    Returns:
        "bytes": exact without a codec, an upper bound with one. "seconds": [low, high] for the rest, None where no
        clip is left to compute.

    Raises: as `pipeline.extract.extract`, about `prepared`, an existing store, weights and device.
    """
    folder = PreparedFolder.open(prepared)
    require_complete(folder)
    device, workers = devices.assign_devices(options.device, workers, None)
    options, weights = compute.resolve(replace(options, device=device))
    sizes, account, blobs = sizes_of(folder, options), folder.account(), open_blobs(out)
    made_from = made_from_of(folder, options, weights)
    existing = check_store(blobs, sizes=sizes, made_from=made_from)
    todo = list(range(len(view_shards(sizes))))
    if existing is not None:
        todo, _ = unfinished(folder, blobs, fingerprint_of(made_from), sizes)
    done = [len(rows_done(folder, shard)) for shard in range(sizes.shards)]
    # clips to compute for each open shard and view, without those that need none
    left = [done[number % sizes.shards] for number in todo if done[number % sizes.shards]]
    compute_tokens = compute.worker_computer(options, weights["sha256"], threads_of(options, workers, None))
    seconds = _pilot(folder, options, sizes, compute_tokens) if left else None
    fresh = {"format": FORMAT, "fingerprint": fingerprint_of(made_from), "made_from": made_from}
    files = file_sizes(folder, sizes, existing or {**fresh, **about_of(folder, weights)})
    return {
        "dataset": folder.listing.dataset,
        "clips": account.done,
        "excluded": account.excluded,
        "missing": account.missing,
        "failed": account.failed,
        "views": sizes.views,
        "files": len(files),
        "bytes": sum(files.values()),
        "shards": len(view_shards(sizes)),
        "shards_to_do": len(todo),
        "seconds": None if seconds is None else _seconds(seconds, left, workers),
        "device": options.device,
        "precision": options.precision,
        "joints": sizes.joints,
        "bytes_free": None if "://" in out else bytes_free(Path(out)),
    }


def _seconds(each: float, left: list[int], workers: int) -> list[float]:
    """The shortest and the longest time, where a clip in one view takes one worker `each` seconds."""
    clips = sum(left)
    if workers == 1:
        return [round(FASTER * each * clips, 1), round(SLOWER * each * clips, 1)]
    most = min(-(-len(left) // workers) * max(left), clips)  # clips of the worker that ends last
    begin = time.monotonic()
    subprocess.run([sys.executable, "-P", "-c", "import distributed, torchvision"], check=True)
    start = time.monotonic() - begin
    low = FASTER * each * clips / workers + STARTUP[0] * start
    return [round(low, 1), round(SLOWER * CONTENTION * each * most + STARTUP[1] * start, 1)]


def _pilot(folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes, compute: Compute) -> float | None:
    """Seconds that a clip takes after warm-up; None where all clips of the pilot are damaged."""
    groups = _groups(folder, options, sizes)
    if not groups:
        return None
    seconds: list[list[float]] = []
    for group in groups if len(groups) > 1 else groups * 2:
        marks = [time.monotonic()]
        decoded = decode_group(group)
        marks.append(time.monotonic())
        parts = begin_group(compute, decoded).wait()
        marks.append(time.monotonic())
        for part in parts:
            group.job.absorb(part)
        marks.append(time.monotonic())
        seconds.append([(b - a) / max(len(group.rows), 1) for a, b in itertools.pairwise(marks)])
    decode, compute_s, keep = np.mean(seconds[1:], axis=0).tolist()
    return _overlapped([decode, compute_s, keep + _putting(groups[0].job, sizes)], options.device)


def _putting(job: ShardJob, sizes: StoreSizes) -> float:
    """Seconds to encode a clip's share of its shard and compute the checksum, without the disk's time."""
    begin = time.monotonic()
    for spec in specs(sizes):
        if spec.name in job.arrays:
            file_entry(spec.name, encode_chunk(spec, job.arrays[spec.name], sizes))
    return (time.monotonic() - begin) / len(job.entries)


def _overlapped(parts: list[float], device: str) -> float:
    """Seconds of a clip from those of decoding, computing and keeping it: their sum where a CPU does all of them, the
    slowest where a GPU computes and threads do the rest."""
    if not device.startswith("cuda"):
        return sum(parts)
    decoders, writers, _ = overlap(device)
    decode, compute, keep = parts
    return max(decode / decoders, compute, keep / writers)


def _groups(folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes) -> list[Group]:
    """`PILOT_GROUPS` batches of clips, from shards spread over the folder and rows spread over each."""
    shards = [number for number in range(folder.shards) if rows_done(folder, number)]
    jobs = [
        load_job(folder.shard(number), 0, options, sizes, open_blobs("memory://estimate"), None)
        for number in _spread(shards, PILOT_GROUPS)
    ]
    groups = []
    for job in jobs:
        rows = _spread(sorted(job.clips), options.batch_clips * (PILOT_GROUPS if len(jobs) == 1 else 1))
        cuts = range(0, len(rows), options.batch_clips)
        groups += [Group(job, rows[cut : cut + options.batch_clips], False) for cut in cuts]
    return groups


def _spread(items: list[int], most: int) -> list[int]:
    number = min(most, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * number)] for i in range(number)]

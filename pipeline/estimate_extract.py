"""What stage 2 would do, how large the store becomes and how long it takes, before it starts.

In: a prepared folder and the stage's options. Out: a plain dict. Without a codec the bytes are those of the very files,
with one they come from the pilot's tokens; seconds come from the pilot, the stage's own steps on a few real clips, and
are a range. Writes nothing.
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

from pipeline import engine
from pipeline.blobs import open_blobs
from pipeline.commit import seal
from pipeline.config import ExtractOptions
from pipeline.extract import about_of, made_from_of, require_complete, sizes_of, threads_of, unfinished
from pipeline.extract_shard import Compute, ShardJob, begin_group, decode_group, load_job
from pipeline.extract_worker import overlap
from pipeline.fingerprint import fingerprint
from pipeline.prepared import PreparedFolder
from pipeline.room import bytes_free
from pipeline.store_chunks import encode_chunk, file_bytes
from pipeline.store_layout import FORMAT, StoreSizes, chunk_key, encode_metadata, specs
from pipeline.store_records import places, shard_record
from pipeline.store_writer import check_store

PILOT_GROUPS = 3  # batches; the first one warms the machine up and is not counted
FASTER, SLOWER = 0.7, 1.6  # how far the machine's speed may drift between the pilot and the run
ALONE = 1.5  # the pilot has the memory of the machine to itself, workers share it
STARTS = (0.5, 4.0)  # Dask, its workers and their backbones, in units of starting a process that imports torch


def estimate_extract(prepared: Path, options: ExtractOptions, out: str, *, workers: int) -> dict[str, Any]:
    """Clips, files and bytes of the finished store; how many shards of it are still to be made here, and how long.

    Returns:
        "bytes": a number without a codec, [low, high] with one. "seconds": [low, high] for what is left, None where no
        clip is to be computed.

    Raises: as `pipeline.extract.extract`, about `prepared`, the store that is there, weights and device.
    """
    folder = PreparedFolder.open(prepared)
    require_complete(folder)
    options, weights = engine.resolve(options)
    workers = max(workers, len(options.device.split(",")))
    sizes, account, blobs = sizes_of(folder, options), folder.account(), open_blobs(out)
    made_from = made_from_of(folder, options, weights)
    there = check_store(blobs, sizes=sizes, made_from=made_from)
    todo = list(range(len(places(sizes))))
    if there is not None:
        todo, _ = unfinished(blobs, fingerprint(made_from), sizes)
    left = _left(folder, sizes, todo)
    compute = engine.worker_computer(options, weights, threads_of(options, workers, None))
    seconds, ratio = _pilot(folder, options, sizes, compute) if left else (None, 1.0)
    total = sum(_file_sizes(folder, options, sizes, made_from).values())
    tokens = sum(spec.clip_bytes for spec in specs(sizes) if spec.sharded) * sizes.clips * sizes.views
    spared = int(tokens * (1 - ratio))
    return {
        "dataset": folder.listing.dataset,
        "clips": account.done,
        "excluded": account.excluded,
        "failed": account.failed,
        "views": sizes.views,
        "files": len(specs(sizes)) * sizes.shards * sizes.views,
        "bytes": total if options.codec == "none" else [int(total - 1.1 * spared), int(total - 0.9 * spared)],
        "shards": len(places(sizes)),
        "shards_to_do": len(todo),
        "seconds": None if seconds is None else _seconds(seconds, left, workers),
        "device": options.device,
        "precision": options.precision,
        "joints": sizes.joints,
        "bytes_free": None if "://" in out else bytes_free(Path(out)),
    }


def _left(folder: PreparedFolder, sizes: StoreSizes, todo: list[int]) -> list[int]:
    """For each shard and view to be made, how many clips are to be computed for it; those with none left out."""
    done = []
    for shard in range(sizes.shards):
        told = folder.record(shard)
        done.append(0 if told is None else sum(entry["outcome"] == "done" for entry in told["clips"]))
    counts = [done[shard] for _, shard in (places(sizes)[number] for number in todo)]
    return [count for count in counts if count]


def _seconds(each: float, left: list[int], workers: int) -> list[float]:
    """Shortest and longest, where a clip in one view takes `each` seconds of one worker."""
    clips = sum(left)
    if workers == 1:
        return [round(FASTER * each * clips, 1), round(SLOWER * each * clips, 1)]
    most = min(-(-len(left) // workers) * max(left), clips)  # of the worker that ends last
    begin = time.monotonic()
    subprocess.run([sys.executable, "-P", "-c", "import distributed, torchvision"], check=True)
    start = time.monotonic() - begin
    low = FASTER * each * clips / workers + STARTS[0] * start
    return [round(low, 1), round(SLOWER * ALONE * each * most + STARTS[1] * start, 1)]


def _file_sizes(
    folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes, made_from: dict[str, Any]
) -> dict[str, int]:
    """By key the bytes of every file of the store before compression, but for `log/`."""
    stamp = fingerprint(made_from)
    attributes = {"format": FORMAT, "fingerprint": stamp, "made_from": made_from, **about_of(folder)}
    files = encode_metadata(sizes, list(folder.listing.records), attributes)
    found = {key: len(data) for key, data in files.items()}
    for shard in range(sizes.shards):
        clips = len(sizes.rows(shard))
        told = folder.record(shard)
        entries = [_like(entry) for entry in told["clips"]] if told is not None else []
        for view in range(sizes.views):
            named = []
            for spec in specs(sizes):
                key = chunk_key(spec, shard, view)
                found[key] = file_bytes(spec, clips, sizes)
                named.append({"key": key, "bytes": found[key], "crc64": "0" * 16})
            found[f"commits/{view}/{shard}"] = len(seal(shard_record(stamp, (view, shard), named, entries)))
    return found


def _like(entry: dict[str, Any]) -> dict[str, Any]:
    """As long as the entry that a commit record will hold of this prepared clip."""
    if entry["outcome"] == "done":
        return {"id": entry["id"], "outcome": "done", "source": entry["sha256"], "sha256": "0" * 64}
    return {"id": entry["id"], "outcome": entry["outcome"], "reason": entry["reason"]}


def _pilot(
    folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes, compute: Compute
) -> tuple[float | None, float]:
    """Seconds a clip takes once all is warm, and what share of its bytes the codec leaves."""
    job = _job(folder, options, sizes)
    if job is None or not job.clips:
        return None, 1.0
    groups = list(job.groups())[:PILOT_GROUPS]
    seconds: list[list[float]] = []
    for group in [groups[0], *groups[1:]] if len(groups) > 1 else [groups[0]] * 2:
        marks = [time.monotonic()]
        decoded = decode_group(group)
        marks.append(time.monotonic())
        parts = begin_group(compute, decoded)()
        marks.append(time.monotonic())
        for part in parts:
            job.absorb(part)
        marks.append(time.monotonic())
        seconds.append([(b - a) / max(len(group.rows), 1) for a, b in itertools.pairwise(marks)])
    each = _overlapped(np.mean(seconds[1:], axis=0).tolist(), options.device)
    return each, _ratio(job, sorted({row for group in groups for row in group.rows}), sizes)


def _overlapped(parts: list[float], device: str) -> float:
    """Seconds of a clip whose decoding, computing and keeping take so long: one after the other where a CPU does all
    of them, the slowest where a GPU computes and threads do the rest."""
    if not device.startswith("cuda"):
        return sum(parts)
    decoders, writers, _ = overlap(device)
    decode, compute, keep = parts
    return max(decode / decoders, compute, keep / writers)


def _job(folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes) -> ShardJob | None:
    """The first shard with a clip to compute."""
    for number in range(folder.shards):
        told = folder.record(number)
        if told is not None and any(entry["outcome"] == "done" for entry in told["clips"]):
            return load_job(folder.shard(number), 0, options, sizes, open_blobs("memory://estimate"), None)
    return None


def _ratio(job: ShardJob, rows: list[int], sizes: StoreSizes) -> float:
    if sizes.codec == "none" or not rows:
        return 1.0
    plain, small = replace(sizes, codec="none"), 0
    large = 0
    for spec in specs(sizes):
        if spec.sharded:
            small += len(encode_chunk(spec, job.arrays[spec.name][rows], sizes))
            large += len(encode_chunk(spec, job.arrays[spec.name][rows], plain))
    return small / large

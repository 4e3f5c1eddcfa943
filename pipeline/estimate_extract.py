"""What stage 2 would do, how large the store becomes and how long it takes, before it starts.

In: a prepared folder and the stage's options. Out: a plain dict. Without a codec the bytes are those of the very files,
with one they come from the pilot's tokens and are a range, of one percent to either side as a rule; seconds come from
the pilot, the stage's own steps on a few real clips from all over the folder, and are a range. Writes nothing.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import engine
from pipeline.blobs import open_blobs
from pipeline.commit import seal
from pipeline.config import ExtractOptions
from pipeline.extract import about_of, made_from_of, require_complete, sizes_of, threads_of, unfinished
from pipeline.extract_shard import Compute, Group, ShardJob, begin_group, decode_group, load_job
from pipeline.extract_worker import overlap
from pipeline.fingerprint import fingerprint
from pipeline.prepared import PreparedFolder
from pipeline.room import bytes_free
from pipeline.store_chunks import encode_chunk, encode_clip, file_bytes
from pipeline.store_layout import FORMAT, StoreSizes, chunk_key, encode_metadata, specs
from pipeline.store_records import METADATA_RECORD, file_entry, metadata_record, places, shard_record
from pipeline.store_writer import check_store

PILOT_GROUPS = 3  # batches; the first one warms the machine up and is not counted in the time
LEAST_SPREAD = 0.01  # of the bytes under a codec: few clips may be alike by chance
CERTAIN = 2.6  # standard errors of a mean: 99 in 100
FEW = 0.1  # where less than two clips tell
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
    seconds, ratios = _pilot(folder, options, sizes, compute) if left or options.codec != "none" else (None, [])
    total = sum(_file_sizes(folder, options, sizes, made_from).values())
    return {
        "dataset": folder.listing.dataset,
        "clips": account.done,
        "excluded": account.excluded,
        "failed": account.failed,
        "views": sizes.views,
        "files": len(specs(sizes)) * sizes.shards * sizes.views,
        "bytes": total if options.codec == "none" else _compressed(total, sizes, account.done, ratios),
        "shards": len(places(sizes)),
        "shards_to_do": len(todo),
        "seconds": _seconds(seconds, left, workers) if left and seconds is not None else None,
        "device": options.device,
        "precision": options.precision,
        "joints": sizes.joints,
        "bytes_free": None if "://" in out else bytes_free(Path(out)),
    }


def _left(folder: PreparedFolder, sizes: StoreSizes, todo: list[int]) -> list[int]:
    """For each shard and view to be made, how many clips are to be computed for it; those with none left out."""
    done = [_counts(folder, shard) for shard in range(sizes.shards)]
    counts = [done[shard] for _, shard in (places(sizes)[number] for number in todo)]
    return [count for count in counts if count]


def _counts(folder: PreparedFolder, shard: int) -> int:
    """How many clips of a shard there are to compute."""
    told = folder.record(shard)
    return 0 if told is None else sum(entry["outcome"] == "done" for entry in told["clips"])


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
    found[METADATA_RECORD] = len(seal(metadata_record(stamp, sizes, files)))
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
) -> tuple[float | None, list[float]]:
    """Seconds a clip takes once all is warm, and for each clip of the pilot what share of its tokens a codec leaves."""
    groups = _groups(folder, options, sizes)
    if not groups:
        return None, []
    seconds: list[list[float]] = []
    for group in groups if len(groups) > 1 else groups * 2:
        marks = [time.monotonic()]
        decoded = decode_group(group)
        marks.append(time.monotonic())
        parts = begin_group(compute, decoded)()
        marks.append(time.monotonic())
        for part in parts:
            group.job.absorb(part)
        marks.append(time.monotonic())
        seconds.append([(b - a) / max(len(group.rows), 1) for a, b in itertools.pairwise(marks)])
    decode, compute_s, keep = np.mean(seconds[1:], axis=0).tolist()
    each = _overlapped([decode, compute_s, keep + _putting(groups[0].job, sizes)], options.device)
    return each, [ratio for group in groups for ratio in _ratios(group, sizes)]


def _putting(job: ShardJob, sizes: StoreSizes) -> float:
    """Seconds that a clip's share of its shard takes to be encoded and summed up; what a disk takes is not in it."""
    begin = time.monotonic()
    for spec in specs(sizes):
        if spec.name in job.arrays:
            file_entry(spec.name, encode_chunk(spec, job.arrays[spec.name], sizes))
    return (time.monotonic() - begin) / len(job.entries)


def _overlapped(parts: list[float], device: str) -> float:
    """Seconds of a clip whose decoding, computing and keeping take so long: one after the other where a CPU does all
    of them, the slowest where a GPU computes and threads do the rest."""
    if not device.startswith("cuda"):
        return sum(parts)
    decoders, writers, _ = overlap(device)
    decode, compute, keep = parts
    return max(decode / decoders, compute, keep / writers)


def _groups(folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes) -> list[Group]:
    """As many clips as `PILOT_GROUPS` batches hold, from shards all over the folder and rows all over each."""
    shards = [number for number in range(folder.shards) if _counts(folder, number)]
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
    """So many of them at most, at even distances."""
    number = min(most, len(items))
    return [items[(2 * place + 1) * len(items) // (2 * number)] for place in range(number)]


def _compressed(total: int, sizes: StoreSizes, done: int, ratios: list[float]) -> list[int]:
    """Between how many bytes a store lies that takes `total` without its codec, where the codec leaves these shares of
    some of its `done` clips."""
    kept = [spec for spec in specs(sizes) if spec.sharded]
    clip = sum(spec.clip_bytes for spec in kept) * sizes.views
    blank = _ratio([spec.blank(1) for spec in kept], sizes.codec)
    mean = float(np.mean(ratios)) if ratios else 1.0
    middle = total - clip * (done * (1 - mean) + (sizes.clips - done) * (1 - blank))
    error = CERTAIN * float(np.std(ratios, ddof=1)) / len(ratios) ** 0.5 if len(ratios) > 1 else FEW
    off = max(error * clip * done, LEAST_SPREAD * middle)
    return [int(middle - off), int(middle + off)]


def _ratios(group: Group, sizes: StoreSizes) -> list[float]:
    """For each clip of the group that has tokens, what share of their bytes the codec leaves."""
    if sizes.codec == "none":
        return []
    job, kept = group.job, [spec.name for spec in specs(sizes) if spec.sharded]
    rows = [row for row in group.rows if job.entries[row]["outcome"] == "done"]
    return [_ratio([job.arrays[name][row] for name in kept], sizes.codec) for row in rows]


def _ratio(values: list[np.ndarray], codec: str) -> float:
    return sum(len(encode_clip(value, codec)) for value in values) / sum(value.nbytes for value in values)

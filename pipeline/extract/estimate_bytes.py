"""How large a token store becomes, before it is made.

In: a prepared folder, the store's sizes and attributes, and what computes tokens. Out: the bytes of every file without
a codec; with one, the lowest and the highest sum of them, told by the tokens of clips that are drawn at random. Writes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.artifacts.sealed_json import seal
from pipeline.config import ExtractOptions
from pipeline.extract.shard import begin_group, decode_group, load_job
from pipeline.extract.values import Compute, Group
from pipeline.prepare.folder import PreparedFolder
from pipeline.records import keyed_rng
from pipeline.store.blobs import open_blobs
from pipeline.store.chunks import encode_clip, file_bytes
from pipeline.store.commit_records import METADATA_RECORD, metadata_record, shard_record
from pipeline.store.layout import ArraySpec, StoreSizes, chunk_key, encode_metadata, specs

SPREAD = 0.01  # of the bytes under a codec, to either side: what a pilot is to tell, and the least that it claims
FEWEST = 12  # clips of a pilot, which may be alike by chance
LONGEST_S = 60.0  # that a pilot may take to tell as much
CERTAIN = 2.6  # standard errors of a mean: 99 in 100
FEW = 0.1  # of the tokens' bytes, where less than two clips tell


def rows_done(folder: PreparedFolder, shard: int) -> list[int]:
    """The rows of a shard that have a clip to compute."""
    told = folder.record(shard)
    return [] if told is None else [row for row, clip in enumerate(told["clips"]) if clip["outcome"] == "done"]


def file_sizes(folder: PreparedFolder, sizes: StoreSizes, attributes: Mapping[str, Any]) -> dict[str, int]:
    """By key the bytes of every file of the store before compression, but for `log/`.

    Args:
        attributes: of the store, with its "fingerprint".
    """
    stamp = attributes["fingerprint"]
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


def compressed(
    total: int, folder: PreparedFolder, options: ExtractOptions, sizes: StoreSizes, compute: Compute
) -> list[int]:
    """Between how many bytes the store lies that takes `total` without its codec.

    Clips of all views are computed, each drawn from the whole folder (those of one shard are of a kind), until
    `CERTAIN` standard errors are no more than `SPREAD` of the bytes, until all are, or for `LONGEST_S` seconds.
    """
    kept = [spec for spec in specs(sizes) if spec.sharded]
    clip = sum(spec.clip_bytes for spec in kept)
    clips = [(shard, row) for shard in range(sizes.shards) for row in rows_done(folder, shard)]
    number, begin = len(clips) * sizes.views, time.monotonic()
    holes = clip * (sizes.clips * sizes.views - number) * (1 - _share([spec.blank(1) for spec in kept], sizes.codec))
    shares: list[float] = []
    middle, off = total - holes, 0.0
    for place in keyed_rng(0, "pilot").permutation(number).tolist():
        view, at = divmod(place, len(clips))
        shares += _shares(folder, options, sizes, compute, kept, (view, *clips[at]))
        middle = total - holes - clip * number * (1 - (float(np.mean(shares)) if shares else 1.0))
        off = clip * number * _error(shares, number)
        if len(shares) >= FEWEST and (off <= SPREAD * middle or time.monotonic() - begin > LONGEST_S):
            break
    off = max(off, SPREAD * middle)
    return [int(middle - off), int(middle + off)]


def _error(shares: list[float], number: int) -> float:
    """`CERTAIN` standard errors of the mean over `number` clips of which these were drawn, none of them twice."""
    if len(shares) == number:
        return 0.0
    if len(shares) < 2:
        return FEW
    return CERTAIN * float(np.std(shares, ddof=1)) * ((1 - len(shares) / number) / len(shares)) ** 0.5


def _shares(
    folder: PreparedFolder,
    options: ExtractOptions,
    sizes: StoreSizes,
    compute: Compute,
    kept: list[ArraySpec],
    place: tuple[int, int, int],
) -> list[float]:
    """What share of a clip's bytes the codec leaves, for the clip of a (view, shard, row); none where it has failed."""
    view, shard, row = place
    job = load_job(folder.shard(shard), view, options, sizes, open_blobs("memory://estimate"), None)
    if row not in job.clips:
        return []
    computed = begin_group(compute, decode_group(Group(job, [row], False))).wait()
    for part in computed:
        job.absorb(part)
    return [_share([job.arrays[spec.name][row] for spec in kept], sizes.codec) for _ in computed]


def _share(values: list[np.ndarray], codec: str) -> float:
    return sum(len(encode_clip(value, codec)) for value in values) / sum(value.nbytes for value in values)

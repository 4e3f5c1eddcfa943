"""A worker of stage 2: it takes a run of neighbouring shards from prepared clips to committed tokens.

In: the number of the run's first shard and an ExtractPlan. Out: shards of the store. Inside a run four things
overlap: the next shard is read, pictures of the next clips are decoded, the device computes, and computed tokens are
hashed and put, each commit record after all files that it names. Each stage waits for the next one: a worker holds
the tokens of at most `IN_FLIGHT` + 2 shards (60 MB each; on a GPU one more for each writing thread; on a retry, where
few clips of a shard are recomputed, one more for each decoding thread).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.artifacts.fingerprint import canonical_json
from pipeline.artifacts.outcomes import AGAIN
from pipeline.cluster.lookahead import cancelling_pool, pipelined, prefetch
from pipeline.cluster.run_shards import report
from pipeline.config import ExtractOptions
from pipeline.errors import ArtifactError
from pipeline.extract import compute, devices
from pipeline.extract.shard import begin_group, decode_group, load_job
from pipeline.extract.values import ComputedGroup, ShardJob
from pipeline.prepare.shard import Shard, read_shard
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.commit_records import ViewShard, each_record, is_whole, record_key, view_shards, write_record
from pipeline.store.layout import StoreSizes
from pipeline.store.write import put_shard

IN_FLIGHT = 1  # shards that wait to be put while another is computed

# A cluster's worker may have several threads, but the device, torch's threads and cuDNN's flags are per process.
_one_run = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class ExtractPlan:
    """All that a worker needs to know; sent as JSON.

    Attributes:
        options: as resolved, without "auto". weights: SHA-256 of the backbone's. lease: of the coordinator.
        threads: for the backbone; 0: a share of the cores. retry: also shards with failed or missing clips.
        run: shards in a run.
    """

    prepared: str
    out: str
    options: ExtractOptions
    sizes: StoreSizes
    fingerprint: str
    weights: str
    lease: str
    threads: int
    retry: bool
    run: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ExtractPlan:
        plan = json.loads(text)
        return cls(**{**plan, "options": ExtractOptions(**plan["options"]), "sizes": StoreSizes(**plan["sizes"])})


def extract_run(first: int, plan_json: str) -> dict[str, Any]:
    """Compute and commit the open ones of the `plan.run` shards that start at number `first` (view * shards + shard).

    Raises:
        ArtifactError: the store cannot be written, the prepared clips are gone, or the coordinator has ended.
        DataError: the weights differ from the coordinator's. ConfigError: no such device or precision here.
    """
    with _one_run:
        return _extract_run(first, ExtractPlan.from_json(plan_json))


def _extract_run(first: int, plan: ExtractPlan) -> dict[str, Any]:
    """Read -> decode -> compute -> absorb -> commit: each stage pulls from the one before it."""
    blobs = open_blobs(plan.out)
    blobs.require_writer(plan.lease)
    compute_tokens = compute.worker_computer(plan.options, plan.weights, plan.threads)
    decoders, writers, launches = overlap(plan.options.device)
    start, clips = time.monotonic(), 0
    with cancelling_pool(1) as reading, cancelling_pool(decoders) as decoding, cancelling_pool(writers) as writing:
        output = ShardWriter(plan, blobs, writing, most=IN_FLIGHT + writers - 1)
        todo = view_shards(plan.sizes)[first : first + plan.run]
        jobs = prefetch(reading, partial(_read_job, plan, blobs), todo, depth=1)
        groups = (group for job in jobs if job is not None for group in job.groups())
        decoded_groups = prefetch(decoding, decode_group, groups, depth=decoders)
        for decoded, computed in pipelined(partial(begin_group, compute_tokens), decoded_groups, depth=launches):
            group = decoded.group
            output.absorb(group.job, computed)
            clips += len(group.rows)
            _report(group.job, group.rows)
            if group.last:
                _report(group.job, sorted(set(range(len(group.job.entries))) - set(group.job.clips)))
                output.commit(group.job)
        output.wait()
    seconds = round(time.monotonic() - start, 3)
    return {"first": first, "clips": clips, "seconds": seconds, "host": socket.gethostname()}


class ShardWriter:
    """The last two stages: computed groups are absorbed and whole shards committed by the threads of `pool`.

    No more than `most` commits are pending when a call returns.
    """

    def __init__(self, plan: ExtractPlan, blobs: Blobs, pool: ThreadPoolExecutor, *, most: int) -> None:
        self._plan, self._blobs, self._pool, self._most = plan, blobs, pool, most
        self._absorbing: list[Future[None]] = []  # of the shard that is being computed
        self._commits: deque[Future[None]] = deque()

    def absorb(self, job: ShardJob, parts: list[ComputedGroup]) -> None:
        """Start copying a group's tokens into its job."""
        self._absorbing += [self._pool.submit(job.absorb, part) for part in parts]

    def commit(self, job: ShardJob) -> None:
        """Begin to put a job, all of whose groups have been given to `absorb`."""
        self._commits.append(self._pool.submit(_commit, self._plan, self._blobs, job, self._absorbing))
        self._absorbing = []
        self.wait(self._most)

    def wait(self, most: int = 0) -> None:
        """Until no more than `most` commits are pending; raises what one of them raised."""
        while len(self._commits) > most:
            self._commits.popleft().result()


def is_open(record: dict[str, Any] | None, source: Callable[[], Shard], *, retry: bool) -> bool:
    """Whether the shard and view of this commit record is still to be made: also where a clip that was missing in its
    prepared shard (`source`) is there now."""
    outcomes = {clip["outcome"] for clip in record["clips"]} if record is not None else set()
    if record is None or (retry and outcomes & {*AGAIN}):
        return True
    prepared = source().committed() if "missing" in outcomes else None
    if prepared is None:
        return False
    pairs = zip(record["clips"], prepared["clips"], strict=True)
    return any(ours["outcome"] == "missing" and theirs["outcome"] != "missing" for ours, theirs in pairs)


def _record_or_none(plan: ExtractPlan, blobs: Blobs, view_shard: ViewShard) -> dict[str, Any] | None:
    """A damaged record counts as none, so that its shard is made again."""
    return next(each_record(blobs, plan.fingerprint, plan.sizes, [view_shard], skip_damaged=True))[1]


def _read_job(plan: ExtractPlan, blobs: Blobs, view_shard: ViewShard) -> ShardJob | None:
    view, shard = view_shard
    before = _record_or_none(plan, blobs, view_shard)
    source = partial(read_shard, Path(plan.prepared), shard, shard_clips=plan.sizes.shard_clips)
    if not is_open(before, source, retry=plan.retry):
        return None
    return load_job(source(), view, plan.options, plan.sizes, blobs, before)


def _commit(plan: ExtractPlan, blobs: Blobs, job: ShardJob, absorbing: list[Future[None]]) -> None:
    for part in absorbing:  # submitted earlier to the same pool, so waiting for it here cannot deadlock
        part.result()
    if job.unchanged:
        return
    view, shard = view_shard = (job.view, job.source.number)
    blobs.require_writer(plan.lease)
    if job.remade:
        # a stop between the files and their record must not leave an old record beside new files
        blobs.delete(record_key(view_shard))
    elif _record_or_none(plan, blobs, view_shard) is not None:
        return  # this worker seemed lost, and another one that was given its shard was faster
    files, entries = put_shard(blobs, sizes=plan.sizes, shard=shard, view=view, arrays=job.arrays, clips=job.entries)
    if not _record(plan, blobs, view_shard, files, entries):
        return
    made = {"view": view, "shard": shard, "clips": len(job.clips), "host": socket.gethostname()}
    line = canonical_json({**made, "process": os.getpid(), "device": plan.options.device})
    blobs.put(f"log/{time.time():.3f}-{view:03d}-{shard:05d}.json", line)


def _record(
    plan: ExtractPlan, blobs: Blobs, view_shard: ViewShard, files: list[dict[str, Any]], entries: list[dict[str, Any]]
) -> bool:
    """Commit the files just put, unless another worker has committed meanwhile; whether this one did.

    ArtifactError where the other has overwritten some of these files: no record is left that does not match its files.
    """
    other = _record_or_none(plan, blobs, view_shard)
    if other is not None:
        if all(is_whole(blobs, entry) for entry in other["files"]):
            return False
        blobs.delete(record_key(view_shard))
    blobs.require_writer(plan.lease)
    if other is not None and not all(is_whole(blobs, entry) for entry in files):
        raise ArtifactError(
            f"{blobs.url}: shard {view_shard[1]}, view {view_shard[0]}",
            "was written by two workers at once",
            remedy="run the same command again",
        )
    write_record(blobs, plan.fingerprint, view_shard, files, entries)
    return True


def _report(job: ShardJob, rows: list[int]) -> None:
    for row in rows:
        report({"clip": f"{job.entries[row]['id']}/{job.view}", "outcome": job.entries[row]["outcome"]})


def overlap(device: str) -> tuple[int, int, int]:
    """How many threads decode, how many hash and put, and how many groups are launched while one is computed.

    On a CPU the backbone takes nearly all of the time, and one thread of each kind keeps up with it. A GPU needs many,
    and its next group queued; these numbers are a guess that no GPU has confirmed yet.
    """
    if device.startswith("cuda"):
        workers = max(len(device.split(",")), devices.workers_on_this_host())  # one for each device, on the same cores
        return max(1, min(16, devices.cores() // workers - 2)), 4, 1
    return 1, 1, 0

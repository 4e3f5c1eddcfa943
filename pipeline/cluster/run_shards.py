"""Runs shards: in this process, on local worker processes, or on an existing Dask cluster.

In: a function of a shard number that does all its work by side effect and returns a small summary. Out: the summaries,
in the order in which shards end. Tasks hold shard numbers and paths only, and a window of shards is submitted at a
time: only the names of clips, for progress, grow with their number. The shard of a worker that dies is repeated. It
does not know what a shard is. Local workers are spawned: a script with several of them calls this below
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.cluster.dask_client import WorkerWatch, address_of, connected, no_worker, scheduler_gone
from pipeline.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from distributed import Client

WINDOW = 256  # shards submitted at a time: more than a cluster has threads, fewer than a scheduler would notice

Work = Callable[..., dict[str, Any]]
ShardProgress = Callable[[dict[str, Any]], None]

_of_thread = threading.local()  # `.progress`: the callback of `report` in this thread


def run_shards(
    work: Work,
    shards: Sequence[int],
    *args: Any,
    workers: int = 1,
    scheduler: str | None = None,
    progress: ShardProgress | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Yield `work(shard, *args)` for every shard, in the order in which they end.

    Args:
        workers: local processes; 1 runs in this one.
        scheduler: the address of a Dask scheduler, "tcp://host:port", instead.
        progress: called with what `work` passes to `report`, in this process; once for each clip, also where a
            worker died and its shard was begun again.

    Raises:
        ConfigError: the scheduler cannot be reached, has no worker, or went away.
        ArtifactError: a shard's workers died too often.
        Whatever `work` raises. Finished shards stay; those in flight are given up.
    """
    if workers < 1:
        raise ConfigError("workers", "must be a positive number", got=workers)
    if scheduler is None and (workers == 1 or len(shards) <= 1):
        with _reporting_to(progress or (lambda event: None)):
            for shard in shards:
                yield work(shard, *args)
        return
    with connected(min(workers, len(shards)), scheduler) as client:
        yield from _gather(client, work, shards, args, progress)


def report(event: dict[str, Any]) -> None:
    """Called by the work of a shard: pass a small event with a "clip" to the coordinator's `progress`."""
    progress: ShardProgress | None = getattr(_of_thread, "progress", None)
    if progress is not None:  # None where the work is called directly
        progress(event)


@contextmanager
def _reporting_to(progress: ShardProgress) -> Iterator[None]:
    before, _of_thread.progress = getattr(_of_thread, "progress", None), progress
    try:
        yield
    finally:
        _of_thread.progress = before


def _on_worker(work: Work, shard: int, topic: str, args: tuple[Any, ...]) -> dict[str, Any]:
    from distributed import get_worker

    worker = get_worker()
    with _reporting_to(lambda event: worker.log_event(topic, {"shard": shard, **event})):
        return work(shard, *args)


def _gather(
    client: Client, work: Work, shards: Sequence[int], args: tuple[Any, ...], progress: ShardProgress | None
) -> Generator[dict[str, Any], None, None]:
    from distributed import CancelledError, as_completed
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    run = secrets.token_hex(6)  # a scheduler may serve other runs, and may remember earlier ones
    topic, events, waiting = f"star-progress-{run}", _ClipEvents(progress), iter(shards)
    client.subscribe_topic(topic, events)
    running, shard_of = as_completed(loop=client.loop), dict[Any, int]()

    def submit(count: int) -> None:
        for shard in itertools.islice(waiting, count):
            key = f"{work.__name__}-{shard:05d}-{run}"
            future = client.submit(_on_worker, work, shard, topic, args, key=key, pure=False)
            shard_of[future] = shard
            running.add(future)

    watch = WorkerWatch(client, lambda: client.cancel(list(shard_of), reason="no worker is left"))
    try:
        submit(WINDOW)
        watch.start()
        for future in running:
            try:
                summary = future.result()
            except KilledWorker as error:
                raise ArtifactError(
                    f"shard {shard_of[future]}",
                    f"was given up: its worker died {error.allowed_failures + 1} times",
                    remedy="look at their memory and logs, then run the same command again",
                ) from None
            except (CancelledError, CommClosedError) as error:
                raise (no_worker(address_of(client)) if watch.expired else scheduler_gone(client)) from error
            del shard_of[future]
            future.release()
            submit(1)
            yield summary
    finally:
        watch.stop()
        with suppress(OSError, CancelledError):  # the scheduler has gone
            client.cancel(list(shard_of), reason="stopped")


class _ClipEvents:
    """Passes each clip of a shard to `progress` once, however often the shard was begun.

    Clips that were reported are remembered: events of earlier attempts may still arrive.
    """

    def __init__(self, progress: ShardProgress | None) -> None:
        self._progress, self._clips = progress, set[tuple[int, str]]()

    def __call__(self, message: tuple[float, dict[str, Any]]) -> None:
        event = message[1]
        clip = event["shard"], event["clip"]
        if self._progress is not None and clip not in self._clips:
            self._clips.add(clip)
            self._progress(event)

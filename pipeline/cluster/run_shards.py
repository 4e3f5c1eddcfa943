"""Runs shards: in this process, on local worker processes, or on an existing Dask cluster.

In: a function of a shard number that does all its work by side effect and returns a small summary. Out: the summaries,
as they come. The graph holds shard numbers and paths only, and a window of shards is submitted at a time, so nothing
here grows with their number. A worker that dies costs a repetition of its shard. Knows nothing of what a shard is.
Local workers are spawned: a script that asks for several calls it below `if __name__ == "__main__":`.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.cluster.dask_client import Deserted, address_of, connected, gone, no_worker
from pipeline.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from distributed import Client

WINDOW = 256  # shards submitted at a time: more than a cluster has threads, fewer than a scheduler would notice

Work = Callable[..., dict[str, Any]]
ShardProgress = Callable[[dict[str, Any]], None]

_here = threading.local()  # `.tell`: where `report` goes from this thread


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
        progress: called with what `work` passes to `report`, from whatever process; a shard that is begun again
            because its worker died tells each of its clips once.

    Raises:
        ConfigError: the scheduler cannot be reached, has no worker, or went away.
        ArtifactError: a shard's workers died too often.
        Whatever `work` raises. What is done by then stays done; the shards in flight are given up.
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
    """Called by the work of a shard: hand a small event with a "clip" to the coordinator's `progress`."""
    tell: ShardProgress | None = getattr(_here, "tell", None)
    if tell is not None:  # else a caller of ours runs one shard by hand
        tell(event)


@contextmanager
def _reporting_to(tell: ShardProgress) -> Iterator[None]:
    before, _here.tell = getattr(_here, "tell", None), tell
    try:
        yield
    finally:
        _here.tell = before


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

    run = secrets.token_hex(6)  # the scheduler may serve others, and may remember an earlier run of ours
    topic, heard, waiting = f"star-progress-{run}", _Heard(progress), iter(shards)
    client.subscribe_topic(topic, heard)
    running, shard_of = as_completed(loop=client.loop), dict[Any, int]()

    def submit(count: int) -> None:
        for shard in itertools.islice(waiting, count):
            key = f"{work.__name__}-{shard:05d}-{run}"
            future = client.submit(_on_worker, work, shard, topic, args, key=key, pure=False)
            shard_of[future] = shard
            running.add(future)

    deserted = Deserted(client, lambda: client.cancel(list(shard_of), reason="no worker is left"))
    try:
        submit(WINDOW)
        deserted.start()
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
                raise (no_worker(address_of(client)) if deserted.true else gone(client)) from error
            heard.forget(shard_of.pop(future))
            future.release()
            submit(1)
            yield summary
    finally:
        deserted.stop()
        with suppress(OSError, CancelledError):  # nobody is left to be told
            client.cancel(list(shard_of), reason="stopped")


class _Heard:
    """Passes on each clip of a shard once, however often the shard was begun."""

    def __init__(self, progress: ShardProgress | None) -> None:
        self._progress, self._clips = progress, dict[int, set[str]]()

    def __call__(self, message: tuple[float, dict[str, Any]]) -> None:
        event = message[1]
        clips = self._clips.setdefault(event["shard"], set())
        if self._progress is not None and event["clip"] not in clips:
            clips.add(event["clip"])
            self._progress(event)

    def forget(self, shard: int) -> None:
        self._clips.pop(shard, None)

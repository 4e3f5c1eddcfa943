"""Runs shards: in this process, on local worker processes, or on an existing Dask cluster.

In: a function of a shard number that does all its work by side effect and returns a small summary. Out: the summaries,
as they come. The graph holds shard numbers and paths only; a worker that dies costs a repetition of its shard. Knows
nothing of what a shard is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError, ConfigError, StarError

if TYPE_CHECKING:
    from distributed import Client

TOPIC = "star-progress"
Progress = Callable[[dict[str, Any]], None]


def run_shards(
    work: Callable[..., dict[str, Any]],
    shards: Sequence[int],
    *args: Any,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield `work(shard, *args)` for every shard, in the order in which they end.

    Args:
        workers: local processes; 1 runs in this one.
        scheduler: the address of a Dask scheduler, "tcp://host:port", instead.
        progress: called with what `work` passes to `report`, from whatever process.

    Raises:
        ConfigError: the scheduler cannot be reached.
        ArtifactError: a shard's worker died too often.
        Whatever StarError `work` raises.
    """
    if workers < 1:
        raise ConfigError("--workers", "must be a positive number", got=workers)
    if scheduler is None and (workers == 1 or len(shards) <= 1):
        with _reporting_to(progress):
            for shard in shards:
                yield work(shard, *args)
        return
    with _client(min(workers, max(len(shards), 1)), scheduler) as client:
        if progress is not None:
            client.subscribe_topic(TOPIC, lambda event: progress(event[1]))
        yield from _gather(client, work, shards, args)


def report(event: dict[str, Any]) -> None:
    """Called by the work of a shard: hand a small event to the coordinator's `progress`."""
    if _local is not None:
        _local(event)
        return
    try:
        from distributed import get_worker

        get_worker().log_event(TOPIC, event)
    except (ImportError, ValueError):  # not under a coordinator at all: a caller of ours who runs one shard by hand
        return


_local: Progress | None = None


@contextmanager
def _reporting_to(progress: Progress | None) -> Iterator[None]:
    global _local
    before, _local = _local, progress or (lambda event: None)
    try:
        yield
    finally:
        _local = before


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    os.environ["PYTHONSAFEPATH"] = "1"  # a folder `pipeline/` in the working directory must not shadow ours
    quiet = {
        "distributed.logging.distributed": "error",
        "distributed.worker.daemon": True,
        "distributed.comm.timeouts.connect": "20s",
        "distributed.scheduler.allowed-failures": 3,
        # the shard's own arrays live in the worker's process, and it bounds them itself
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
    }
    with dask.config.set(quiet):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="20s", set_as_default=False)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    scheduler,
                    f"no Dask scheduler answers there ({str(error)[:120]})",
                    remedy="start one with `dask scheduler` and give its address as --scheduler tcp://host:port",
                ) from error
            with client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


def _gather(
    client: Client, work: Callable[..., dict[str, Any]], shards: Sequence[int], args: tuple[Any, ...]
) -> Iterator[dict[str, Any]]:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    # pure=False: a shard that was run before under the same arguments must run again, not be remembered
    futures = client.map(work, list(shards), *([arg] * len(shards) for arg in args), pure=False, retries=0)
    try:
        for future in as_completed(futures, loop=client.loop):
            try:
                yield future.result()
            except KilledWorker as error:
                raise ArtifactError(
                    "a shard",
                    f"ended its worker {error.allowed_failures + 1} times",
                    remedy="look at the workers' memory and logs, then run the same command again",
                ) from error
            except StarError:
                raise
            future.release()
    finally:
        client.cancel(futures)

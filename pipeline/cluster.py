"""Runs shards: in this process, on local worker processes, or on an existing Dask cluster.

In: a function of a shard number that does all its work by side effect and returns a small summary. Out: the summaries,
as they come. The graph holds shard numbers and paths only, and a window of shards is submitted at a time, so nothing
here grows with their number. A worker that dies costs a repetition of its shard. Knows nothing of what a shard is.
Local workers are spawned: a script that asks for several calls it below `if __name__ == "__main__":`.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

WINDOW = 256  # shards submitted at a time: more than a cluster has threads, fewer than a scheduler would notice
ALLOWED_DEATHS = 3  # of workers, before the shard that they all worked on is given up
ADDRESS = re.compile(r"((tcp|tls|ucx|wss?)://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}|inproc://\S+")
PATIENCE_S = 60  # with a scheduler that does not answer, or has no worker

Work = Callable[..., dict[str, Any]]
Progress = Callable[[dict[str, Any]], None]

_here = threading.local()  # `.tell`: where `report` goes from this thread


def run_shards(
    work: Work,
    shards: Sequence[int],
    *args: Any,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
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
        raise ConfigError("--workers", "must be a positive number", got=workers)
    if scheduler is None and (workers == 1 or len(shards) <= 1):
        with _telling(progress or (lambda event: None)):
            for shard in shards:
                yield work(shard, *args)
        return
    with _client(min(workers, len(shards)), scheduler) as client:
        yield from _gather(client, work, shards, args, progress)


def report(event: dict[str, Any]) -> None:
    """Called by the work of a shard: hand a small event with a "clip" to the coordinator's `progress`."""
    tell: Progress | None = getattr(_here, "tell", None)
    if tell is not None:  # else a caller of ours runs one shard by hand
        tell(event)


@contextmanager
def _telling(tell: Progress) -> Iterator[None]:
    before, _here.tell = getattr(_here, "tell", None), tell
    try:
        yield
    finally:
        _here.tell = before


def _on_worker(work: Work, shard: int, topic: str, args: tuple[Any, ...]) -> dict[str, Any]:
    from distributed import get_worker

    worker = get_worker()
    with _telling(lambda event: worker.log_event(topic, {"shard": shard, **event})):
        return work(shard, *args)


def _gather(
    client: Client, work: Work, shards: Sequence[int], args: tuple[Any, ...], progress: Progress | None
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

    deserted = _Deserted(client, lambda: client.cancel(list(shard_of), reason="no worker is left"))
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
                raise (_no_worker(_address(client)) if deserted.true else _gone(client)) from error
            heard.forget(shard_of.pop(future))
            future.release()
            submit(1)
            yield summary
    finally:
        deserted.stop()
        with suppress(OSError, CancelledError):  # nobody is left to be told
            client.cancel(list(shard_of), reason="stopped")


class _Deserted:
    """Watches, in a thread, for a scheduler that has had no worker for `PATIENCE_S`; `then` is called once.

    A scheduler waits for ever: another worker may join.
    """

    def __init__(self, client: Client, then: Callable[[], object]) -> None:
        self.true, self._client, self._then = False, client, then
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        seen = time.monotonic()
        while not self._ended.wait(min(5, PATIENCE_S / 4)):
            try:
                workers = self._client.scheduler_info()["workers"]
            except (OSError, ValueError, KeyError):  # it went away, which the futures tell
                return
            seen = time.monotonic() if workers else seen
            if time.monotonic() - seen > PATIENCE_S:
                self.true = True
                self._then()
                return


class _Heard:
    """Passes on each clip of a shard once, however often the shard was begun."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._clips = progress, dict[int, set[str]]()

    def __call__(self, message: tuple[float, dict[str, Any]]) -> None:
        event = message[1]
        clips = self._clips.setdefault(event["shard"], set())
        if self._progress is not None and event["clip"] not in clips:
            clips.add(event["clip"])
            self._progress(event)

    def forget(self, shard: int) -> None:
        self._clips.pop(shard, None)


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    import dask
    from distributed import Client

    settings = {
        "distributed.comm.timeouts.connect": f"{PATIENCE_S}s",
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        # the arrays of a shard live in its worker's process, which bounds them itself
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
    }
    if scheduler is not None and not ADDRESS.fullmatch(scheduler):
        raise ConfigError("--scheduler", "is no address of a Dask scheduler", got=scheduler, expected="tcp://host:port")
    with _quiet(), _environment(), dask.config.set(settings):
        if scheduler is None:
            with _local_cluster(workers) as cluster, Client(cluster, set_as_default=False) as client:
                client.register_plugin(_deaf_to_interrupts())
                yield client
            return
        try:
            client = Client(scheduler, timeout=PATIENCE_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                scheduler,
                f"no Dask scheduler answers there ({str(error)[:120]})",
                remedy="start one with `dask scheduler` and give its address as --scheduler tcp://host:port",
            ) from error
        with client:
            _await_worker(client, scheduler)
            yield client


def _await_worker(client: Client, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError:
        raise _no_worker(scheduler) from None


def _no_worker(scheduler: str) -> ConfigError:
    remedy = f"start some with `dask worker {scheduler}` and run the same command again"
    return ConfigError(scheduler, "the Dask scheduler has no worker", remedy=remedy)


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler is not None else "--scheduler"


def _gone(client: Client) -> ConfigError:
    return ConfigError(
        _address(client), "the Dask scheduler went away", remedy="start it and run the same command again"
    )


@contextmanager
def _local_cluster(workers: int) -> Iterator[LocalCluster]:
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",  # some free port: another run may be under way
        memory_limit=0,
        silence_logs=logging.CRITICAL,  # what a shard raises is raised here, and told once
    )
    try:
        yield cluster
    finally:
        # workers hold nothing that is not on the disk: no reason to wait until each has taken itself apart
        for nanny in cluster.workers.values():
            nanny.close_gracefully()  # else it would start another
            with suppress(ProcessLookupError, TypeError):  # it has ended already
                os.kill(nanny.pid, signal.SIGKILL)
        cluster.close()


def _deaf_to_interrupts() -> Any:
    """A plugin for local workers: Ctrl-C reaches the whole process group, but ending them is the coordinator's."""
    from distributed import WorkerPlugin

    class Deaf(WorkerPlugin):
        name = "deaf-to-interrupts"

        def setup(self, worker: Any) -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return Deaf()


@contextmanager
def _quiet() -> Iterator[None]:
    """None of Dask's own messages; ours are for the user."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _environment() -> Iterator[None]:
    """Children must not import from a `pipeline/` in the working directory; and what Dask sets for its workers
    (OMP_NUM_THREADS=1 among others) must not stay in this process, which may train next."""
    before = dict(os.environ)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

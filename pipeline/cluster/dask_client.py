"""A client of a Dask cluster: of local worker processes, or of an existing scheduler.

In: a number of workers or an address. Out: a client that is closed at the end, and the errors for a cluster that cannot
be reached, has no worker, or went away. Independent of shards.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

ALLOWED_DEATHS = 3  # of workers on one shard, before that shard is given up
ADDRESS = re.compile(r"((tcp|tls|ucx|wss?)://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})|inproc://\S+")
PATIENCE_S = 60  # for a scheduler that does not answer, or has no worker
LONGEST_GREETING = 1 << 20  # bytes; it takes some hundred
SILENT = logging.CRITICAL + 1  # what is wrong with a shard or the cluster is raised here, and shown once


@contextmanager
def connected(workers: int, scheduler: str | None) -> Iterator[Client]:
    """A client of `workers` local processes, or of the scheduler at an address.

    Raises:
        ConfigError: `scheduler` is not an address, does not answer, or has no worker.
    """
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
    if scheduler is not None:
        found = ADDRESS.fullmatch(scheduler)
        if found is None or int(found["port"] or 0) >= 1 << 16:  # some systems take a larger port modulo 65536
            problem = "is not the address of a Dask scheduler"
            raise ConfigError("scheduler", problem, got=scheduler, expected="tcp://host:port")
    with _quiet(), _environment(), dask.config.set(settings):
        if scheduler is None:
            with _local_cluster(workers) as cluster, Client(cluster, set_as_default=False) as client:
                yield client
            return
        try:
            _require_greeting(scheduler)
            client = Client(scheduler, timeout=PATIENCE_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # the last: tls:// without certificates
            raise ConfigError(
                scheduler,
                f"no Dask scheduler answers there ({str(error)[:120]})",
                remedy="start one with `dask scheduler` and set `scheduler` to its address, tcp://host:port",
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE_S)
            except TimeoutError:
                raise no_worker(scheduler) from None
            yield client


def _require_greeting(address: str) -> None:
    """Raises OSError for a server other than Dask's, whose greeting Dask's client would await forever."""
    from distributed.comm.addressing import parse_address

    scheme, location = parse_address(address)  # Dask's configuration may make tls the default scheme
    if scheme != "tcp":
        return
    host, _, port = location.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S)
    except OSError:  # it may be starting: the client tries again, and raises
        return
    with connection, connection.makefile("rb") as stream:
        try:
            size = stream.read(8)  # of its first message, in bytes
        except TimeoutError:
            size = b""
    if len(size) < 8 or int.from_bytes(size, "little") > LONGEST_GREETING:
        raise OSError("another server listens there")


def no_worker(scheduler: str) -> ConfigError:
    """The error for a cluster without a worker."""
    remedy = f"start some with `dask worker {scheduler}` and run the same command again"
    return ConfigError(scheduler, "the Dask scheduler has no worker", remedy=remedy)


def address_of(client: Client) -> str:
    """The address of a client's scheduler."""
    return str(client.scheduler.address) if client.scheduler is not None else "scheduler"


def scheduler_gone(client: Client) -> ConfigError:
    """The error for a scheduler that went away."""
    return ConfigError(
        address_of(client), "the Dask scheduler went away", remedy="start it and run the same command again"
    )


@contextmanager
def _local_cluster(workers: int) -> Iterator[LocalCluster]:
    from distributed import LocalCluster

    with ExitStack() as held:
        held.enter_context(_interrupts_held())
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # any free port: another run may be under way
            memory_limit=0,
            silence_logs=SILENT,
        )
        try:
            held.close()
            yield cluster
        finally:
            # workers hold nothing that is not on the disk, so they need not close in order
            for nanny in cluster.workers.values():
                nanny.close_gracefully()  # otherwise it would start another
                with suppress(ProcessLookupError, TypeError):  # it has ended already
                    os.kill(nanny.pid, signal.SIGKILL)
            cluster.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: it reaches the whole process group, but the coordinator ends the workers.

    Threads and processes that start in the block inherit the blocked signal, as do their own children. Other threads of
    this process may still receive it, so a handler records it.
    """
    resource_tracker.ensure_running()  # otherwise the first process to be started starts it, and unblocks signals
    received: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()  # only that thread may set handlers
    handler = signal.signal(signal.SIGINT, lambda number, frame: received.append(number)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if is_main:
            signal.signal(signal.SIGINT, handler)
        if received and callable(handler):
            handler(signal.SIGINT, None)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(SILENT)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _environment() -> Iterator[None]:
    """Keep children from importing a `pipeline/` of the working directory, and restore the environment at the end: Dask
    sets OMP_NUM_THREADS=1 and others for its workers, and this process may train next."""
    before = dict(os.environ)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


class WorkerWatch(threading.Thread):
    """A thread that calls `then` once, when the scheduler has had no worker for `PATIENCE_S`.

    A scheduler itself waits forever: another worker may join.
    """

    def __init__(self, client: Client, then: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.expired, self._client, self._then = False, client, then
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()

    def run(self) -> None:
        seen = time.monotonic()
        while not self._ended.wait(min(5, PATIENCE_S / 4)):
            try:
                workers = self._client.scheduler_info()["workers"]
            except (OSError, ValueError, KeyError):  # it went away: the futures raise
                return
            seen = time.monotonic() if workers else seen
            if time.monotonic() - seen > PATIENCE_S:
                self.expired = True
                self._then()
                return

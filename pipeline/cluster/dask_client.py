"""A client of a Dask cluster: local worker processes of our own, or a scheduler that is there.

In: a number of workers or an address. Out: a client that is taken apart at the end, and the sentences for a cluster
that is not there, has no worker, or went away. Knows nothing of shards.
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

ALLOWED_DEATHS = 3  # of workers, before the shard that they all worked on is given up
ADDRESS = re.compile(r"((tcp|tls|ucx|wss?)://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})|inproc://\S+")
PATIENCE_S = 60  # with a scheduler that does not answer, or has no worker
LONGEST_GREETING = 1 << 20  # bytes; it takes some hundred


@contextmanager
def connected(workers: int, scheduler: str | None) -> Iterator[Client]:
    """A client of so many local processes, or of the scheduler at an address.

    Raises:
        ConfigError: it is no address, nothing answers there, or there is no worker.
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
    if scheduler is not None and not _is_address(scheduler):
        raise ConfigError("scheduler", "is no address of a Dask scheduler", got=scheduler, expected="tcp://host:port")
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
            _await_worker(client, scheduler)
            yield client


def _is_address(text: str) -> bool:
    """A larger port would be taken for another one by some systems, and not by others."""
    found = ADDRESS.fullmatch(text)
    return found is not None and int(found["port"] or 0) < 1 << 16


def _require_greeting(address: str) -> None:
    """Dask's client waits for ever for the first message of a server that is none of Dask's.

    Raises:
        OSError: what accepts connections there does not begin as Dask's servers do.
    """
    from distributed.comm.addressing import parse_address

    scheme, place = parse_address(address)  # Dask's configuration may say that what has no scheme is tls
    if scheme != "tcp":
        return
    host, _, port = place.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S)
    except OSError:  # it may be about to start: the client tries again, and tells
        return
    with connection, connection.makefile("rb") as stream:
        try:
            size = stream.read(8)  # of its first message, in bytes
        except TimeoutError:
            size = b""
    if len(size) < 8 or int.from_bytes(size, "little") > LONGEST_GREETING:
        raise OSError("another server listens there")


def _await_worker(client: Client, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError:
        raise no_worker(scheduler) from None


def no_worker(scheduler: str) -> ConfigError:
    """The sentence for a cluster without a worker."""
    remedy = f"start some with `dask worker {scheduler}` and run the same command again"
    return ConfigError(scheduler, "the Dask scheduler has no worker", remedy=remedy)


def address_of(client: Client) -> str:
    """Of its scheduler."""
    return str(client.scheduler.address) if client.scheduler is not None else "scheduler"


def gone(client: Client) -> ConfigError:
    """The sentence for a scheduler that went away."""
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
            dashboard_address=":0",  # some free port: another run may be under way
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # what a shard raises is raised here, and told once
        )
        try:
            held.close()
            yield cluster
        finally:
            # workers hold nothing that is not on the disk: no reason to wait until each has taken itself apart
            for nanny in cluster.workers.values():
                nanny.close_gracefully()  # else it would start another
                with suppress(ProcessLookupError, TypeError):  # it has ended already
                    os.kill(nanny.pid, signal.SIGKILL)
            cluster.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches the whole process group, but ending workers is the coordinator's, once they are there.

    Held here until the block ends. Threads and processes that start in it never hear it, nor does what they start: a
    signal that is blocked stays so in all of them. Other threads of this process may hear it, so it is noted as well.
    """
    resource_tracker.ensure_running()  # else the first process to be started starts it, and that lets signals through
    came: list[int] = []
    leads = threading.current_thread() is threading.main_thread()  # else this thread never hears of it
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if leads else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if leads:
            signal.signal(signal.SIGINT, handler)
        if came and callable(handler):
            handler(signal.SIGINT, None)


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


class Deserted:
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

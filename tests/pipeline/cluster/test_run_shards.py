"""Shards in this process, on local processes and on a Dask cluster: each is made, errors and progress come back."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import LocalCluster

import pipeline.cluster.run_shards as cluster
from pipeline.cluster import dask_client
from pipeline.cluster.run_shards import report, run_shards
from pipeline.errors import ArtifactError, ConfigError, DecodeError

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A cluster of one worker with two threads, in this process: what `--scheduler` names."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", silence_logs=logging.ERROR
    ) as running:
        yield running.scheduler_address


def _work(shard: int, factor: int) -> dict[str, Any]:
    report({"clip": f"{shard}a", "outcome": "done"})
    report({"clip": f"{shard}b", "outcome": "failed"})
    return {"shard": shard, "value": shard * factor, "process": os.getpid(), "thread": threading.get_ident()}


def _fail(shard: int) -> dict[str, Any]:
    if shard == 3:
        raise DecodeError("x.avi", "ended early", got=5, expected=9, frames=5)
    return {"shard": shard}


def _die(shard: int, marks: str, always: bool) -> dict[str, Any]:
    report({"clip": f"{shard}a", "outcome": "done"})
    mark = Path(marks) / f"{shard}"
    if shard == 2 and (always or not mark.exists()):
        mark.touch()
        time.sleep(0.5)  # until the report has left
        os.kill(os.getpid(), signal.SIGKILL)
    report({"clip": f"{shard}b", "outcome": "done"})
    return {"shard": shard, "pythonsafepath": os.environ.get("PYTHONSAFEPATH")}


def test_one_worker_is_this_process() -> None:
    events: list[dict[str, Any]] = []
    done = list(run_shards(_work, [4, 1, 2], 10, progress=events.append))
    assert [(d["shard"], d["value"], d["process"]) for d in done] == [(s, 10 * s, os.getpid()) for s in (4, 1, 2)]
    assert [e["clip"] for e in events] == ["4a", "4b", "1a", "1b", "2a", "2b"]
    report({"clip": "nobody listens"})
    assert len(events) == 6


def test_no_shards_start_nothing() -> None:
    assert list(run_shards(_work, [], 10, workers=8)) == []


def test_a_cluster_makes_every_shard_once_and_tells_each_clip_once(scheduler: str) -> None:
    events: list[dict[str, Any]] = []
    done = list(run_shards(_work, range(20), 3, scheduler=scheduler, progress=events.append))
    assert sorted((d["shard"], d["value"]) for d in done) == [(s, 3 * s) for s in range(20)]
    assert len({d["thread"] for d in done}) == 2
    assert sorted(e["clip"] for e in events) == sorted(f"{s}{part}" for s in range(20) for part in "ab")
    again = list(run_shards(_work, range(3), 4, scheduler=scheduler))  # is run, not remembered
    assert sorted(d["value"] for d in again) == [0, 4, 8]


def test_only_a_window_of_shards_is_submitted(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WINDOW", 5)
    taken: list[int] = []

    class Counting(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[int]:
            for shard in range(40):
                taken.append(shard)
                yield shard

    results = run_shards(_work, Counting(range(40)), 1, scheduler=scheduler)
    most = 0
    for count, _ in enumerate(results, start=1):
        most = max(most, len(taken) - count)
    assert len(taken) == 40
    assert most <= 5


def test_an_error_of_the_work_comes_back_as_it_was(scheduler: str) -> None:
    with pytest.raises(DecodeError, match=r"x\.avi: ended early \(got 5, expected 9\)") as error:
        list(run_shards(_fail, range(40), scheduler=scheduler))
    assert error.value.frames == 5
    with pytest.raises(DecodeError):
        list(run_shards(_fail, range(5)))


def _no_worker_comes(client: object, count: int, timeout: float) -> None:
    raise TimeoutError


def test_a_scheduler_that_is_not_there_or_has_no_worker_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_client, "PATIENCE_S", 1)
    with pytest.raises(ConfigError, match="no Dask scheduler answers there"):
        list(run_shards(_work, [0, 1], 1, scheduler="tcp://127.0.0.1:9"))
    for address in ("foo", "", "http://127.0.0.1:8786", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "nonsense://here"):
        with pytest.raises(ConfigError, match="scheduler: is not the address of a Dask scheduler"):
            list(run_shards(_work, [0, 1], 1, scheduler=address))
    monkeypatch.setattr(dask_client, "PATIENCE_S", 60)  # with the scheduler, which is there; none with workers
    monkeypatch.setattr("distributed.Client.wait_for_workers", _no_worker_comes)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0", silence_logs=logging.ERROR) as empty,
        pytest.raises(ConfigError, match=r"has no worker; start some with `dask worker inproc://"),
    ):
        list(run_shards(_work, [0, 1], 1, scheduler=empty.scheduler_address))


def test_a_server_that_is_no_scheduler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's own client would wait for ever for what such a server never sends."""
    monkeypatch.setattr(dask_client, "PATIENCE_S", 1)
    refused = "no Dask scheduler answers there .another server listens there"
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConfigError, match=refused):
        list(run_shards(_work, [0, 1], 1, scheduler=f"tcp://127.0.0.1:{silent.getsockname()[1]}"))
    with socket.create_server(("127.0.0.1", 0)) as talker:

        def talk() -> None:
            with talker.accept()[0] as caller:
                caller.sendall(b"220 mail.example.org ESMTP\r\n")
                caller.recv(1)

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(ConfigError, match=refused):
            list(run_shards(_work, [0, 1], 1, scheduler=f"127.0.0.1:{talker.getsockname()[1]}"))


def test_a_default_that_is_not_tcp_is_not_greeted_as_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that speaks TLS says nothing until it is greeted in TLS, which is Dask's business."""
    monkeypatch.setattr(dask_client, "PATIENCE_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(OSError, match="another server"):
            dask_client._require_greeting(place)
        with dask.config.set({"distributed.comm.default-scheme": "tls"}):
            dask_client._require_greeting(place)
            with pytest.raises(OSError, match="another server"):
                dask_client._require_greeting(f"tcp://{place}")


def test_a_scheduler_at_an_address_of_its_own_is_greeted() -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, protocol="tcp", processes=False, dashboard_address=":0",
        silence_logs=logging.ERROR,
    ) as running:  # fmt: skip
        assert running.scheduler_address.startswith("tcp://")
        assert len(list(run_shards(_work, [0, 1], 1, scheduler=running.scheduler_address))) == 2


def test_certificates_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*given: object, **how: object) -> None:
        raise TypeError("TLS expects a `ssl_context` argument")

    monkeypatch.setattr("distributed.Client", without)
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers there .TLS expects"):
        list(run_shards(_work, [0, 1], 1, scheduler="tls://127.0.0.1:9"))


def _slow(shard: int) -> dict[str, Any]:
    time.sleep(0.2)
    return {"shard": shard}


def test_a_cluster_that_all_workers_have_left_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as leaving:
        results = run_shards(_slow, range(400), scheduler=leaving.scheduler_address)
        assert next(results) == {"shard": 0}
        monkeypatch.setattr(dask_client, "PATIENCE_S", 2)
        leaving.scale(0)
        with pytest.raises(ConfigError, match=r"has no worker; start some with .* and run the same command again"):
            list(results)


def test_an_error_on_a_local_worker_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DecodeError, match="ended early"):
        list(run_shards(_fail, [1, 2, 3, 4], workers=2))
    assert capfd.readouterr().err == ""  # the sentence is the caller's to print


def test_workers_must_be_a_number() -> None:
    with pytest.raises(ConfigError, match="positive"):
        list(run_shards(_work, [0], 1, workers=0))


def test_local_workers_that_die_cost_a_repetition_and_no_clip_twice(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    before = dict(os.environ)
    done = list(run_shards(_die, range(6), str(tmp_path), False, workers=2, progress=events.append))
    assert sorted(d["shard"] for d in done) == list(range(6))
    assert {d["pythonsafepath"] for d in done} == {"1"}
    assert sorted(e["clip"] for e in events) == sorted(f"{s}{part}" for s in range(6) for part in "ab")
    assert dict(os.environ) == before  # Dask's OMP_NUM_THREADS=1 would slow down what comes next


def test_an_interrupt_while_workers_start_comes_when_they_have_whichever_thread_hears_it() -> None:
    ended = threading.Event()
    listener = threading.Thread(target=ended.wait)  # with the signal let through, as a library's own threads have it
    listener.start()
    passed = []

    def start() -> None:
        with dask_client._interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            assert heard.recv(1)  # by the listener
            passed.append(True)

    heard, written = socket.socketpair()
    written.setblocking(False)
    signal.set_wakeup_fd(written.fileno())
    try:
        with heard, written, pytest.raises(KeyboardInterrupt):
            start()
    finally:
        signal.set_wakeup_fd(-1)
        ended.set()
        listener.join()
    assert passed == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_an_interrupt_of_the_whole_group_is_told_once(tmp_path: Path, moment: str) -> None:
    """A terminal's Ctrl-C reaches workers too, which may be importing anything: none of them says a word of it."""
    raw, videos = tmp_path / "raw", "videos/S*"
    command = ["-m", "cli.main", "prepare", "synthetic", "--raw-only", "--out", str(raw), "--workers", "2", "--quiet"]
    root = Path(__file__).resolve().parents[3]
    run = subprocess.Popen(
        [sys.executable, *command], cwd=root, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    process = psutil.Process(run.pid)
    while not (list(raw.glob(videos)) if moment == "working" else len(process.children()) > 1) and run.poll() is None:
        time.sleep(0.01)
    group = process.children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)
    told = run.communicate(timeout=600)[1]
    assert (run.returncode, told) == (130, "star: stopped; nothing finished is lost, and the same command resumes\n")
    assert not psutil.wait_procs(group, timeout=120)[1]


def test_a_shard_that_kills_every_worker_is_given_up_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_client, "ALLOWED_DEATHS", 1)
    with pytest.raises(ArtifactError, match="shard 2: was given up: its worker died 2 times"):
        list(run_shards(_die, range(3), str(tmp_path), True, workers=2))

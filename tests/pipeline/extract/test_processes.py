"""Stage 2 under real SIGKILLs of its process group, and on a Dask cluster that loses a worker mid-run."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from extract_corpus import OPTIONS, install, tree
from extract_corpus import write_prepared as write
from s3_server import environment, s3_server

from pipeline.extract.coordinator import extract
from pipeline.store.blobs import open_blobs
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store

pytestmark = pytest.mark.processes

HERE = Path(__file__).resolve().parents[2]
CLIPS, VIEWS, SHARD_CLIPS = 20, 2, 4  # ten shards and views
IN_FLIGHT = 3  # shards of one worker: one that is computed, one that waits to be put, one that is being put
KILLS = 5
PATIENCE_S = 600  # only a hang lasts longer


def surroundings(seconds: float = 0.03) -> dict[str, str]:
    """Of a child process: our modules, the stub in Dask's workers too, and a backbone that takes its time."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        "STUB_SECONDS": str(seconds),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(HERE / "extract_corpus.py"),
        "OMP_NUM_THREADS": "1",
    }


def begin(
    prepared: Path, out: str, *, workers: int = 1, scheduler: str = "", seconds: float = 0.03
) -> subprocess.Popen:
    """Stage 2 in a process group of its own."""
    told = [str(prepared), out, str(VIEWS), str(workers), *([scheduler] if scheduler else [])]
    return subprocess.Popen(
        [sys.executable, str(HERE / "extract_driver.py"), *told],
        env=surroundings(seconds), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors[-3000:]
    return out


def kill_after(process: subprocess.Popen, clips: int) -> tuple[bool, int]:
    """SIGKILL the whole group once so many clips are computed; whether it was still at work, and how many were."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(clips + 1)]  # "begun", and some clips
    working = process.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    return working, sum("/" in line for line in [*lines, *rest.splitlines()])


def committed(out: str) -> int:
    """Clips and views whose shards are committed."""
    blobs = open_blobs(out)
    data = blobs.get_many([key for key in blobs.keys("commits") if "metadata" not in key])
    return sum(len(json.loads(record or b"")["clips"]) for record in data)


def kill_often(prepared: Path, out: str, kills: int, seed: int) -> int:
    """So many killed attempts, then one that is left alone; how many struck while there was work."""
    rng, struck = np.random.default_rng(seed), 0
    for _ in range(kills):
        before = committed(out)
        working, computed = kill_after(begin(prepared, out), int(rng.integers(0, 12)))
        struck += working
        assert computed - (committed(out) - before) <= IN_FLIGHT * SHARD_CLIPS  # no more than that is done again
    assert "account" in finish(begin(prepared, out, seconds=0))
    return struck


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The prepared folder, and the store of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    folder = write(root / "prepared", CLIPS, draws=2, excluded=[3], failed=[9])
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        extract(folder.path, root / "s", replace(OPTIONS, views=VIEWS))
    return folder.path, root / "s"


def test_five_sigkills_locally(whole: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, undisturbed = whole
    assert kill_often(prepared, str(tmp_path / "s"), KILLS, seed=0)
    assert tree(tmp_path / "s") == tree(undisturbed)
    assert TokenStore.open(tmp_path / "s").content_digest() == TokenStore.open(undisturbed).content_digest()
    assert not list((tmp_path / "s").rglob(".*.part-*"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as endpoint:
        for name, value in environment(endpoint).items():
            monkeypatch.setenv(name, value)
        yield f"s3://bucket/{secrets.token_hex(4)}/s.zarr"


def test_five_sigkills_against_s3(whole: tuple[Path, Path], bucket: str) -> None:
    prepared, undisturbed = whole
    assert kill_often(prepared, bucket, KILLS, seed=1)
    blobs = open_blobs(bucket)
    keys = [key for key in blobs.keys("") if not key.startswith("log/")]
    assert dict(zip(keys, blobs.get_many(keys), strict=True)) == tree(undisturbed)
    assert list(verify_store(bucket)) == []


def test_two_local_workers_make_the_same_store(whole: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, undisturbed = whole
    out = finish(begin(prepared, str(tmp_path / "s"), workers=2, seconds=0))
    assert len(set(out.split("\n")[1:-2])) == CLIPS * VIEWS
    assert tree(tmp_path / "s") == tree(undisturbed)


@contextmanager
def dask(*arguments: str) -> Iterator[subprocess.Popen]:
    """`dask scheduler` or `dask worker`, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments], env=surroundings(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def worker(address: str, threads: int = 1) -> list[str]:
    return ["worker", address, "--nthreads", str(threads), "--no-nanny", "--no-dashboard"]


def test_a_dask_worker_dies_and_another_joins(whole: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, undisturbed = whole
    place = tmp_path / "scheduler.json"
    with dask("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)):
        deadline = time.monotonic() + PATIENCE_S
        while not place.exists():
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.1)
        address = json.loads(place.read_text())["address"]
        with dask(*worker(address)) as first, dask(*worker(address)):
            run = begin(prepared, str(tmp_path / "s"), scheduler=address, seconds=0.3)
            assert run.stdout is not None
            for _ in range(6):  # "begun", and some clips
                assert run.stdout.readline()
            os.killpg(first.pid, signal.SIGKILL)
            assert run.poll() is None
            with dask(*worker(address, threads=3)):  # whose runs take turns
                finish(run)
    assert tree(tmp_path / "s") == tree(undisturbed)
    assert TokenStore.open(tmp_path / "s").content_digest() == TokenStore.open(undisturbed).content_digest()


@pytest.mark.soak
@pytest.mark.parametrize("place", ["local", "s3"])
def test_many_sigkills(whole: tuple[Path, Path], tmp_path: Path, place: str, request: pytest.FixtureRequest) -> None:
    prepared, undisturbed = whole
    kills, seed, struck = int(os.environ.get("N", "50")), int(os.environ.get("SEED", "0")), 0
    for attempt in range(-(-kills // KILLS)):
        url = f"{request.getfixturevalue('bucket')}-{attempt}" if place == "s3" else str(tmp_path / f"s{attempt}")
        struck += kill_often(prepared, url, KILLS, seed + attempt)
        assert TokenStore.open(url).content_digest() == TokenStore.open(undisturbed).content_digest()
        assert list(verify_store(url)) == []
    print(f"{place}: {struck} kills struck at work, every store as the undisturbed one")
    assert struck

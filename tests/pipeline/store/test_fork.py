"""An open store in a forked process: a folder still works, an object store refuses and names the remedy."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.store_contract import small_arrays
from s3_server import environment, s3_server
from star_stores import write_small_store
from torch.utils.data import DataLoader

from pipeline.errors import ConfigError, StarError
from pipeline.store.token_store import TokenStore
from star.data.dataset import TokenDataset

pytestmark = pytest.mark.processes

PATIENCE = 300  # seconds until a fork counts as hanging
REFUSAL = r'cannot be used in a process forked .* start processes with "spawn"'


def in_a_fork(work: Callable[[], Any]) -> Any:
    """What `work` returns, or raises, in a fork of this process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run() -> None:
        try:
            theirs.send(work())
        except StarError as error:
            theirs.send(error)

    process = context.Process(target=run, daemon=True)
    process.start()
    try:
        assert ours.poll(PATIENCE), "the fork hangs"
        found = ours.recv()
    finally:
        process.kill()
        process.join()
    if isinstance(found, StarError):
        raise found
    return found


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture(params=["memory", "s3"])
def bucket(request: pytest.FixtureRequest, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    name = secrets.token_hex(4)
    return f"memory://{name}" if request.param == "memory" else f"s3://bucket/{name}/tokens.zarr"


@pytest.mark.parametrize("used", [True, False], ids=["after its parent used it", "first"])
def test_a_folders_store_is_read_in_a_fork(tmp_path: Path, used: bool) -> None:
    written, store = small_arrays(tmp_path / "s"), TokenStore.open(tmp_path / "s", threads=4)
    if used:
        store.read(range(11))  # its threads are at work, its files are open
    for rows in ([3, 0, 10], [7, 3]):
        batch = in_a_fork(lambda rows=rows: store.read(rows, view=1))
        assert np.array_equal(batch.gg, written["gg"][rows, 1])
        assert batch.labels.tolist() == [row % 3 for row in rows]
    assert np.array_equal(store.read(range(11)).jm, written["jm"][:, 0])


def test_a_lock_that_was_held_at_the_fork_holds_nobody_up(tmp_path: Path) -> None:
    written, store = small_arrays(tmp_path / "s"), TokenStore.open(tmp_path / "s")
    store.read([0])
    shard = next(iter(store._reader._shards.values()))
    with store._reader._lock, shard.opening:  # as another thread of the parent might
        assert np.array_equal(in_a_fork(lambda: store.read([0, 1])).gg, written["gg"][:2, 0])

        def forget_and_read() -> Any:
            store._reader.forget()
            return store.read([0, 1])

        assert np.array_equal(in_a_fork(forget_and_read).gg, written["gg"][:2, 0])


def test_an_object_stores_reader_says_what_to_do_instead(bucket: str) -> None:
    written, store = small_arrays(bucket), TokenStore.open(bucket)
    store.read(range(11))
    for work in (
        lambda: store.read([3]),
        lambda: store.status,
        lambda: TokenStore.open(bucket).read([3]),  # the library's threads are the process's: a new store has none
    ):
        with pytest.raises(ConfigError, match=REFUSAL):
            in_a_fork(work)
    assert np.array_equal(store.read(range(11)).jm, written["jm"][:, 0])


def test_a_dataloader_that_forks_reads_a_folder(tmp_path: Path) -> None:
    dataset = TokenDataset(write_small_store(tmp_path / "s"), in_memory=False)
    whole = dataset.read(range(len(dataset)))
    batches = list(DataLoader(dataset, batch_size=5, num_workers=2, multiprocessing_context="fork"))
    assert np.array_equal(np.concatenate([batch.jm for batch in batches]), whole.jm)


def test_a_dataloader_that_forks_is_refused_with_what_a_bucket_needs(bucket: str) -> None:
    write_small_store(bucket)  # type: ignore[arg-type]
    dataset = TokenDataset(bucket, in_memory=False)
    with pytest.raises((ConfigError, RuntimeError), match=REFUSAL):
        next(iter(DataLoader(dataset, batch_size=5, num_workers=2, multiprocessing_context="fork", timeout=PATIENCE)))

"""Devices, weights and threads: resolved once, one worker for each GPU, and refused in one sentence."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from distributed import Client, LocalCluster
from extract_corpus import OPTIONS

from pipeline import torch_device
from pipeline.config import ExtractOptions
from pipeline.errors import ConfigError, DataError
from pipeline.extract import compute, devices


def test_devices_that_differ_in_precision_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "resolve_device", lambda devices: devices)
    monkeypatch.setattr(torch_device, "resolve_precision", lambda asked, name: "bf16" if name == "cuda:0" else "fp32")
    with pytest.raises(ConfigError, match=r"precision: differs between the devices .got auto, expected fp32 or bf16"):
        compute.resolve(replace(OPTIONS, precision="auto", device="cuda:0,cuda:1"))


@pytest.mark.parametrize("device", ["mps", "meta", "cuda:99", "nothing"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="device: "):
        devices.resolve_device(device)


def test_the_batch_is_the_devices_where_none_is_asked_for() -> None:
    options = replace(OPTIONS, batch_clips=0)
    assert compute.resolve(options)[0].batch_clips == compute.BATCH_CLIPS["cpu"]
    assert compute.resolve(replace(options, batch_clips=7))[0].batch_clips == 7
    resolved = compute.resolve_here(0, json.dumps(asdict(options)))  # what a cluster's worker says
    assert (ExtractOptions(**json.loads(resolved["options"])), resolved["weights"]) == compute.resolve(options)


@pytest.mark.parametrize(
    ("name", "device"), [(0, "cuda:1"), (1, "cuda:0"), ("2", "cuda:3"), (3, "cuda:1"), ("tcp://far:4711", "cuda:1")]
)
def test_a_worker_takes_the_device_of_its_name(name: object, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_dask_worker", lambda: SimpleNamespace(name=name))
    assert devices.device_of_this_worker(["cuda:1", "cuda:0", "cuda:3"]) == device


@pytest.mark.processes
def test_local_workers_take_a_device_each() -> None:
    names = ["cuda:1", "cuda:0", "cuda:3"]
    with (
        LocalCluster(
            n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        taken = {
            worker.name: client.submit(
                devices.device_of_this_worker, names, workers=[worker.address], pure=False
            ).result()
            for worker in cluster.workers.values()
        }
    assert taken == dict(enumerate(names))


def test_devices_are_resolved() -> None:
    assert devices.device_of_this_worker(["cuda:0", "cuda:1"]) == "cuda:0"  # in no worker
    assert devices.resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="device: no such device"):
        devices.resolve_device("gpu0")
    with pytest.raises(ConfigError, match=r"device: this machine has no such GPU .* set `device` to cpu"):
        devices.resolve_device("cuda:99")


def test_workers_with_other_weights_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = SimpleNamespace(backbone=SimpleNamespace(digest="e" * 64))
    monkeypatch.setattr(compute, "computer_for", lambda options: computer)
    with pytest.raises(DataError, match="holds other weights on this worker than where the command was started"):
        compute.worker_computer(OPTIONS, "f" * 64, 1)


def test_a_worker_without_a_number_of_threads_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = SimpleNamespace(backbone=SimpleNamespace(digest="f" * 64), begin=None)
    monkeypatch.setattr(compute, "computer_for", lambda options: computer)
    monkeypatch.setattr(devices, "cores", lambda: 7)
    threads_set: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads_set.append)
    for threads, workers in ((0, 1), (3, 1), (0, 2), (0, 8)):
        monkeypatch.setattr(devices, "workers_on_this_host", lambda workers=workers: workers)
        compute._loaded.cache_clear()
        compute.worker_computer(OPTIONS, "f" * 64, threads)
    compute._loaded.cache_clear()
    assert threads_set == [7, 3, 3, 1]


def test_a_kept_computer_still_sets_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits must not depend on what a process did between two calls."""
    monkeypatch.setattr(compute, "_loaded", lambda options, digest: None)
    threads_set: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads_set.append)
    for _ in range(2):
        compute.worker_computer(OPTIONS, "f" * 64, 1)
    assert threads_set == [1, 1]


@pytest.mark.parametrize(
    ("device", "workers", "dealt"),
    [
        ("cpu", 1, ("cpu", 1)),
        ("cpu", 4, ("cpu", 4)),
        ("auto", 1, ("cuda", 1)),
        ("auto", 2, ("cuda:0,cuda:1", 2)),
        ("cuda", 3, ("cuda:0,cuda:1,cuda:2", 3)),
        ("cuda:1", 1, ("cuda:1", 1)),
        ("cuda:2,cuda:0", 1, ("cuda:2,cuda:0", 2)),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(
    device: str, workers: int, dealt: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert devices.assign_devices(device, workers, None) == dealt


def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device in ("auto", "cuda", "cuda:0,cuda:1"):
        with pytest.raises(
            ConfigError, match=r"workers: each GPU takes one worker .got 4, expected at most 2 on cuda:0,cuda:1"
        ):
            devices.assign_devices(device, 4, None)
    with pytest.raises(ConfigError, match=r"at most 1 on cuda:1.; set `workers` to 1, or `device` to cpu"):
        devices.assign_devices("cuda:1", 2, None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert devices.assign_devices("auto", 4, None) == ("cpu", 4)


def test_a_cluster_is_not_dealt_several_devices() -> None:
    assert devices.assign_devices("auto", 1, "tcp://far:8786") == ("auto", 1)  # what its workers have is theirs to say
    with pytest.raises(ConfigError, match=r"device: .* .got cuda:0,cuda:1.; .* `dask worker` .* CUDA_VISIBLE_DEVICES"):
        devices.assign_devices("cuda:0,cuda:1", 1, "tcp://far:8786")


@pytest.mark.processes
def test_workers_of_a_machine_are_counted() -> None:
    assert devices.workers_on_this_host() == 1  # this is not a worker
    with (
        LocalCluster(
            n_workers=3, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert client.submit(devices.workers_on_this_host, pure=False).result() == 3

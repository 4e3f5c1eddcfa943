"""A dry run's bytes are exact, or a bound under a codec; its seconds hold in most runs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from extract_corpus import OPTIONS, computing, install, stub_tokens, tree
from extract_corpus import write_prepared as write

from pipeline.config import ExtractOptions, PrepareOptions
from pipeline.datasets.synthetic import recipe
from pipeline.datasets.synthetic.write_all import write_set
from pipeline.errors import ArtifactError
from pipeline.extract import compute
from pipeline.extract import estimate as estimate_module
from pipeline.extract.coordinator import extract
from pipeline.extract.estimate import _overlapped, estimate_extract
from pipeline.extract.provenance import sizes_of
from pipeline.prepare.coordinator import prepare
from pipeline.store.batches import JOINT_FIELDS
from pipeline.store.layout import spec_of
from pipeline.store.token_store import TokenStore


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_bytes_are_exact_without_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    install(monkeypatch)
    folder = write(tmp_path / "prepared", 9, excluded=[2], failed=[5])
    options = replace(OPTIONS, views=2, dtype=dtype)
    estimate = estimate_extract(folder.path, options, str(tmp_path / "s"), workers=1)
    assert not (tmp_path / "s").exists()
    extract(folder.path, tmp_path / "s", options)
    taken = sum(len(data) for data in tree(tmp_path / "s").values())
    assert (estimate["bytes"], estimate["files"]) == (taken, len(tree(tmp_path / "s")))
    assert (estimate["clips"], estimate["excluded"], estimate["failed"], estimate["views"]) == (7, 1, 1, 2)
    low, high = estimate["seconds"]
    assert 0 <= low <= high


@pytest.mark.parametrize("done", [0, 1, 9])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_bytes_under_a_codec_are_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int, dtype: str
) -> None:
    """Of tokens that zstd cannot make smaller, too."""
    install(monkeypatch)

    def noise(frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, ...]:
        gg, jm, mask = stub_tokens(frames, joints, visible)
        bits = (np.random.default_rng(0).integers(0, 1 << 16, tokens.shape, np.uint16) & 0xBFFF for tokens in (gg, jm))
        return *(drawn.view(np.float16) for drawn in bits), mask

    monkeypatch.setattr(compute, "worker_computer", computing(noise))
    folder, options = write(tmp_path / "prepared", 9, excluded=range(9 - done)), replace(OPTIONS, codec="zstd")
    options = replace(options, dtype=dtype)
    bound = estimate_extract(folder.path, options, str(tmp_path / "s"), workers=1)["bytes"]
    extract(folder.path, tmp_path / "s", options)
    taken = sum(len(data) for data in tree(tmp_path / "s").values())
    assert taken <= bound
    if done == 9 and dtype == "float16":
        # what zstd makes of the joints' places is not foretold
        sizes = TokenStore.open(tmp_path / "s").sizes
        places = sum(spec_of(sizes, name).clip_bytes for name in JOINT_FIELDS) * done
        assert bound < 1.02 * taken + places


def test_the_pilot_comes_from_all_over_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder = write(tmp_path / "prepared", 40, excluded=range(4))
    groups = estimate_module._groups(folder, OPTIONS, sizes_of(folder, OPTIONS))
    assert [(group.job.source.number, group.rows) for group in groups] == [
        (2, [0, 2, 3]),
        (5, [0, 2, 3]),
        (8, [0, 2, 3]),
    ]
    alone = write(tmp_path / "alone", 40, shard_clips=64)
    groups = estimate_module._groups(alone, OPTIONS, sizes_of(alone, OPTIONS))
    assert [group.rows for group in groups] == [[2, 6, 11], [15, 20, 24], [28, 33, 37]]


def test_existing_shards_are_not_counted_as_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder, out = write(tmp_path / "prepared", 9, excluded=[2]), str(tmp_path / "s")
    extract(folder.path, out, OPTIONS)
    (tmp_path / "s/commits/000/00001.json").unlink()
    for views, to_do in ((1, 1), (2, 4)):  # three shards each
        estimate = estimate_extract(folder.path, replace(OPTIONS, views=views), out, workers=1)
        assert (estimate["shards"], estimate["shards_to_do"]) == (3 * views, to_do)
    extract(folder.path, out, replace(OPTIONS, views=2))
    estimate = estimate_extract(folder.path, replace(OPTIONS, views=2), out, workers=1)
    assert (estimate["shards_to_do"], estimate["seconds"]) == (0, None)
    before = tree(tmp_path / "s")
    with pytest.raises(ArtifactError, match=r"made from something else: sigma: 1\.0, now 2\.0"):
        estimate_extract(folder.path, replace(OPTIONS, sigma=2.0), out, workers=1)
    assert tree(tmp_path / "s") == before


def test_a_gpus_time_is_that_of_its_slowest_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "overlap", lambda device: (4, 2, 1))
    assert _overlapped([1.0, 2.0, 4.0], "cpu") == 7
    assert _overlapped([4.0, 0.5, 1.0], "cuda:0") == 1
    assert _overlapped([4.0, 0.5, 3.0], "cuda") == 1.5
    assert _overlapped([4.0, 2.5, 3.0], "cuda:0,cuda:1") == 2.5


def test_nothing_to_compute_takes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    folder = write(tmp_path / "prepared", 2, excluded=[0, 1])
    estimate = estimate_extract(folder.path, OPTIONS, str(tmp_path / "s"), workers=1)
    assert estimate["seconds"] is None
    with pytest.raises(ArtifactError, match="does not exist"):
        estimate_extract(tmp_path / "none", OPTIONS, str(tmp_path / "s"), workers=1)


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_the_seconds_hold_in_four_of_five_runs(tmp_path: Path, workers: int) -> None:
    write_set(tmp_path / "raw", clips_per_class=4, seed=0)
    prepare(recipe.listing(tmp_path / "raw"), PrepareOptions(shard_clips=8), tmp_path / "prepared")
    options, held = ExtractOptions(weights="random", device="cpu"), 0
    for run in range(5):
        estimate = estimate_extract(tmp_path / "prepared", options, str(tmp_path / str(run)), workers=workers)
        start = time.monotonic()
        extract(tmp_path / "prepared", tmp_path / str(run), options, workers=workers)
        took = time.monotonic() - start
        held += estimate["seconds"][0] <= took <= estimate["seconds"][1]
        print(f"workers {workers}: estimated {estimate['seconds']} s, took {took:.1f} s")
    assert held >= 4

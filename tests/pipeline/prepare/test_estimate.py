"""The estimate of stage 1: its ranges hold, it writes nothing, and it refuses what the real run would refuse."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_corpus import listing, names, write_corpus

from pipeline.artifacts import files
from pipeline.config import PrepareOptions
from pipeline.datasets.synthetic import recipe
from pipeline.errors import ArtifactError
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.estimate import PILOT_CLIPS, estimate_prepare, interval

OPTIONS = PrepareOptions(shard_clips=8)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips, of which one has no skeleton and one no video that can be read."""
    root = tmp_path_factory.mktemp("raw")
    write_corpus(root, names(30))
    (root / "skeletons" / f"{names(30)[3]}.skeleton").unlink()
    (root / "videos" / f"{names(30)[0]}_rgb.avi").write_bytes(b"no video")
    return root


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "raw" not in path.parts)


@pytest.mark.parametrize("changed", [{}, {"frame_codec": "lossless", "draws": 2}, {"geometry": "full"}])
def test_the_bytes_lie_in_their_range(raw: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    options = dataclasses.replace(OPTIONS, **changed)
    told = estimate_prepare(listing(raw), options, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()
    prepare(listing(raw), options, tmp_path / "out")
    low, high = told["bytes"]
    assert low <= _bytes(tmp_path / "out") <= high
    assert high < 1.5 * low


def test_it_counts_what_is_there_and_what_is_left(raw: Path, tmp_path: Path) -> None:
    rows, out = listing(raw), tmp_path / "out"
    told = estimate_prepare(rows, OPTIONS, out, workers=2)
    assert (told["clips"], told["missing"], told["clips_to_do"]) == (30, 1, 30)
    assert (told["shards"], told["shards_to_do"], told["pilot_clips"]) == (4, 4, PILOT_CLIPS)
    assert len(told["pilot_failures"]) == 1
    assert told["pilot_failures"][0].startswith(f"{names(30)[0]}: video: cannot be opened")
    assert told["bytes_free"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    prepare(rows, OPTIONS, out)
    (out / "clips-00002.json").unlink()
    told = estimate_prepare(rows, OPTIONS, out, workers=2)
    assert (told["clips_to_do"], told["shards_to_do"]) == (8, 1)
    (out / "clips-00002.json").touch()
    shutil.rmtree(out)
    prepare(rows, OPTIONS, out)
    told = estimate_prepare(rows, OPTIONS, out, workers=2)
    assert (told["clips_to_do"], told["bytes"], told["seconds"]) == (0, [0, 0], [0, 0])


def test_nothing_that_can_be_made_gives_no_range(raw: Path, tmp_path: Path) -> None:
    rows = dataclasses.replace(listing(raw), records=listing(raw).records[:1])
    told = estimate_prepare(rows, OPTIONS, tmp_path / "out", workers=1)
    assert told["bytes"] is None
    assert len(told["pilot_failures"]) == 1


def test_it_refuses_what_the_run_would_refuse(raw: Path, tmp_path: Path) -> None:
    prepare(listing(raw), OPTIONS, tmp_path / "out")
    with pytest.raises(ArtifactError, match="draws: 1, now 3"):
        estimate_prepare(listing(raw), dataclasses.replace(OPTIONS, draws=3), tmp_path / "out", workers=1)


def test_a_disk_that_is_too_small_is_refused(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = estimate_prepare(listing(raw), OPTIONS, tmp_path / "out", workers=1)["bytes"]

    def tell(free: int) -> None:
        usage = type(shutil.disk_usage("/"))(10**12, 10**12 - free, free)
        monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)

    tell(low - 1)
    with pytest.raises(ArtifactError, match=r"the disk is too small .*free some space"):
        estimate_prepare(listing(raw), OPTIONS, tmp_path / "out", workers=1)
    tell(high)
    assert estimate_prepare(listing(raw), OPTIONS, tmp_path / "out", workers=1)["bytes_free"] == high


def test_intervals_hold_in_four_of_five_made_up_data_sets() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.1, 0.5, 1.0):
        held = 0
        for _ in range(400):
            clips = rng.lognormal(0, spread, 1000)
            low, high = interval(clips[:: 1000 // PILOT_CLIPS][:PILOT_CLIPS].tolist(), len(clips))
            held += low <= clips.sum() <= high
        assert held > 0.8 * 400, (spread, held)
    assert interval([3, 5], 2) == (8.0, 8.0)  # all of them were made: nothing is left to guess
    assert interval([4.0], 100)[1] > 400


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_the_seconds_hold_in_four_of_five_runs(tmp_path: Path, workers: int) -> None:
    from pipeline.datasets.synthetic.write_all import write_set

    write_set(tmp_path / "raw", clips_per_class=8, seed=0)
    rows, held = recipe.listing(tmp_path / "raw"), 0
    for run in range(5):
        told = estimate_prepare(rows, PrepareOptions(shard_clips=8), tmp_path / str(run), workers=workers)
        start = time.monotonic()
        prepare(rows, PrepareOptions(shard_clips=8), tmp_path / str(run), workers=workers)
        took = time.monotonic() - start
        held += told["seconds"][0] <= took <= told["seconds"][1]
        print(f"workers {workers}: told {told['seconds']} s, took {took:.1f} s")
    assert held >= 4

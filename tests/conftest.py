"""Fixtures that every test may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real NTU, Penn Action and trap videos, which is not part of the project (research licences)."""
    folder = Path(os.environ.get("STAR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real test data at {folder}; set STAR_TEST_DATA to the folder that holds ntu/, penn/, video/")
    return folder


@pytest.fixture(scope="session")
def raw_synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic set as `star prepare synthetic --raw-only` writes it: videos/ and skeletons/ of 12 clips.

    Sit down, stand up, point at a box and walk towards each other (two persons), three clips each: two of subjects
    that train, one of a subject that tests under xsub, each by another camera. Seed 0. Tests read it and never write
    into it.
    """
    from pipeline.datasets.synthetic.recipe import clip_names, write_clip

    base = tmp_path_factory.getbasetemp()
    # the processes of pytest-xdist share one set: a clip appears whole, and is written once
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "raw_synthetic"
    for name in clip_names(3, seed=0):
        if name[-4:] in ("A001", "A002", "A008", "A013"):
            write_clip(root, name, seed=0)
    return root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)

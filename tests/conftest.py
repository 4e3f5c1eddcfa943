"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real NTU, Penn Action and trap videos, which is no part of the project (research licences)."""
    folder = Path(os.environ.get("STAR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real test data at {folder}; set STAR_TEST_DATA to the folder that holds ntu/, penn/, video/")
    return folder

"""Every pose format under the contract of all: right in place and time, or refused."""

from __future__ import annotations

import pytest
from contracts.pose_contract import PoseContract
from pose_files import WRITERS, Writer


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> Writer:
    return WRITERS[request.param]


class TestFormats(PoseContract):
    """All of the contract, for each of `WRITERS`."""

"""`benchmarks/gpu.py` without a GPU: it says so, and `--tiny` measures every row of its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}  # no compiler is needed

pytestmark = pytest.mark.processes


def run(cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **HIDDEN}, check=False)


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    shown = run(tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == "no GPU here: nothing is measured (--tiny tries the script on a CPU)\n"


def test_tiny_measures_every_row(tmp_path: Path) -> None:
    shown = run(tmp_path, "--tiny", "--minutes", "600", "--json", "rows.json", "--scratch", str(tmp_path))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["row"] for row in rows if row["outcome"] != "measured"} == {"CUDA graph"}
    parts = {row["part"] for row in rows}
    sides = {"backbone 32 px, batch 1", "backbone 48 px, batch 1"}
    assert parts == {"ceiling", *sides, "stage 2", "training", "preset fast", "preset paper"}
    names = [row["row"] for row in rows]
    for name in ("eager", "compiled", "host to device", "compute", "device to host", "training", "training, compiled"):
        assert name in names
    for threads in ("default threads", "half the threads", "twice the threads"):
        for work in ("JPEG decoding and crop", "hashing and writing", "the whole"):
            assert f"{work}, {threads}" in names
    table = [line for line in shown.stdout.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(rows)
    assert {line.count("|") for line in table} == {8}
    assert all(row["speed"] > 0 for row in rows if row["outcome"] == "measured")


def test_a_project_that_is_not_installed_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu = import_module("gpu")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(gpu, "VERSIONS_KEPT", ("numpy", "star-tokens-of-nobody"))
    gpu.stand_in_versions(tmp_path / "versions")
    assert version("star-tokens-of-nobody") == "0"
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["star_tokens_of_nobody-0.dist-info"]


def test_a_table_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that does not fit is listed, one that outlasts the budget is ended, and one that fails costs no other."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = import_module("on_gpu.table")

    def fails() -> None:
        raise RuntimeError("out of luck\nat some place")

    def hangs() -> None:
        while True:
            time.sleep(0.01)

    def planned(name: str, seconds: float, measure: object) -> object:
        return table.Planned("part", name, seconds, measure)

    shown = table.Table(torch.device("cpu"), minutes=60)
    fine = planned("fine", 0, lambda: table.Measured(2.0, "clips/s", {"matmul": 0.5}))
    with table.ended_after(0.2):
        shown.run([planned("fails", 0, fails), fine, planned("too long", 1e9, fails)], until=1.0)
        shown.run([planned("hangs", 0, hangs), fine], until=1.0)
    assert [row["outcome"] for row in shown.rows] == ["failed", "measured", "cut off", "cut off", "cut off"]
    assert shown.rows[0]["note"] == "RuntimeError: out of luck"
    assert shown.of("failed") == ["part: fails"]

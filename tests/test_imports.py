"""Imports go one way: pipeline <- star <- cli, and within pipeline the two stages meet only where they are joined."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "star", "cli", "manifests")
SHARED = {
    *("account", "blobs", "checksum", "cluster", "commit", "config", "damage", "errors", "fingerprint", "manifest"),
    *("records", "topologies"),
}
STAGE_2_STEPS = {
    *("heatmaps", "backbone", "mc18", "weights", "tokens", "transfer", "views"),
    *("store", "store_batches", "store_chunks", "store_int8", "store_layout", "store_reader", "store_records"),
    *("store_writer", "verify_store"),
}
JOINS = {"extract", "prepare"}  # the only files that know the order of their stage
STAR_MAY_USE = {"errors", "records", "config", "manifest", "store", "commit", "fingerprint"}


def _modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _imported(path: Path) -> set[str]:
    """Dotted names of our own modules that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def test_there_is_something_to_walk() -> None:
    assert len(_modules()) > 40


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_packages_import_downwards_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    used = {name.split(".")[0] for name in _imported(path)} - {package}
    allowed = {"pipeline": {"manifests"}, "star": {"pipeline"}, "cli": {"pipeline", "star"}, "manifests": set()}
    assert used <= allowed[package], f"{path} imports {used - allowed[package]}"


@pytest.mark.parametrize("path", sorted((ROOT / "star").glob("*.py")), ids=lambda p: p.name)
def test_star_uses_only_the_store_side_of_pipeline(path: Path) -> None:
    used = {name.split(".")[1] for name in _imported(path) if name.startswith("pipeline.")}
    assert used <= STAR_MAY_USE, f"{path} imports pipeline.{used - STAR_MAY_USE}"


def test_the_steps_of_stage_2_do_not_know_stage_1() -> None:
    for name in STAGE_2_STEPS:
        path = ROOT / "pipeline" / f"{name}.py"
        used = {module.split(".")[1] for module in _imported(path) if module.startswith("pipeline.")}
        assert used <= SHARED | {m for m in used if m.split("_")[0] in {s.split("_")[0] for s in STAGE_2_STEPS}}, path
        assert not used & JOINS, path


def test_the_steps_of_stage_1_do_not_know_stage_2() -> None:
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        name = path.stem.split("_")[0]
        if name not in ("skeletons", "sampling", "decode", "watchdog", "geometry", "clips", "prepared", "prepare"):
            continue
        used = {module.split(".")[1] for module in _imported(path) if module.startswith("pipeline.")}
        assert not used & (STAGE_2_STEPS | {"extract"}), path


def test_training_needs_no_video_library() -> None:
    code = (
        "import sys, star.train, star.evaluate, star.figures; "
        "print(sorted({'av','cv2','decord','h5py','dask','distributed'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_no_command_needs_opencv_or_decord_to_import(tmp_path: Path) -> None:
    for name in ("cv2", "decord"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} on this machine')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import cli.main, pipeline.prepare, pipeline.extract, pipeline.decode, star.train, star.evaluate\n"
        "from pipeline.datasets import ntu, penn_action, folder, synthetic_set\n"
        "print('fine')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert shown.stdout.strip() == "fine", shown.stderr

"""Imports go one way: pipeline <- star <- cli, and inside them from folder to folder along a list of directions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "star", "cli", "manifests")
CONTRACT = {f"pipeline.{name}" for name in ("errors", "records", "config", "manifest", "torch_device")}

# What a folder may import beside itself and the contract: folders, or single modules. "pipeline" and "star" are the
# files at their top: the pure steps of the two data stages, and the models.
ALLOWED: dict[str, set[str]] = {
    "manifests": set(),
    "pipeline": {"manifests"},
    "pipeline/artifacts": set(),
    "pipeline/cluster": set(),
    "pipeline/child": set(),
    "pipeline/decode": {"pipeline/child"},
    "pipeline/skeletons": set(),
    "pipeline/backbone": {"pipeline/artifacts"},
    "pipeline/store": {"pipeline/artifacts", "pipeline.cluster.lookahead"},
    "pipeline/datasets": {
        *("pipeline/artifacts", "pipeline/child", "pipeline/cluster", "pipeline/skeletons"),
        *("pipeline.decode.containers", "pipeline.decode.picture_folder"),
    },
    "pipeline/prepare": {
        *("pipeline", "pipeline/artifacts", "pipeline/child", "pipeline/cluster", "pipeline/decode"),
        "pipeline/skeletons",
    },
    "pipeline/extract": {
        *("pipeline", "pipeline/artifacts", "pipeline/cluster", "pipeline/prepare", "pipeline/backbone"),
        "pipeline/store",
    },
    "star": {"star/config"},
    "star/config": {"pipeline/artifacts"},
    "star/distributed": {"star/config"},
    "star/data": {"star.batch", "star/config", "star/distributed", "pipeline/store", "pipeline.cluster.lookahead"},
    "star/runs": {"star", "star/data", "star/config", "pipeline/artifacts", "pipeline/store"},
    "star/evaluate": {
        *("star", "star/runs", "star/data", "star/distributed", "star/config", "pipeline/artifacts", "pipeline/store"),
    },
    "star/train": {
        *("star/evaluate", "star/runs", "star/data", "star", "star/distributed", "star/config"),
        *("pipeline/artifacts", "pipeline/store"),
    },
    "star/report": {"star/evaluate", "star/runs", "star/config"},
    "star/controls": {
        *("star", "star/evaluate", "star/runs", "star/data", "star/distributed", "star/config"),
        *("pipeline/artifacts", "pipeline/store"),
    },
    "star/study": {
        "star/controls",
        *("star/train", "star/evaluate", "star/report", "star/runs", "star/data", "star/distributed", "star/config"),
        *("pipeline/artifacts", "pipeline/store"),
    },
}


def _modules() -> dict[str, Path]:
    """Dotted name -> file; a package's name is its `__init__.py`'s."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imported(path: Path, *, at_import: bool = False) -> set[str]:
    """Our own modules that a file imports, anywhere in it, or only those that importing it imports."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in tree.body if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            names |= inner or {node.module}
    return names & MODULES.keys()


def _folder(path: Path) -> str:
    """ "pipeline/datasets" for what lies in or below it: a sub-folder of a sub-folder keeps its parent's rules."""
    return "/".join(path.relative_to(ROOT).parent.parts[:2])


def test_every_folder_has_its_directions() -> None:
    folders = {_folder(path) for path in MODULES.values()} - {"cli", "cli/commands", "cli/pictures"}
    assert folders == ALLOWED.keys()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_follow_the_directions(name: str) -> None:
    path = MODULES[name]
    here = _folder(path)
    if here.startswith("cli"):
        return  # it joins everything; the test below holds the others to not importing it
    strays = {
        module
        for module in _imported(path) - CONTRACT - {"pipeline"}
        if _folder(MODULES[module]) not in {here, *ALLOWED[here]} and module not in ALLOWED[here]
    }
    assert not strays, f"{name} imports {sorted(strays)}"


def test_nothing_imports_the_command_line() -> None:
    users = {name for name, path in MODULES.items() if any(m.split(".")[0] == "cli" for m in _imported(path))}
    assert {name for name in users if name.split(".")[0] != "cli"} == set()


def test_no_circle_of_modules() -> None:
    """Nor one that only a function's import closes: what two modules both need belongs into a third."""
    left = {name: _imported(path) - {name} for name, path in MODULES.items() if path.name != "__init__.py"}
    left = {name: {used for used in uses if used in left} for name, uses in left.items()}
    while free := [name for name, uses in left.items() if not uses & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in or behind a circle: {sorted(left)}"


def test_a_face_is_a_list() -> None:
    """A package's `__init__.py` hands on names and does nothing else."""
    for name, path in MODULES.items():
        if path.name == "__init__.py" and name not in ("pipeline", "star", "cli", "manifests"):
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in body), name


@pytest.mark.processes
def test_training_needs_no_video_library() -> None:
    code = (
        "import sys, star.train, star.evaluate, star.report, star.study, star.report.figures, star.study.ablate; "
        "print(sorted({'av','cv2','decord','h5py','dask','distributed'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


@pytest.mark.processes
def test_stage_2_needs_no_video_library() -> None:
    code = (
        "import sys, pipeline.extract.coordinator, pipeline.extract.estimate, pipeline.prepare.verify; "
        "print(sorted({'av', 'cv2', 'decord'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_no_command_needs_opencv_or_decord_to_import(tmp_path: Path) -> None:
    for name in ("cv2", "decord"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} on this machine')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import cli.main, pipeline.prepare, pipeline.extract, pipeline.decode, star.train, star.evaluate\n"
        "from pipeline.datasets import ntu, penn_action, folder\n"
        "from pipeline.datasets.synthetic import write_all\n"
        "print('fine')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert shown.stdout.strip() == "fine", shown.stderr

"""The wheel, installed without the tree and run from a folder that holds decoys of our package names."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel, and the dependencies by reference."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("star_tokens-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "manifests/ntu120/missing.txt" in names
    assert "manifests/synthetic/actions.json" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    # a .pth line adds the folder of the dependencies, but none that an editable install points to
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    python = folder / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*install, "--force-reinstall", "--ignore-installed", str(wheel)], check=True, capture_output=True)
    return python.parent


def _in_decoys(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    for package in ("pipeline", "cli", "star", "manifests"):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").write_text(f"raise RuntimeError('the decoy {package} was imported')\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_packages_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import pipeline, star, cli, manifests; print(pipeline.__file__, cli.__file__)"
    shown = _in_decoys(tmp_path, str(installed / "python"), "-P", "-c", code)
    assert str(installed.parent) in shown.stdout, (shown.stdout, shown.stderr)


def test_the_whole_line_runs_beside_decoys(installed: Path, tmp_path: Path) -> None:
    shown = _in_decoys(
        tmp_path,
        *(str(installed / "star"), "demo", "--out", "out", "--clips-per-class", "3", "--workers", "2", "--epochs", "2"),
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "test accuracy" in shown.stdout.splitlines()[-1]
    assert (tmp_path / "out" / "demo.png").stat().st_size > 10_000


def test_a_decoy_on_the_path_is_told(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "shadow" / "star").mkdir(parents=True)
    (tmp_path / "shadow" / "star" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "shadow")}
    shown = subprocess.run(
        [str(installed / "star"), "--help"], capture_output=True, text=True, env=environment, check=False
    )
    assert shown.returncode == 1
    assert "shadow" in shown.stderr
    assert "Traceback" not in shown.stderr

"""The commands of the README and docs/: `sh` blocks and the ten lines are run, all others are parsed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import done, star

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which the walk was run, and what each of its commands printed."""
    folder = tmp_path_factory.mktemp("walk")
    walk, _ = _blocks("sh")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = []
    for line in walk.strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "star"
        command = [sys.executable, "-P", "-m", "cli.main", *arguments]
        shown = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, (line, shown.stderr[-2000:])
        printed.append(shown.stdout)
    return folder, printed


def test_the_walk_ends_in_an_accuracy(walked: tuple[Path, list[str]]) -> None:
    _, printed = walked
    assert "42 done, 0 excluded, 0 failed, of 42" in printed[0]
    assert "42 done, 0 excluded, 0 failed, of 42" in printed[1]
    assert "artifact: token store" in printed[2]
    assert "every byte that was committed is whole" in printed[3]
    assert re.search(r"top-1 [01]\.\d+ \(95 % interval", printed[5])
    assert printed[4].splitlines()[-2:] == printed[5].splitlines()[-2:]


def test_reports_seeds_and_comparisons(walked: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: importing torch once for each line would take longer than all of them."""
    folder, _ = walked
    monkeypatch.chdir(folder)
    _, lines = _blocks("sh")
    printed = [done(*shlex.split(line)[1:]) for line in lines.strip().splitlines()]
    assert printed[0].startswith("runs/first/report.html\ntop-1 ")
    assert "Attention on frames" in Path("runs/first/report.html").read_text()
    assert re.search(r"mean top-1 [01]\.\d+, standard deviation over 2 seeds", printed[1])
    assert re.search(r"McNemar's exact test p = \d", printed[2])
    assert re.search(r"fold 0: top-1 [01]\.\d+ on \d+ clips held out of training", printed[3])
    assert printed[4] == "runs/studies/attention\n" + Path("runs/studies/attention/table.md").read_text()


def test_the_ten_lines_read_the_store(walked: tuple[Path, list[str]]) -> None:
    folder, _ = walked
    (lines,) = _blocks("python")
    assert len([line for line in lines.splitlines() if line.strip()]) <= 10
    shown = subprocess.run([sys.executable, "-c", lines], cwd=folder, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "S001C001P028R001A001 sit down (16, 49, 512) (16, 25, 64)"
    assert shown.stderr == ""


def _other_commands() -> list[str]:
    """Lines of the README and of docs/ that call `star`, by itself or under torchrun, with the reader's own paths."""
    texts = [README, *(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))]
    lines = [line.strip() for text in texts for block in _blocks("text", text) for line in block.splitlines()]
    return [line for line in lines if line.startswith("star ") or " --no-python star " in line]


@pytest.mark.parametrize("line", _other_commands())
def test_every_other_command_parses(line: str) -> None:
    words = shlex.split(line)
    words = words[words.index("star") + 1 :]
    # Typer parses before it runs: a wrong option ends in 2, a missing folder in 1
    shown = star(*words)
    assert shown.exit_code == 1, shown.output
    assert "does not exist" in shown.stderr or "not there" in shown.stderr or "not a folder" in shown.stderr

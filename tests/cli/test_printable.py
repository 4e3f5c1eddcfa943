"""Names come from strangers: none of them steers the terminal, and none ends a command."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import done, star
from star_stores import change_attributes, plain_options, write_small_store

from cli.main import PrintableText
from cli.progress import ClipProgress
from pipeline.errors import StarError, printable

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = ("\x1b[2J", "\x1b]0;title\x07", "a\rb", "\u202egpj.exe", "\x9b31m", "two\nlines", "\u2028", "\ud800", "\0")
HARMLESS = ("café", "跳躍", "mi\u200cravam", "👩\u200d👧", "a b", "$x$", "[red]", "<b>")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_steers_a_terminal_is_an_escape(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert "\\" in shown
    assert str(StarError(name, "is wrong", got=name, expected=name, remedy=name)).isprintable()


@pytest.mark.parametrize("name", HARMLESS)
def test_letters_of_all_languages_stay(name: str) -> None:
    assert printable(name) == name


def test_a_stream_keeps_lines_and_nothing_else() -> None:
    raw = io.BytesIO()
    stream = PrintableText(io.TextIOWrapper(raw, encoding="utf-8"))
    print("".join(HOSTILE[:5]), "next", sep="\n", file=stream)  # type: ignore[call-overload]
    stream.flush()
    shown = raw.getvalue().decode()
    assert [line.isprintable() for line in shown.split("\n")] == [True] * 3
    assert stream.encoding == "utf-8"


@pytest.mark.processes
def test_commands_show_names_of_a_store_as_escapes(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "s", classes=2, subjects=(1, 9), replications=1)
    change_attributes(store, lambda a: a.update(class_names=["\x1b[2Jone", "two"], dataset="\x1b[31msynthetic"))
    code = "from cli.main import main; main()"
    for command in (
        ["inspect", str(store)],
        ["verify", str(store)],
        ["train", "--from-cache", str(store), "--out", str(tmp_path / "x")],
    ):
        shown = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, cwd=ROOT, check=False, timeout=300
        )
        assert b"\x1b" not in shown.stdout + shown.stderr
        assert b"Traceback" not in shown.stderr


def test_classes_may_have_any_name_from_training_to_the_report(tmp_path: Path) -> None:
    store = write_small_store(tmp_path / "s", classes=2, subjects=(1, 9), replications=2)
    names = ["cost $\\frac{1$ x", "<b>x</b>\x1b[31m"]
    change_attributes(store, lambda attributes: attributes.update(class_names=names))
    settings = plain_options("model.width=16", "optim.epochs=1", "data.validation=0")  # of one training subject
    done("train", "--from-cache", store, "--out", tmp_path / "run", "--device", "cpu", *settings, "--loader-workers", 0)
    printed = done("evaluate", tmp_path / "run", "--device", "cpu", "--per-class")
    assert names[0] in printed
    assert "<b>x</b>\\x1b[31m" in printed
    assert "\x1b" not in printed
    done("report", tmp_path / "run", "--device", "cpu")
    page = (tmp_path / "run/report.html").read_text()
    assert all(letter.isprintable() or letter == "\n" for letter in page)
    assert "<td>cost $\\frac{1$ x</td>" in page
    assert "<td>&lt;b&gt;x&lt;/b&gt;\\x1b[31m</td>" in page
    assert "<b>x" not in page


def test_a_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = star("evaluate", tmp_path / "\x1b[2J[/bold]", "--device", "cpu")
    assert shown.exit_code == 1
    assert "\x1b" not in shown.stderr
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with ClipProgress("evaluate [/bold] [red]") as progress:
        progress({"total": 1})
        progress({"clip": "x", "outcome": "failed"})

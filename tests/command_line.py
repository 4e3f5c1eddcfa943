"""The `star` command for tests, run in this process, and a check of the sentence that bad input ends in.

In: arguments. Out: Typer's result. Starts no process.
"""

from __future__ import annotations

from typer.testing import CliRunner, Result

from cli.main import app


def star(*arguments: object) -> Result:
    """Run `star` in this process, as its entry point does."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="star")


def done(*arguments: object) -> str:
    """What a command that must end in 0 prints on stdout."""
    shown = star(*arguments)
    assert shown.exit_code == 0, (shown.exit_code, shown.stdout, shown.stderr, shown.exception)
    return shown.stdout


def one_sentence(shown: Result, *words: str) -> None:
    """Exit 1, nothing on stdout, one line on stderr that starts with "star:" and holds the words."""
    assert shown.exit_code == 1, (shown.exit_code, shown.stdout, shown.stderr)
    lines = [line for line in shown.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, shown.stderr
    assert lines[0].startswith("star: ")
    assert "Traceback" not in shown.stderr
    assert not shown.stdout
    for word in words:
        assert word in lines[0], (word, lines[0])

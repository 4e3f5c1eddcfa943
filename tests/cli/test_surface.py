"""The whole command line, frozen: commands, parameters, types, defaults.

`surface.txt` holds what `surface()` returns. After an intended change, regenerate it:
`PYTHONPATH=. python tests/cli/test_surface.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cli.main import app

FILE = Path(__file__).with_name("surface.txt")


def surface(command: Any, name: str) -> Iterator[str]:
    """A line for each command and, indented, one for each of its parameters, in the order of `--help`."""
    yield name
    for parameter in command.params:
        yield f"  {_parameter(parameter)}"
    for sub, found in getattr(command, "commands", {}).items():
        yield from surface(found, f"{name} {sub}")


def _parameter(parameter: Any) -> str:
    names = " ".join([*parameter.opts, *parameter.secondary_opts])
    if getattr(parameter, "is_flag", False):
        return f"{names}  flag, default {parameter.default}"
    kind = str(parameter.bare_type())
    kind += f" >= {parameter.min}" if parameter.min is not None else ""
    kind += f" <= {parameter.max}" if parameter.max is not None else ""
    kind += ", repeated" if getattr(parameter, "multiple", False) or parameter.nargs != 1 else ""
    return f"{names}  {kind}, " + ("required" if parameter.required else f"default {parameter.default}")


def test_the_surface_is_the_frozen_one() -> None:
    now = list(surface(typer.main.get_command(app), "star"))
    changes = list(difflib.unified_diff(FILE.read_text().splitlines(), now, "surface.txt", "now", n=1, lineterm=""))
    assert not changes, "\n" + "\n".join(changes)


if __name__ == "__main__":
    FILE.write_text("\n".join(surface(typer.main.get_command(app), "star")) + "\n")

"""`star demo`: everything, on the synthetic set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import Debug, Quiet


def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """All of it on the synthetic set; ends with an accuracy and a picture."""

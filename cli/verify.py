"""`star verify`: re-reads every byte of an artifact against its digest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.kinds import kind_of
from cli.options import Debug


def verify(
    path: Annotated[str, typer.Argument(help="A prepared folder, a token store or a run.", show_default=False)],
    deep: Annotated[
        bool, typer.Option("--deep", help="For a store: also decode every clip and compare its SHA-256; slower.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Re-read every byte against its digest; exit 1 and a list of files and clips where one differs."""
    kind = kind_of(path)
    if kind == "run":
        from star.run import open_run

        open_run(path).checkpoint()  # its own checksum is checked, or it raises
        print(f"{path}: the newest checkpoint is whole")
        return
    if kind == "prepared":
        from pipeline.verify_prepared import verify_prepared

        damages = verify_prepared(Path(path))
    else:
        from pipeline.verify_store import verify_store

        damages = verify_store(path, deep=deep)
    count = 0
    for damage in damages:
        count += 1
        print(f"{damage.file}: {', '.join(damage.clips) if damage.clips else 'no clip is lost by it'}")
    if count:
        print(
            f"star: {path}: {count} files differ from what was committed; delete them and their commit records, "
            "and run the same command again",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    print(f"{path}: every byte is as it was committed")

"""`star verify`: re-read every byte of an artifact and compare it with its digest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Debug
from pipeline.artifacts.kinds import NAMES, artifact_type
from pipeline.errors import ConfigError, printable

MAX_RECORDS = 8  # named in one sentence


def verify(
    path: Annotated[str, typer.Argument(help="A prepared folder, a token store or a run.", show_default=False)],
    deep: Annotated[
        bool, typer.Option("--deep", help="For a store: also decode every clip and compare its SHA-256; slower.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="For a prepared folder: read the videos and skeletons again, too.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Re-read every byte against its digest; exit 1 and a list of files and clips where one differs."""
    artifact = artifact_type(path)
    if raw and artifact != "prepared":
        raise ConfigError("raw", "is for prepared folders", got=NAMES[artifact], remedy="name the prepared folder")
    if artifact == "run":
        from star.runs.run import open_run

        open_run(path).model()  # raises where its checksum differs, or where it is of another model
        print(f"{path}: the newest checkpoint is whole")
        return
    open_artifact: Callable[[str], Any]
    if artifact == "prepared":
        from pipeline.prepare.folder import PreparedFolder
        from pipeline.prepare.verify import verify_prepared

        damages, open_artifact = verify_prepared(Path(path)), PreparedFolder.open
    else:
        from pipeline.store.token_store import TokenStore
        from pipeline.store.verify import verify_store

        damages, open_artifact = verify_store(path, deep=deep), TokenStore.open
    found = []
    for damage in damages:
        clips = ", ".join(damage.clips) if damage.clips else "no finished clip is affected"
        print(printable(f"{damage.file} {damage.problem}: {clips}"))
        found.append(damage)
    if found:
        records = sorted({damage.record for damage in found} - {damage.file for damage in found})
        shown = ", ".join(records[:MAX_RECORDS])
        shown += f" and {len(records) - MAX_RECORDS} more like them" if len(records) > MAX_RECORDS else ""
        more = f" and their commit records ({shown})" if records else ""
        files = "1 file is" if len(found) == 1 else f"{len(found)} files are"
        sentence = (
            f"star: {path}: {files} missing or not as committed; `star retry --damaged {path}` makes again what is "
            f"named above, or delete it{more} and run the same command again"
        )
        print(printable(sentence), file=sys.stderr)
        raise typer.Exit(1)
    if raw:
        _raw_files(Path(path))
    pending = open_artifact(path).account().pending
    rest = f"; {pending} clips are pending, which the same command makes" if pending else ""
    print(f"{path}: every byte that was committed is whole{rest}")


def _raw_files(path: Path) -> None:
    """Exit with 1, all of them named, where a video or skeleton is no longer what its clip was made from."""
    from pipeline.prepare.verify import verify_raw

    changed = 0
    for damage in verify_raw(path):
        print(printable(f"{damage.file} {damage.problem}: {', '.join(damage.clips)}"))
        changed += 1
    if changed:
        told = f"{changed} raw files are missing or not those that the clips were made from"
        remedy = "put the old ones back, or prepare the new ones into another folder"
        print(printable(f"star: {path}: {told}; {remedy}"), file=sys.stderr)
        raise typer.Exit(1)
    print(f"{path}: every video and skeleton is the one that its clip was made from")

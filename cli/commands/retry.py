"""`star retry`: try the failed clips of an artifact again, with the options it was made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli.commands.inspect import print_account
from cli.options import AllowMissing, Debug, MaxFailures, Quiet, Scheduler, Workers
from cli.progress import ClipProgress
from pipeline.artifacts.kinds import artifact_type
from pipeline.artifacts.outcomes import Account
from pipeline.errors import ConfigError


def retry(
    path: Annotated[str, typer.Argument(help="A prepared folder or a token store.", show_default=False)],
    prepared: Annotated[Path | None, typer.Option(help="For a store: the prepared folder, if it has moved.")] = None,
    weights: Annotated[str | None, typer.Option(help="For a store made with a weights file: that file.")] = None,
    device: Annotated[str, typer.Option(help="For a store: auto | cpu | cuda | cuda:0,cuda:1.")] = "auto",
    batch: Annotated[
        int, typer.Option(help="For a store: clips in one pass of the backbone; 0: 4 on a CPU, 32 on a GPU.", min=0)
    ] = 0,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Read every byte first, and make again what is lost or damaged.")
    ] = False,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    max_failures: MaxFailures = 0,
    allow_missing: AllowMissing = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Try what failed or is damaged again, and of a store what its prepared folder lacked; what is done stays.

    For raw files that have come since, run the same `star prepare` again: it looks for them.
    """
    artifact = artifact_type(path)
    if artifact == "run":
        raise ConfigError(path, "is a run, which has no clips to retry", remedy="run the same `star train` again")
    options_of_stores = {"--prepared": prepared, "--weights": weights, "--device": device != "auto", "--batch": batch}
    if artifact == "prepared" and any(options_of_stores.values()):
        raise ConfigError(
            path,
            "is a prepared folder, but these options are for a token store",
            got=", ".join(option for option, value in options_of_stores.items() if value),
            remedy="leave them out, or name the store",
        )
    with ClipProgress("retry", quiet=quiet) as progress:
        if artifact == "prepared":
            from pipeline.prepare.coordinator import prepare
            from pipeline.prepare.folder import PreparedFolder

            folder = PreparedFolder.open(path)
            account = prepare(
                folder.listing,
                folder.options,
                Path(path),
                workers=workers,
                scheduler=scheduler,
                retry=True,
                damaged=damaged,
                progress=progress,
            )
        else:
            from pipeline.extract.coordinator import extract, options_of
            from pipeline.store.token_store import TokenStore

            account = Account() if damaged else TokenStore.open(path).account()  # a damaged store may not open
            if damaged or account.failed or account.missing or account.pending:  # else no backbone need be loaded
                source, options = options_of(path, prepared=prepared, weights=weights)
                options = replace(options, device=device, batch_clips=batch)
                account = extract(
                    source,
                    path,
                    options,
                    workers=workers,
                    scheduler=scheduler,
                    retry=True,
                    damaged=damaged,
                    progress=progress,
                )
    print_account(path, account, max_failures=max_failures, allow_missing=allow_missing)

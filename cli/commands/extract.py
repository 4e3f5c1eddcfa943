"""`star extract-tokens`: from a prepared folder to a token store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    AllowMissing,
    Debug,
    DryRun,
    MaxFailures,
    Quiet,
    Scheduler,
    Seed,
    Workers,
    require_local_dry_run,
)
from cli.progress import ClipProgress
from pipeline.config import ExtractOptions


def extract_tokens(
    prepared: Annotated[Path, typer.Argument(help="A folder made by `star prepare`.", show_default=False)],
    out: Annotated[str, typer.Option(help="The store: a folder, or s3://bucket/prefix.", show_default=False)],
    weights: Annotated[
        str, typer.Option(help="kinetics400 (downloaded, checked) | random (seeded) | a state dict of mc3_18.")
    ] = "kinetics400",
    jm_layer: Annotated[str, typer.Option(help="Feature map of the JM tokens: layer1 | layer2 | layer3.")] = "layer2",
    sigma: Annotated[float, typer.Option(help="Of the joint heatmaps, in cells of that feature map.")] = 1.0,
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide JM tokens by their heatmap's sum.")] = False,
    views: Annotated[int, typer.Option(help="K: draws, crops and flips of each clip; view 0 is centred.", min=1)] = 1,
    precision: Annotated[str, typer.Option(help="auto | fp32 | bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:0,cuda:1 (a worker each).")] = "auto",
    batch: Annotated[
        int, typer.Option(help="Clips in one pass of the backbone; 0: 4 on a CPU, 32 on a GPU.", min=0)
    ] = 0,
    codec: Annotated[str, typer.Option(help="Of the token chunks: none | zstd.")] = "none",
    dtype: Annotated[
        str, typer.Option(help="Of the stored tokens: float16 | int8 (with a float16 scale for each).")
    ] = "float16",
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits every time on one machine; slower.")
    ] = False,
    seed: Seed = 0,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
    max_failures: MaxFailures = 0,
    allow_missing: AllowMissing = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage 2: GG and JM tokens from a frozen ResNet-MC18 and joint heatmaps, into a Zarr store."""
    options = ExtractOptions(
        weights=weights,
        jm_layer=jm_layer,
        sigma=sigma,
        normalize=normalize,
        views=views,
        precision=precision,
        device=device,
        batch_clips=batch,
        codec=codec,
        dtype=dtype,
        deterministic=deterministic,
        seed=seed,
    )
    if dry_run:
        require_local_dry_run(scheduler)
        from pipeline.extract.estimate import estimate_extract

        print(json.dumps(estimate_extract(prepared, options, out, workers=workers), indent=1))
        return
    from cli.commands.inspect import print_account
    from pipeline.extract.coordinator import extract

    with ClipProgress("extract-tokens", quiet=quiet) as progress:
        account = extract(prepared, out, options, workers=workers, scheduler=scheduler, progress=progress)
    print_account(out, account, max_failures=max_failures, allow_missing=allow_missing)

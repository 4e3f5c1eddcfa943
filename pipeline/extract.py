"""Stage 2: from a prepared folder to a token store.

In: a PreparedFolder in which every row is accounted for, ExtractOptions, a store's URL. Out: the store complete: for
each view and shard the prepared clips -> the view's draw, crop and flip -> backbone and heatmaps -> GG and JM tokens.
The coordinator settles weights, precision and device, makes the store, and waits; workers make shards
(`pipeline.extract_worker`). The same call goes on after any stop.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline import engine, manifest
from pipeline.account import Account
from pipeline.blobs import Blobs, open_blobs
from pipeline.clips import PERSONS
from pipeline.cluster import Progress, run_shards
from pipeline.commit import canonical_json
from pipeline.config import FRAMES, ExtractOptions
from pipeline.errors import ArtifactError, ConfigError
from pipeline.extract_worker import Plan, extract_run, is_open
from pipeline.prepared import PreparedFolder
from pipeline.room import require_room
from pipeline.store import TokenStore
from pipeline.store_chunks import file_bytes
from pipeline.store_layout import StoreSizes, specs
from pipeline.store_records import each_record_or_none, places
from pipeline.store_writer import check_store, create_store, grow_views

JM_CHANNELS = {"layer1": 64, "layer2": 128, "layer3": 256}
GG_CHANNELS, GG_STRIDE = 512, 16  # of layer4
SOURCE = "log/source.json"
VIEW_RULE = 1  # raised when `pipeline.views.view_of` changes what a view is
LONGEST_RUN = {"cpu": 4, "cuda": 64}  # shards: between two runs a worker has nothing to overlap
VERSIONS = ("star-tokens", "torch", "torchvision", "numpy", "zarr", "opencv-python-headless")
CLUSTER = 8  # workers that one may have, of which a coordinator knows nothing


def extract(
    prepared: Path,
    out: str | Path,
    options: ExtractOptions,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> Account:
    """Compute the tokens of every clip and view that the store does not hold yet.

    A finished store with fewer views than `options.views` is given the others; what it holds is not touched.

    Args:
        workers: local processes, at least one for each device named; `scheduler`: an existing Dask cluster instead,
            which must see the same paths.
        retry: try failed clips again (done and excluded ones are kept as they are).
        progress: called with {"total", "done", "how"} once and {"clip", "outcome"} for each clip and view, from this
            process.

    Returns:
        How the clips ended, each in the view that went worst.

    Raises:
        ArtifactError: `prepared` is unfinished or no prepared folder; the store was made from something else, cannot be
            written, has no room, or is in another coordinator's hands.
        ConfigError: no such device, precision or cluster. DataError: weights that are not mc3_18's.
    """
    folder = PreparedFolder.open(prepared)
    require_complete(folder)
    options, weights = _resolved(options, scheduler)
    workers = max(workers, len(options.device.split(",")))
    _require_shared(str(out), workers, scheduler)
    sizes, made_from, blobs = sizes_of(folder, options), made_from_of(folder, options, weights), open_blobs(out)
    records = list(folder.listing.records)
    check_store(blobs, sizes=sizes, made_from=made_from)  # before anything is written: `out` may be something else
    with blobs.sole_writer() as word:
        stamp = create_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about_of(folder))
        source = {"prepared": str(prepared.resolve()), "weights": options.weights}
        blobs.put(SOURCE, canonical_json(source))  # where things lay, for `star retry`; no part of the content
        todo, clips_done = unfinished(blobs, stamp, sizes, retry=retry)
        _require_room(blobs, sizes, len(todo))
        if progress is not None:
            how = f"{options.device}, {options.precision}, {options.batch_clips} clips at a time"
            progress({"total": sizes.clips * sizes.views, "done": clips_done, "how": how})
        how_many = workers if scheduler is None else CLUSTER
        plan = Plan(
            prepared=source["prepared"], out=blobs.url, options=options, sizes=sizes, stamp=stamp, weights=weights,
            word=word, threads=threads_of(options, workers, scheduler), retry=retry,
            run=run_length(len(todo), how_many, options.device),
        )  # fmt: skip
        _run(plan, todo, workers, scheduler, progress)
        grow_views(blobs, sizes=sizes, records=records)
    return TokenStore.open(out).account()


def _resolved(options: ExtractOptions, scheduler: str | None) -> tuple[ExtractOptions, str]:
    """`engine.resolve`, on the machines that will do the work."""
    if scheduler is None:
        return engine.resolve(options)
    told_of = replace(options, weights=engine.place_of(options.weights))
    ends = run_shards(engine.resolve_here, [0], json.dumps(asdict(told_of)), scheduler=scheduler)
    with contextlib.closing(ends):
        (told,) = ends
    return ExtractOptions(**json.loads(told["options"])), told["weights"]


def _run(plan: Plan, todo: list[int], workers: int, scheduler: str | None, progress: Progress | None) -> None:
    firsts = sorted({number // plan.run * plan.run for number in todo})
    ends = run_shards(extract_run, firsts, plan.to_json(), workers=workers, scheduler=scheduler, progress=progress)
    with contextlib.closing(ends):
        for _ in ends:
            pass


def unfinished(blobs: Blobs, stamp: str, sizes: StoreSizes, *, retry: bool = False) -> tuple[list[int], int]:
    """Numbers (view * shards + shard) of what is to be made, and how many clips and views the others hold."""
    todo, clips_done = [], 0
    for number, (_, record) in enumerate(each_record_or_none(blobs, stamp, places(sizes))):
        if is_open(record, retry=retry):
            todo.append(number)
        elif record is not None:
            clips_done += len(record["clips"])
    return todo, clips_done


def source_of(out: str) -> dict[str, str]:
    """Where the "prepared" folder and the "weights" of a store lay when it was made; empty where it does not say."""
    try:
        told = json.loads(open_blobs(out).get(SOURCE) or b"{}")
    except ValueError:  # no part of the content, so nothing guards its bytes
        return {}
    whole = isinstance(told, dict) and all(isinstance(told.get(name), str) for name in ("prepared", "weights"))
    return told if whole else {}


def options_of(out: str, *, prepared: Path | None = None, weights: str | None = None) -> tuple[Path, ExtractOptions]:
    """The prepared folder and the options that a store was made with.

    Args:
        prepared, weights: where they lie now, if they have moved.

    Raises:
        ArtifactError: no store, or one that does not say where it came from.
    """
    store, source = TokenStore.open(out), source_of(out)
    if not source and (prepared is None or weights is None):
        raise ArtifactError(out, "does not say where it was made from", remedy="give --prepared and --weights")
    names = ("precision", "jm_layer", "sigma", "normalize", "crop", "seed", "deterministic", "dtype")
    made = store.attrs["made_from"]
    if not set(names) <= made.keys():
        raise ArtifactError(
            out, "was not made by `star extract-tokens`", remedy="make its tokens again where they were"
        )
    options = ExtractOptions(
        weights=weights or source["weights"],
        views=store.sizes.views,
        codec=store.sizes.codec,
        **{name: made[name] for name in names},
    )
    folder = prepared or Path(source["prepared"])
    if not folder.exists():
        raise ArtifactError(
            folder, f"is not there any more, and {out} was made from it", remedy="say where it is with --prepared"
        )
    return folder, options


def sizes_of(folder: PreparedFolder, options: ExtractOptions) -> StoreSizes:
    """The store's sizes, known before anything is computed."""
    return StoreSizes(
        clips=len(folder.listing.records),
        views=options.views,
        shard_clips=folder.options.shard_clips,
        persons=PERSONS,
        frames=FRAMES,
        joints=len(manifest.topology(folder.listing.topology).joint_names),
        cells=(options.crop // GG_STRIDE) ** 2,
        gg_channels=GG_CHANNELS,
        jm_channels=JM_CHANNELS[options.jm_layer],
        dtype=options.dtype,
        codec=options.codec,
    )


def made_from_of(folder: PreparedFolder, options: ExtractOptions, weights: str) -> dict[str, Any]:
    """All that changes a token's value, and nothing else: what the fingerprint is of."""
    return {
        "prepared": folder.fingerprint,
        # a file is told by its tensors, not by its name
        "weights": {"kind": options.weights if options.weights in engine.NAMED_WEIGHTS else "file", "sha256": weights},
        "precision": options.precision,
        "jm_layer": options.jm_layer,
        "sigma": options.sigma,
        "normalize": options.normalize,
        "crop": options.crop,
        "view_rule": VIEW_RULE,
        "seed": options.seed,
        "dtype": options.dtype,
        "deterministic": options.deterministic,
    }


def threads_of(options: ExtractOptions, workers: int, scheduler: str | None) -> int:
    """For the backbone of each worker: its share of the cores; one where bits must not depend on their number; 0 where
    only the worker knows."""
    if options.deterministic:
        return 1
    return 0 if scheduler is not None else max(1, engine.cores() // workers)


def run_length(shards: int, workers: int, device: str) -> int:
    """Shards in a run: many, so that a worker has something to overlap, but four runs at least for each of several."""
    if workers == 1:
        return max(1, shards)
    return max(1, min(LONGEST_RUN["cuda" if device.startswith("cuda") else "cpu"], shards // (4 * workers)))


def about_of(folder: PreparedFolder) -> dict[str, Any]:
    """What readers are told beside the arrays; no part of the fingerprint."""
    from importlib.metadata import version

    return {
        "dataset": folder.listing.dataset,
        "class_names": list(folder.listing.class_names),
        "topology": folder.listing.topology,
        "joint_names": list(manifest.topology(folder.listing.topology).joint_names),
        "protocols": list(folder.listing.protocols),
        "prepared_with": folder.options.content(),
        "versions": {name: version(name) for name in VERSIONS},
    }


def require_complete(folder: PreparedFolder) -> None:
    """Raises ArtifactError where some row of a prepared folder is not accounted for."""
    pending = folder.account().pending
    if pending:
        raise ArtifactError(
            folder.path, f"is not finished: {pending} clips are pending", remedy="run the same `star prepare` again"
        )


def _require_shared(out: str, workers: int, scheduler: str | None) -> None:
    if out.startswith("memory://") and (workers > 1 or scheduler is not None):
        raise ConfigError(out, "is the memory of one process", remedy="use --workers 1, or a folder or s3:// URL")


def _require_room(blobs: Blobs, sizes: StoreSizes, shards: int) -> None:
    """Raises ArtifactError where a disk cannot hold the shards to be made, as far as their size is known before."""
    root = getattr(blobs, "root", None)
    if isinstance(root, Path) and sizes.codec == "none" and shards:
        least = min(len(sizes.rows(shard)) for shard in (0, sizes.shards - 1))
        require_room(root, shards * sum(file_bytes(spec, least, sizes) for spec in specs(sizes)))

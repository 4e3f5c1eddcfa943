"""Stage 2: from a prepared folder to a token store.

In: a PreparedFolder without pending clips, ExtractOptions, a store's URL. Out: the complete store: for each view and
shard the prepared clips -> the view's draw, crop and flip -> backbone and heatmaps -> GG and JM tokens. The coordinator
resolves weights, precision and device, creates the store, and waits; workers make shards (`pipeline.extract.worker`).
The same call resumes after any stop.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from pipeline.artifacts.boundary import LARGEST_JSON
from pipeline.artifacts.files import require_disk_space
from pipeline.artifacts.fingerprint import canonical_json
from pipeline.artifacts.fingerprint import fingerprint as fingerprint_of
from pipeline.artifacts.outcomes import Account
from pipeline.artifacts.schema import build, check, parse_json
from pipeline.cluster.run_shards import ShardProgress, run_shards
from pipeline.config import ExtractOptions
from pipeline.errors import ArtifactError, ConfigError, CorruptError
from pipeline.extract import compute, devices
from pipeline.extract.provenance import about_of, made_from_of, sizes_of
from pipeline.extract.worker import ExtractPlan, extract_run, is_open
from pipeline.prepare.folder import PreparedFolder
from pipeline.store.blobs import Blobs, open_blobs
from pipeline.store.check import check_store, require_store
from pipeline.store.chunks import file_bytes
from pipeline.store.commit_records import CONTENT, each_record, record_key, view_shards
from pipeline.store.layout import StoreSizes, chunk_key, specs
from pipeline.store.metadata import description_of, require_group
from pipeline.store.token_store import TokenStore
from pipeline.store.verify import verify_store
from pipeline.store.write import create_store, finish_store, require_columns

SOURCE = "log/source.json"
LONGEST_RUN = {"cpu": 4, "cuda": 64}  # shards; stages overlap only within a run


def extract(
    prepared: Path,
    out: str | Path,
    options: ExtractOptions,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    damaged: bool = False,
    progress: ShardProgress | None = None,
) -> Account:
    """Compute the tokens of every clip and view that the store lacks; returns each clip's outcome in its worst view.

    The missing views are added to a finished store with fewer than `options.views`; those it holds are not touched.

    Args:
        workers: local processes, at least one for each named device and no more than one for each GPU.
        scheduler: an existing Dask cluster instead, which must see the same paths.
        retry: try failed and missing clips again (done and excluded ones are kept as they are).
        damaged: make the shards and metadata again that `verify_store` names, and nothing else of what is there.
        progress: called in this process, once with {"total", "done", "how"}, then with {"clip", "outcome"} for each
            clip and view.

    Raises:
        ArtifactError: `prepared` is unfinished or no prepared folder; the store was made from something else, or from
            other content under the same names; it cannot be written, does not fit on the disk, or belongs to another
            coordinator.
        ConfigError: no such device, precision or cluster, or more workers than GPUs. DataError: weights of another
            network than mc3_18.
    """
    folder = PreparedFolder.open(prepared)
    require_complete(folder)
    device, workers = devices.assign_devices(options.device, workers, scheduler)
    options, weights = _resolved(replace(options, device=device), scheduler)
    if str(out).startswith("memory://") and (workers > 1 or scheduler is not None):
        remedy = "set `workers` to 1, or use a folder or an s3:// URL"
        raise ConfigError(out, "is the memory of one process", remedy=remedy)
    sizes, made_from, blobs = sizes_of(folder, options), made_from_of(folder, options, weights), open_blobs(out)
    records, about = list(folder.listing.records), about_of(folder, weights)
    # before anything is written: `out` may be something else
    require_columns(blobs, records)
    if damaged:
        require_store(blobs, fingerprint_of(made_from))
    else:
        check_store(blobs, sizes=sizes, made_from=made_from)
    with blobs.sole_writer() as lease:
        # by one who writes alone: what another coordinator is making is not damaged
        keys = damaged_keys(blobs, out) if damaged else []
        require_same_clips(blobs, fingerprint_of(made_from), sizes, folder, without=keys)
        for key in keys:
            blobs.delete(key)
        fingerprint = create_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about)
        source = {"prepared": str(prepared.resolve()), "weights": options.weights}
        blobs.put(SOURCE, canonical_json(source))  # for `star retry`; not part of the content
        todo, clips_done = unfinished(folder, blobs, fingerprint, sizes, retry=retry)
        _require_disk_space(blobs, sizes, todo)
        if todo:
            blobs.delete(CONTENT)  # until all is made it names what is not there
        if progress is not None:
            how = f"{options.device}, {options.precision}, {options.batch_clips} clips at a time"
            progress({"total": sizes.clips * sizes.views, "done": clips_done, "how": how})
        how_many = workers if scheduler is None else 8  # a guess, since the number of a cluster's workers is unknown
        plan = ExtractPlan(
            prepared=source["prepared"], out=blobs.url, options=options, sizes=sizes, fingerprint=fingerprint,
            weights=weights["sha256"], lease=lease, threads=threads_of(options, workers, scheduler), retry=retry,
            run=run_length(len(todo), how_many, options.device),
        )  # fmt: skip
        firsts = sorted({number // plan.run * plan.run for number in todo})
        run = run_shards(extract_run, firsts, plan.to_json(), workers=workers, scheduler=scheduler, progress=progress)
        with contextlib.closing(run):
            for _ in run:
                pass
        blobs.require_writer(lease)
        finish_store(blobs, sizes=sizes, records=records, made_from=made_from, about=about)
    return TokenStore.open(out).account()


def _resolved(options: ExtractOptions, scheduler: str | None) -> tuple[ExtractOptions, dict[str, str]]:
    """`compute.resolve`, on a machine that will compute."""
    if scheduler is None:
        return compute.resolve(options)
    portable = replace(options, weights=compute.weights_location(options.weights))
    results = run_shards(compute.resolve_here, [0], json.dumps(asdict(portable)), scheduler=scheduler)
    with contextlib.closing(results):
        (resolved,) = results
    return ExtractOptions(**json.loads(resolved["options"])), resolved["weights"]


def damaged_keys(blobs: Blobs, out: str | Path) -> list[str]:
    """The keys to delete so that all damage is made again: the files, and the commit records that name them."""
    named = {path for damage in verify_store(out) for path in (damage.record, damage.file)}
    return sorted(path.removeprefix(f"{blobs.url}/") for path in named)


def require_same_clips(
    blobs: Blobs, fingerprint: str, sizes: StoreSizes, folder: PreparedFolder, *, without: Sequence[str] = ()
) -> None:
    """Raise ArtifactError, which names the clips, where the store's tokens come from other content than the folder's.

    Names and options make the fingerprint; inputs that were exchanged under their names show in the clips' digests.
    Commit records under the keys in `without` are about to be deleted and count for nothing.
    """
    now = [entry.get("sha256", "") for entry in folder.outcomes()]
    others: dict[str, None] = {}
    wanted = [view_shard for view_shard in view_shards(sizes) if record_key(view_shard) not in {*without}]
    for (_, shard), record in each_record(blobs, fingerprint, sizes, wanted, skip_damaged=True):
        for row, entry in zip(sizes.rows(shard), record["clips"] if record is not None else [], strict=False):
            if entry.get("source", now[row]) != now[row]:
                others[entry["id"]] = None
    if others:
        shown = ", ".join(list(others)[:5]) + (", …" if len(others) > 5 else "")
        raise ArtifactError(
            blobs.url,
            f"holds tokens of {len(others)} clips whose content in {folder.path} is another one",
            got=shown,
            remedy="use the prepared folder that the store was made from, or another `out`",
        )


def unfinished(
    folder: PreparedFolder, blobs: Blobs, fingerprint: str, sizes: StoreSizes, *, retry: bool = False
) -> tuple[list[int], int]:
    """Numbers (view * shards + shard) of the open shards, and how many clips (in each view) the others hold."""
    todo, clips_done = [], 0
    records = each_record(blobs, fingerprint, sizes, view_shards(sizes), skip_damaged=True)
    for number, ((_, shard), record) in enumerate(records):
        if is_open(record, partial(folder.shard, shard), retry=retry):
            todo.append(number)
        elif record is not None:
            clips_done += len(record["clips"])
    return todo, clips_done


def source_of(out: str) -> dict[str, str]:
    """The paths of the "prepared" folder and the "weights" when a store was made; empty where they are not recorded."""
    try:
        source = parse_json(open_blobs(out).get(SOURCE, most=LARGEST_JSON) or b"", SOURCE)
        check(source, {"prepared": str, "weights": str}, SOURCE)
    except CorruptError:  # not part of the content, so it has no checksum
        return {}
    return dict(source)


def options_of(out: str, *, prepared: Path | None = None, weights: str | None = None) -> tuple[Path, ExtractOptions]:
    """The prepared folder and the options that a store was made with.

    Args:
        prepared, weights: their paths now, if they have moved.

    Raises:
        ArtifactError: no store, or one that does not record what it was made from.
    """
    blobs, source = open_blobs(out), source_of(out)
    attributes, sizes = description_of(blobs, require_group(blobs))  # of a damaged store too
    if not source and (prepared is None or weights is None):
        raise ArtifactError(out, "does not record what it was made from", remedy="give `prepared` and `weights`")
    names = ExtractOptions().content().keys() - {"view_rule"}
    made = attributes["made_from"]
    if not names <= made.keys():
        raise ArtifactError(
            out, "was not made by `star extract-tokens`", remedy="make it again with the program that made it"
        )
    given = {"weights": weights or source["weights"], "views": sizes.views, "codec": sizes.codec}
    options = build(ExtractOptions, {**given, **{name: made[name] for name in names}}, f"{out}: made_from")
    folder = prepared or Path(source["prepared"])
    if not folder.exists():
        raise ArtifactError(
            folder, f"no longer exists, and {out} was made from it", remedy="give its new path as `prepared`"
        )
    return folder, options


def threads_of(options: ExtractOptions, workers: int, scheduler: str | None) -> int:
    """Threads of each worker's backbone: its share of the cores; 1 where bits must not depend on the number; 0 on a
    cluster, where only the worker knows its share."""
    if options.deterministic:
        return 1
    return 0 if scheduler is not None else max(1, devices.cores() // workers)


def run_length(shards: int, workers: int, device: str) -> int:
    """Shards in a run: many, so that stages overlap, but at least four runs for each of several workers."""
    if workers == 1:
        return max(1, shards)
    return max(1, min(LONGEST_RUN["cuda" if device.startswith("cuda") else "cpu"], shards // (4 * workers)))


def require_complete(folder: PreparedFolder) -> None:
    """Raises ArtifactError where a prepared folder has pending clips."""
    pending = folder.account().pending
    if pending:
        raise ArtifactError(
            folder.path, f"is not finished: {pending} clips are pending", remedy="run the same `star prepare` again"
        )


def _require_disk_space(blobs: Blobs, sizes: StoreSizes, todo: list[int]) -> None:
    """Raises ArtifactError where a disk cannot hold the shards to be made: without a codec their size is known."""
    root = getattr(blobs, "root", None)
    if not isinstance(root, Path) or sizes.codec != "none":
        return
    every, kept, needed, spare = view_shards(sizes), specs(sizes), 0, 0
    for view, shard in (every[number] for number in todo):
        size = sum(file_bytes(spec, len(sizes.rows(shard)), sizes) for spec in kept)
        if (root / chunk_key(kept[-1], shard, view)).exists():  # `status` is put last: all of its files are there
            spare = max(spare, size)  # for what is replaced, one after the other
        else:
            needed += size
    require_disk_space(root, needed + spare)

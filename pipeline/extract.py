"""Stage 2: from a prepared folder to a token store. The only file that knows the order of the steps.

In: a PreparedFolder in which every row is accounted for, ExtractOptions, a store's URL. Out: the store complete: for
each view and shard the prepared clips -> the view's draw, crop and flip -> backbone and heatmaps -> GG and JM tokens,
put whole, the commit record last. Precision, weights and device are resolved once, here, by the coordinator.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline import manifest
from pipeline.account import Account
from pipeline.blobs import Blobs, open_blobs
from pipeline.clips import PERSONS, ClipContent, decode_picture
from pipeline.cluster import Progress, report, run_shards
from pipeline.commit import canonical_json, sole_writer, sweep_temporaries
from pipeline.config import FRAMES, ExtractOptions
from pipeline.errors import ArtifactError, ConfigError, DataError
from pipeline.prepared import PreparedFolder
from pipeline.store import TokenStore
from pipeline.store_layout import StoreSizes, specs
from pipeline.store_writer import commit_shard, create_store, read_record
from pipeline.views import crop_frames, crop_joints, crop_visible, view_of

if TYPE_CHECKING:
    from pipeline.tokens import TokenComputer

JM_CHANNELS = {"layer1": 64, "layer2": 128, "layer3": 256}
GG_CHANNELS, GG_STRIDE = 512, 16  # of layer4
SOURCE = "log/source.json"
VIEW_RULE = 1  # raised when `pipeline.views.view_of` changes what a view is


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
    """Compute the tokens of every clip and view that the store does not hold yet; returns view 0's account.

    Args:
        workers, scheduler, retry, progress: as in `pipeline.prepare.prepare`.

    Raises:
        ArtifactError: `prepared` is unfinished or no prepared folder; the store was made from something else.
        DataError: weights that are not mc3_18's.
    """
    folder = PreparedFolder.open(prepared)
    _require_complete(folder)
    options, made_from = _resolve(folder, options)
    sizes = sizes_of(folder, options)
    blobs = open_blobs(out)
    with _held(blobs):
        stamp = create_store(
            blobs,
            sizes=sizes,
            records=list(folder.listing.records),
            made_from=made_from,
            about=_about(folder, options),
            codec=options.codec,
        )
        # where things lay, for `star retry`; no part of the content
        source = {"prepared": str(prepared.resolve()), "weights": options.weights}
        blobs.put(SOURCE, canonical_json(source))
        todo, rows_done = [], 0
        for view in range(sizes.views):
            for shard in range(sizes.shards):
                record = read_record(blobs, stamp, shard, view)
                if record is None or (retry and any(clip["outcome"] == "failed" for clip in record["clips"])):
                    todo.append(view * sizes.shards + shard)
                else:
                    rows_done += len(record["clips"])
        if progress is not None:
            progress({"total": sizes.clips * sizes.views, "done": rows_done})
        plan = json.dumps(
            {
                "options": asdict(options),
                "stamp": stamp,
                "weights": made_from["weights"]["sha256"],
                "threads": max(1, (os.cpu_count() or 1) // workers),
            }
        )
        where = (str(prepared.resolve()), str(out), plan)
        for summary in run_shards(extract_shard, todo, *where, workers=workers, scheduler=scheduler, progress=progress):
            name = f"log/{time.time():.3f}-{summary['view']:03d}-{summary['shard']:05d}.json"
            blobs.put(name, canonical_json(summary))
    return TokenStore.open(out).account()


def options_of(out: str, *, prepared: Path | None = None, weights: str | None = None) -> tuple[Path, ExtractOptions]:
    """The prepared folder and the options that a store was made with.

    Args:
        prepared, weights: where they lie now, if they have moved.

    Raises:
        ArtifactError: no store, or one that does not say where it came from.
    """
    attrs = TokenStore.open(out).attrs
    data = open_blobs(out).get(SOURCE)
    if data is None and (prepared is None or weights is None):
        raise ArtifactError(out, "does not say where it was made from", remedy="give --prepared and --weights")
    source = json.loads(data) if data is not None else {}
    made = attrs["made_from"]
    names = ("precision", "jm_layer", "sigma", "normalize", "crop", "seed", "deterministic")
    options = ExtractOptions(
        weights=weights or source["weights"],
        views=attrs["sizes"]["views"],
        codec=attrs["codec"],
        **{name: made[name] for name in names},
    )
    return prepared or Path(source["prepared"]), options


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
    )


def extract_shard(task: int, prepared: str, out: str, plan: str) -> dict[str, Any]:
    """Compute and commit one shard of one view; clips that an earlier attempt made are taken over."""
    start = time.monotonic()
    told = json.loads(plan)
    options = ExtractOptions(**told["options"])
    folder = _folder(prepared, os.stat(Path(prepared) / "dataset.json").st_mtime_ns)
    sizes = sizes_of(folder, options)
    view, shard = divmod(task, sizes.shards)
    blobs = open_blobs(out)
    rows = folder.rows(shard)
    source = folder.record(shard)
    assert source is not None, "the coordinator saw every shard committed"
    before = read_record(blobs, told["stamp"], shard, view)
    arrays = _blank(sizes, len(rows)) if before is None else _stored(out, rows, view)
    entries = [_entry(clip) for clip in source["clips"]]
    wanted = []
    for i, entry in enumerate(entries):
        if before is not None and before["clips"][i]["outcome"] == "done":
            entries[i] = {k: v for k, v in before["clips"][i].items() if k != "sha256"}
        elif entry["outcome"] == "done":
            wanted.append(i)
    clips = folder.clips(shard, source) if wanted else []
    for i in sorted(set(range(len(rows))) - set(wanted)):
        report({"clip": entries[i]["id"], "outcome": entries[i]["outcome"]})
    for i, reason in _compute(clips, wanted, rows, folder, told, view, arrays).items():
        entries[i] = {"id": entries[i]["id"], "outcome": "failed", "reason": reason}
    commit_shard(
        blobs,
        sizes=sizes,
        stamp=told["stamp"],
        shard=shard,
        view=view,
        arrays=arrays,
        clips=entries,
        codec=options.codec,
    )
    seconds = round(time.monotonic() - start, 3)
    return {"shard": shard, "view": view, "clips": len(wanted), "seconds": seconds, "host": socket.gethostname()}


def _compute(
    clips: list[ClipContent | None],
    wanted: list[int],
    rows: range,
    folder: PreparedFolder,
    told: dict[str, Any],
    view: int,
    arrays: dict[str, np.ndarray],
) -> dict[int, str]:
    """Fill `arrays` for the wanted rows of a shard; returns the reason of each row that failed."""
    options = ExtractOptions(**told["options"])
    computer = _engine(json.dumps(told["options"]), told["weights"], told["threads"])
    keys = [folder.listing.records[row].key for row in rows]
    failed: dict[int, str] = {}

    def decode(i: int) -> Picture | str:
        clip = clips[i]
        assert clip is not None
        try:
            return view_arrays(clip, keys[i], folder, options, view)
        except OSError as error:  # Pillow's, for a file that is no whole picture
            return f"a stored picture cannot be decoded ({error})"

    for batch in _ahead(decode, wanted, options.batch_clips):
        for i, picture in batch:
            if isinstance(picture, str):
                failed[i] = picture
        good = [(i, picture) for i, picture in batch if not isinstance(picture, str)]
        for (i, picture), tokens in zip(good, _tokens(computer, [picture for _, picture in good]), strict=True):
            if isinstance(tokens, str):
                failed[i] = tokens
                continue
            arrays["gg"][i], arrays["jm"][i], arrays["joint_mask"][i] = tokens
            arrays["joints"][i], arrays["frame_index"][i] = picture.joints, picture.frame_index
            arrays["persons"][i] = (picture.scores > 0).any(axis=(1, 2)).sum()
        for i, _ in batch:
            clip_id = folder.listing.records[rows[i]].clip_id
            report({"clip": clip_id, "outcome": "failed" if i in failed else "done"})
    return failed


def _ahead(
    decode: Callable[[int], Picture | str], wanted: list[int], batch_clips: int
) -> Iterator[list[tuple[int, Picture | str]]]:
    """Decoded batches; the next one decodes in threads while the caller computes on this one (Pillow drops the GIL)."""
    batches = [wanted[a : a + batch_clips] for a in range(0, len(wanted), batch_clips)]
    with ThreadPoolExecutor(2) as pool:
        futures = [[pool.submit(decode, i) for i in batch] for batch in batches[:1]]
        for number, batch in enumerate(batches):
            futures += [[pool.submit(decode, i) for i in later] for later in batches[number + 1 : number + 2]]
            yield [(i, future.result()) for i, future in zip(batch, futures.pop(0), strict=True)]


def _tokens(computer: TokenComputer, pictures: list[Picture]) -> list[tuple[np.ndarray, ...] | str]:
    """For each clip of a batch its gg, jm and joint_mask, or why it has none."""
    if not pictures:
        return []
    frames, joints, scores = (np.stack([getattr(p, n) for p in pictures]) for n in ("frames", "joints", "scores"))
    try:
        return list(zip(*computer(frames, joints, scores > 0), strict=True))
    except DataError as error:
        # a value that float16 cannot hold, in one of them: told of that one, without costing the others
        if len(pictures) == 1:
            return [error.problem]
        return [_tokens(computer, [picture])[0] for picture in pictures]


class Picture(NamedTuple):
    """One view of a clip: frames (T, H, W, 3) uint8; in their pixels joints (M, T, V, 2), scores (M, T, V); and
    frame_index (T,)."""

    frames: np.ndarray
    joints: np.ndarray
    scores: np.ndarray
    frame_index: np.ndarray


def view_arrays(clip: ClipContent, key: str, folder: PreparedFolder, options: ExtractOptions, view: int) -> Picture:
    """A view of a prepared clip, as the backbone is to see it."""
    draws = folder.options.draws
    pairs = manifest.topology(folder.listing.topology).pairs
    frames = np.stack([decode_picture(picture) for picture in clip.frames[view % draws]])
    chosen = view_of(key, view, seed=options.seed, draws=draws, kept=frames.shape[1:3], crop=options.crop)
    assert chosen.draw == view % draws
    return Picture(
        crop_frames(frames, chosen, crop=options.crop),
        crop_joints(clip.joints[chosen.draw], chosen, pairs, crop=options.crop),
        crop_visible(clip.scores[chosen.draw], chosen, pairs),
        clip.frame_index[chosen.draw],
    )


def _resolve(folder: PreparedFolder, options: ExtractOptions) -> tuple[ExtractOptions, dict[str, Any]]:
    """Settle what "auto" means, load the weights once to know them, and list all that changes a token's value."""
    from pipeline.backbone import resolve_precision
    from pipeline.weights import load_weights

    device = _resolve_device(options.device)
    precision = resolve_precision(options.precision, device.split(",")[0])
    named = options.weights in ("random", "kinetics400")
    weights = options.weights if named else str(Path(options.weights).resolve())
    options = replace(options, device=device, precision=precision, weights=weights)
    loaded = load_weights(weights, seed=options.seed)
    made_from = {
        "prepared": folder.fingerprint,
        # a file is told by its tensors, not by its name
        "weights": {"kind": weights if named else "file", "sha256": loaded.digest},
        "precision": precision,
        "jm_layer": options.jm_layer,
        "sigma": options.sigma,
        "normalize": options.normalize,
        "crop": options.crop,
        "view_rule": VIEW_RULE,
        "seed": options.seed,
        "deterministic": options.deterministic,
    }
    return options, made_from


def _about(folder: PreparedFolder, options: ExtractOptions) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "dataset": folder.listing.dataset,
        "class_names": list(folder.listing.class_names),
        "topology": folder.listing.topology,
        "joint_names": list(manifest.topology(folder.listing.topology).joint_names),
        "protocols": list(folder.listing.protocols),
        "prepared_with": folder.options.content(),
        "versions": {name: version(name) for name in ("star-tokens", "torch", "torchvision", "numpy", "zarr")},
    }


def _require_complete(folder: PreparedFolder) -> None:
    pending = folder.account().pending
    if pending:
        raise ArtifactError(
            folder.path, f"is not finished: {pending} clips are pending", remedy="run the same `star prepare` again"
        )


def _held(blobs: Blobs) -> AbstractContextManager[None]:
    root = getattr(blobs, "root", None)
    if not isinstance(root, Path):
        return nullcontext()
    if root.is_dir():
        sweep_temporaries(root)
    return sole_writer(root)


def _blank(sizes: StoreSizes, n: int) -> dict[str, np.ndarray]:
    return {spec.name: np.full((n, *spec.tail), spec.fill, spec.dtype) for spec in specs(sizes)}


def _stored(out: str, rows: range, view: int) -> dict[str, np.ndarray]:
    store = TokenStore.open(out)
    return {spec.name: np.asarray(store._array(spec.name)[rows.start : rows.stop, view]) for spec in specs(store.sizes)}


def _entry(source: dict[str, Any]) -> dict[str, Any]:
    if source["outcome"] == "done":
        return {"id": source["id"], "outcome": "done", "source": source["sha256"]}
    return {"id": source["id"], "outcome": source["outcome"], "reason": source["reason"]}


@functools.lru_cache(maxsize=2)
def _folder(prepared: str, modified_ns: int) -> PreparedFolder:
    """A worker reads the listing once, not once a shard."""
    return PreparedFolder.open(prepared)


@functools.lru_cache(maxsize=1)
def _engine(options_json: str, weights_sha256: str, threads: int) -> TokenComputer:
    """The backbone is loaded once in each worker, never shipped in the graph."""
    import torch

    options = ExtractOptions(**json.loads(options_json))
    torch.set_num_threads(threads)
    computer = computer_for(replace(options, device=_own_device(options.device.split(","))))
    if computer.backbone.digest != weights_sha256:
        raise DataError(options.weights, "holds other weights here than where the command was started")
    return computer


def computer_for(options: ExtractOptions) -> TokenComputer:
    """Backbone and pooling as the options say, on one device.

    Raises:
        ConfigError: a device or precision that is not to be had here. DataError: weights that are not mc3_18's.
    """
    from pipeline.backbone import FrozenMC18
    from pipeline.tokens import TokenComputer

    device = _resolve_device(options.device).split(",")[0]
    backbone = FrozenMC18(
        options.weights,
        layers=(options.jm_layer, "layer4"),
        precision=options.precision,
        device=device,
        seed=options.seed,
    )
    return TokenComputer(backbone, jm_layer=options.jm_layer, sigma=options.sigma, normalize=options.normalize)


def _resolve_device(devices: str) -> str:
    """ "auto" is cuda where there is one; every device named must be there."""
    import torch

    if devices == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    for device in devices.split(","):
        try:
            kind, index = torch.device(device).type, torch.device(device).index or 0
        except RuntimeError:
            raise ConfigError("--device", "names no device", got=device, expected="cpu, cuda or cuda:0") from None
        if kind == "cuda" and index >= torch.cuda.device_count():
            raise ConfigError(
                "--device",
                "is not there",
                got=device,
                expected=f"{torch.cuda.device_count()} CUDA devices",
                remedy="use --device cpu",
            )
    return devices


def _own_device(devices: list[str]) -> str:
    """One worker a device: local Dask workers are named 0, 1, …"""
    try:
        from distributed import get_worker

        name = str(get_worker().name)
    except (ImportError, ValueError):
        name = "0"
    return devices[int(name) % len(devices)] if name.isdigit() else devices[0]

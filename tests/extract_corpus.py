"""Small prepared folders without a video, and a stub of the backbone, to run stage 2 a thousand times in a test.

In: how many clips, which of them are excluded or failed. Out: a prepared folder as stage 1 makes it. The stub's tokens
are a function of frames, joints and visibility, sensitive to each, and need no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.config import FRAMES, ExtractOptions, PrepareOptions
from pipeline.extract import compute
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import ClipContent, encode_picture, encode_shard
from pipeline.records import Listing, VideoRecord, keyed_rng

KEPT, CROP, JOINTS = 40, 32, 13  # sides of pictures in pixels; joints of penn13
OPTIONS = ExtractOptions(weights="random", crop=CROP, precision="fp32", device="cpu", jm_layer="layer1", batch_clips=3)
PERSONS = PrepareOptions().max_persons
WEIGHTS = "0" * 64


def clip_id(i: int) -> str:
    return f"{i:04d}"


def content(i: int, draws: int) -> ClipContent:
    """A clip whose content is a function of i: noise, joints of which some are absent, xyz in two of three."""
    rng = keyed_rng(0, "corpus", i)
    frames = rng.integers(0, 255, (draws, FRAMES, KEPT // 8, KEPT // 8, 3), dtype=np.uint8).repeat(8, 2).repeat(8, 3)
    joints = rng.uniform(-4, KEPT + 4, (draws, PERSONS, FRAMES, JOINTS, 2)).astype(np.float32)
    scores = (rng.random((draws, PERSONS, FRAMES, JOINTS)) < 0.8).astype(np.float32)
    if i % 2:
        scores[:, 1] = 0  # one person
    joints[scores == 0] = np.nan
    index = np.sort(rng.integers(0, 60, (draws, FRAMES)), axis=1)
    xyz = np.where(np.isnan(joints[..., :1]), joints[..., :1], rng.normal(size=(*scores.shape, 3))).astype(np.float32)
    return ClipContent(
        frames=tuple(tuple(encode_picture(picture, "jpeg95") for picture in draw) for draw in frames),
        joints=joints,
        scores=scores,
        frame_index=index,
        box=(0, 0, KEPT, KEPT),
        xyz=xyz if i % 3 else None,
    )


def write_prepared(
    root: Path,
    clips: int,
    *,
    shard_clips: int = 4,
    draws: int = 1,
    excluded: Sequence[int] = (),
    failed: Sequence[int] = (),
    missing: Sequence[int] = (),
) -> PreparedFolder:
    """A finished prepared folder; some rows are excluded, some have failed, some are missing."""
    records = tuple(
        VideoRecord(clip_id=clip_id(i), key=clip_id(i), label=i % 3, split="train" if i % 2 else "test", video=f"{i}")
        for i in range(clips)
    )
    listing = Listing(
        dataset="penn-action", class_names=("bowl", "pullup", "squat"), topology="penn13", protocols=("official",),
        records=records, roots={"videos": str(root / "videos"), "skeletons": str(root / "skeletons")},
    )  # fmt: skip
    folder = PreparedFolder.match(root, listing, PrepareOptions(shard_clips=shard_clips, draws=draws))
    root.mkdir(parents=True, exist_ok=True)
    folder.freeze()
    for number in range(folder.shards):
        commit_prepared(folder, number, excluded=excluded, failed=failed, missing=missing)
    return folder


def commit_prepared(
    folder: PreparedFolder,
    number: int,
    *,
    excluded: Sequence[int] = (),
    failed: Sequence[int] = (),
    missing: Sequence[int] = (),
) -> None:
    """One shard of it, as stage 1 commits it."""
    entries: list[dict[str, Any]] = []
    made: list[ClipContent | None] = []
    for i in folder.rows(number):
        made.append(None if i in {*excluded, *failed, *missing} else content(i, folder.options.draws))
        if i in excluded:
            entries.append({"id": clip_id(i), "outcome": "excluded", "reason": "no skeleton"})
        elif i in missing:
            entries.append({"id": clip_id(i), "outcome": "missing", "reason": "no video file"})
        elif i in failed:
            entries.append({"id": clip_id(i), "outcome": "failed", "reason": "the video ends early"})
        else:
            entries.append({"id": clip_id(i), "outcome": "done", "sha256": made[-1].digest()})
    labels = [folder.listing.records[i].label for i in folder.rows(number)]
    data = encode_shard(
        made, ids=[entry["id"] for entry in entries], labels=labels, draws=folder.options.draws, persons=PERSONS,
        num_frames=FRAMES, num_joints=JOINTS,
    )  # fmt: skip
    folder.shard(number).commit(data, entries)


def exchange_clips(prepared: Path, one: int, other: int) -> None:
    """Two clips of a prepared folder change places under their names, as if their videos had been exchanged."""
    folder = PreparedFolder.open(prepared)
    numbers = {row // folder.options.shard_clips for row in (one, other)}
    with pytest.MonkeyPatch.context() as patch:
        places = {one: other, other: one}
        whole = content
        patch.setitem(globals(), "content", lambda i, draws: whole(places.get(i, i), draws))
        for number in numbers:
            commit_prepared(folder, number)


def stub_tokens(frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, ...]:
    """gg (B, T, 4, 512), jm (B, T, V, 64), joint_mask (B, T, V), of each clip alone."""
    time.sleep(float(os.environ.get("STUB_SECONDS", "0")))
    b, t, h, w, _ = frames.shape
    cells = frames.reshape(b, t, h // 16, 16, w // 16, 16, 3).astype(np.float32).mean(axis=(3, 5))
    gg = cells.reshape(b, t, -1, 3).mean(-1, keepdims=True) * np.linspace(-1, 1, 512, dtype=np.float32)
    drawn = visible & np.isfinite(joints).all(-1)
    sums = np.where(drawn[..., None], joints, 0).sum(axis=(1, -1))  # (B, T, V)
    jm = sums[..., None] * np.linspace(0.5, 2, 64, dtype=np.float32)
    return gg.astype(np.float16), jm.astype(np.float16), drawn.any(axis=1)


def computing(compute: Callable[..., tuple[np.ndarray, ...]]) -> Callable[..., Any]:
    """A stand-in for `compute.worker_computer`: it computes when its result is waited for."""
    return lambda *_: lambda *arrays: SimpleNamespace(wait=lambda: compute(*arrays))


def install(patch: pytest.MonkeyPatch | None = None) -> None:
    """Replace the backbone by the stub, for a test or for the life of a process."""

    def resolve(options: ExtractOptions) -> tuple[ExtractOptions, dict[str, str]]:
        return replace(options, device="cpu", precision="fp32"), {"kind": "random", "sha256": WEIGHTS}

    for name, stub in (("resolve", resolve), ("worker_computer", computing(stub_tokens))):
        if patch is None:
            setattr(compute, name, stub)
        else:
            patch.setattr(compute, name, stub)


def dask_setup(worker: object) -> None:
    """Called by `dask worker --preload` with this file."""
    install()


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a store but its lock and its log."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    return {key: data for key, data in found.items() if not key.startswith("log/")}

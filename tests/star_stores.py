"""Small token stores for tests, whose joint tokens carry their class, written by the store's own writer; a small run.

In: a folder and sizes. Out: the folder of a complete store in the NTU60 or synthetic layout, and settings of a run that
do not depend on any preset. No backbone, no video.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.artifacts.sealed_json import seal, unseal
from pipeline.records import VideoRecord
from pipeline.store.commit_records import file_entry
from pipeline.store.metadata import GROUP, METADATA_RECORD
from pipeline.store.write import write_arrays
from star.config.options import OF_THE_STORE, DataConfig, ModelConfig, OptimConfig
from star.config.text import TrainConfig, leaves, to_dict, with_overrides

JOINTS = 25  # of the topology ntu25


def plain(*settings: str) -> TrainConfig:
    """A small run that learns these stores in a second or two, with `key=value` settings."""
    config = TrainConfig(
        eval_every=4,
        model=ModelConfig(tokens="jm", width=64, heads=2, encoder_depth=1, decoder_depth=1, mlp_ratio=2),
        data=DataConfig(frame_step=2, validation=0.25),
        optim=OptimConfig(kind="adamw", lr=1e-3, schedule="cosine", warmup=0.1, epochs=20, batch_size=8, clip_norm=1.0),
    )
    return with_overrides(config, settings)


def plain_options(*settings: str) -> list[str]:
    """The options of `star train` with which it runs `plain(*settings)`, whatever its preset: every value is set."""
    of_the_store = {f"model.{name}" for name in OF_THE_STORE}
    values = {key: value for key, value in leaves(to_dict(plain(*settings))).items() if key not in of_the_store}
    texts = {key: ",".join(value) if isinstance(value, tuple) else str(value) for key, value in values.items()}
    return [f"--set={key}={text}" for key, text in texts.items()]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One torch thread: these models are too small for two, and equal bits need the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def record(subject: int, label: int, replication: int) -> VideoRecord:
    name = f"S001C{1 + replication % 3:03d}P{subject:03d}R{replication:03d}"
    return VideoRecord(
        clip_id=f"{name}A{label + 1:03d}", key=name, label=label, subject=subject, camera=1 + replication % 3, setup=1,
        replication=replication,
    )  # fmt: skip


def change_attributes(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the attributes of a store, as one who makes its checksums anew."""
    group = json.loads((store / GROUP).read_bytes())
    change(group["attributes"])
    (store / GROUP).write_text(json.dumps(group))
    reseal_metadata(store)


def reseal_metadata(store: Path) -> None:
    """The commit record of the metadata as they are now."""
    path = store / METADATA_RECORD
    record = unseal(path.read_bytes(), path, {})
    files = [entry["key"] for entry in record["files"]]
    record["files"] = [file_entry(key, (store / key).read_bytes()) for key in files]
    path.write_bytes(seal(record))


def write_small_store(
    path: Path,
    *,
    classes: int = 4,
    subjects: tuple[int, ...] = (1, 2, 9),
    replications: int = 4,
    views: int = 1,
    frames: int = 4,
    signal: float = 3.0,
    moving: float = 20.0,
    seed: int = 0,
    nan_clip: int | None = None,
) -> Path:
    """A store with the synthetic protocol: every third subject tests (3, 6, 9), the others train.

    Class c raises joint token channel c in the first half of the frames, by `signal` times the noise; and its joint c
    moves by `moving` pixels a frame, in noise of one pixel, up and down alike, so that no frame alone tells. `nan_clip`
    is a row with one NaN token.
    """
    rng = np.random.default_rng(seed)
    records = sorted(
        (record(s, c, r) for s in subjects for c in range(classes) for r in range(1, replications + 1)),
        key=lambda row: row.clip_id,
    )
    n, channels, cells = len(records), classes + 2, 4
    jm = rng.normal(size=(n, views, frames, JOINTS, channels))
    gg = rng.normal(size=(n, views, frames, cells, channels))
    for i, row in enumerate(records):
        jm[i, :, : frames // 2, :, row.label] += signal
    mask = rng.random((n, views, frames, JOINTS)) < 0.9
    jm = 10 * jm + 5
    jm[~mask] = 0
    if nan_clip is not None:
        jm[nan_clip, 0, 0, 0, 0], mask[nan_clip, 0, 0, 0] = np.nan, True
    own = np.random.default_rng([seed, 1])  # the tokens stay as they are without joints
    body = own.normal(scale=20, size=(JOINTS, 2)) + 50
    joints = body + own.normal(size=(n, views, 2, frames, JOINTS, 2))
    for i, row in enumerate(records):
        start = own.uniform(-moving * frames, 0)
        joints[i, :, 0, :, row.label, 1] += start + moving * np.arange(frames)
    joints[:, :, 1] = np.nan  # one person
    poses = {"joints": joints.astype(np.float32), "joint_scores": np.isfinite(joints[..., 0]).astype(np.float32)}
    write_arrays(
        path, gg=gg.astype(np.float16), jm=jm.astype(np.float16), joint_mask=mask,
        records=records, class_names=[f"action {c}" for c in range(classes)], dataset="synthetic", shard_clips=16,
        joints=poses,
    )  # fmt: skip
    return path

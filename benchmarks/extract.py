"""Stage 2 as a whole against its parts, and against the usual script.

    python benchmarks/extract.py [--clips 24] [--rounds 3] [--precision fp32] [--threads 2] [--device cuda --clips 4096]

In: nothing; it prepares random clips of the usual sizes. Out: one table of clips a second, the parts and the whole in
turn in one process, the median over rounds, and how many clips each was timed on. "Parts" are JPEG decoding with crop
(in as many threads as the stage takes), the backbone with tokens, hashing and writing, each alone and once warm, on as
many shards as keep all those threads busy, where --clips gives as many; the bound is 1 / (1 / backbone + 1 / JPEG) on a
CPU, which does both, and the slower of the two on a GPU. The usual script is torchvision's `mc3_18` in eager float32,
fed by a DataLoader without workers that decodes the same pictures, keeping its features in memory. It runs in a
process of its own, since the stage sets its process's malloc. On Linux everything is measured twice, each time in fresh
processes: with glibc's default malloc, and with its thresholds raised for both.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.models.video import mc3_18

from pipeline.backbone.frozen import normalize
from pipeline.cluster.lookahead import cancelling_pool, pipelined, prefetch
from pipeline.config import ExtractOptions, PrepareOptions
from pipeline.extract import compute
from pipeline.extract.coordinator import extract
from pipeline.extract.provenance import sizes_of
from pipeline.extract.shard import begin_group, decode_group, load_job
from pipeline.extract.values import ComputedGroup, Group, ShardJob
from pipeline.extract.worker import overlap
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import ClipContent, encode_picture, encode_shard
from pipeline.records import Listing, VideoRecord
from pipeline.store.blobs import open_blobs
from pipeline.store.commit_records import write_record
from pipeline.store.write import put_shard

SIDE, FRAMES, JOINTS = 128, 16, 25
WHOLE, PEER = "whole stage", "usual script, fp32"
GROUPS_A_THREAD = 4  # of those that decode: with fewer some of them would end long before the others
RAISED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def prepare_random(root: Path, clips: int, shard_clips: int, *, different: int | None = None) -> PreparedFolder:
    """Smooth random pictures of 128 x 128, which compress about as well as photographs.

    `different`: so many clips have pictures of their own and the others repeat them; None: all.
    """
    names = [f"S001C001P001R{i:03d}A001" for i in range(clips)]
    records = tuple(VideoRecord(clip_id=name, key=name[:16], label=0) for name in names)
    listing = Listing(
        dataset="ntu60", class_names=("a",), topology="ntu25", protocols=("xsub",), records=records,
        roots={"videos": str(root), "skeletons": str(root)},
    )  # fmt: skip
    folder = PreparedFolder.match(root, listing, PrepareOptions(shard_clips=shard_clips))
    root.mkdir(parents=True, exist_ok=True)
    folder.freeze()
    rng = np.random.default_rng(0)
    contents = [_clip(rng) for _ in range(different or 0)]
    for number in range(folder.shards):
        made: list[ClipContent | None] = [
            contents[row % len(contents)] if contents else _clip(rng) for row in folder.rows(number)
        ]
        ids = [record.clip_id for record in folder.shard(number).records]
        sizes = {"draws": 1, "persons": 2, "num_frames": FRAMES, "num_joints": JOINTS}
        data = encode_shard(made, ids=ids, labels=[0] * len(ids), **sizes)
        done = zip(ids, made, strict=True)
        entries: list[dict[str, Any]] = [
            {"id": name, "outcome": "done", "sha256": clip.digest()} for name, clip in done if clip is not None
        ]
        folder.shard(number).commit(data, entries)
    return folder


def _clip(rng: np.random.Generator) -> ClipContent:
    coarse = torch.from_numpy(rng.random((FRAMES, 3, 24, 24), np.float32) * 255)
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear").permute(0, 2, 3, 1).byte().numpy()
    return ClipContent(
        frames=(tuple(encode_picture(np.ascontiguousarray(picture), "jpeg95") for picture in smooth),),
        joints=rng.uniform(0, SIDE, (1, 2, FRAMES, JOINTS, 2)).astype(np.float32),
        scores=np.ones((1, 2, FRAMES, JOINTS), np.float32),
        frame_index=np.arange(FRAMES)[None],
        box=(0, 0, SIDE, SIDE),
    )


class Parts:
    """The stage's own steps, each alone, on clips that are ready for it."""

    def __init__(self, folder: PreparedFolder, options: ExtractOptions, cores: int, scratch: Path) -> None:
        self.sizes, self.blobs = sizes_of(folder, options), open_blobs(scratch)
        self.options, weights = compute.resolve(options)
        self.decoders, _, self.launches = overlap(self.options.device)
        self.compute = compute.worker_computer(self.options, weights["sha256"], cores)
        self.jobs: list[ShardJob] = []
        self.groups: list[Group] = []
        for number in range(folder.shards):
            if len(self.groups) < GROUPS_A_THREAD * self.decoders:
                self.jobs.append(load_job(folder.shard(number), 0, self.options, self.sizes, self.blobs, None))
                self.groups += self.jobs[-1].groups()
        self.clips = sum(len(group.rows) for group in self.groups)
        self.decoded = [decode_group(group) for group in self.groups]
        self.tokens = self._through_the_backbone()  # which is warm from now on

    def _through_the_backbone(self) -> list[tuple[ShardJob, ComputedGroup]]:
        passed = pipelined(partial(begin_group, self.compute), self.decoded, depth=self.launches)
        return [(decoded.group.job, part) for decoded, computed in passed for part in computed]

    def jpeg(self) -> None:
        with cancelling_pool(self.decoders) as decoding:
            for _ in prefetch(decoding, decode_group, self.groups, depth=self.decoders):
                pass

    def backbone(self) -> None:
        self._through_the_backbone()

    def writing(self) -> None:
        for job, part in self.tokens:
            job.absorb(part)
        for shard, job in enumerate(self.jobs):
            files, entries = put_shard(
                self.blobs, sizes=self.sizes, shard=shard, view=0, arrays=job.arrays, clips=job.entries
            )
            write_record(self.blobs, "0", (0, shard), files, entries)


class Decoding(Dataset[torch.Tensor]):
    """The usual script's: one clip, decoded and cropped."""

    def __init__(self, jobs: list[ShardJob]) -> None:
        self.groups = [group._replace(rows=[row]) for job in jobs for group in job.groups() for row in group.rows]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, item: int) -> torch.Tensor:
        group = self.groups[item]
        return torch.from_numpy(decode_group(group).pictures[group.rows[0]].frames)


class UsualScript:
    """torchvision's model, its data and its loop."""

    def __init__(self, prepared: Path, options: ExtractOptions, scratch: Path) -> None:
        folder = PreparedFolder.open(prepared)
        sizes, blobs, shards = sizes_of(folder, options), open_blobs(scratch), range(folder.shards)
        self.data = Decoding([load_job(folder.shard(n), 0, options, sizes, blobs, None) for n in shards])
        self.model, self.batch = mc3_18().eval().to(options.device), options.batch_clips

    @torch.inference_mode()
    def __call__(self) -> None:
        for frames in DataLoader(self.data, batch_size=self.batch):
            x = self.model.stem(normalize(frames.to(next(self.model.parameters()).device)).contiguous())
            features = []
            for layer in (self.model.layer1, self.model.layer2, self.model.layer3, self.model.layer4):
                x = layer(x)
                features.append(x)
            assert features[3].half().isfinite().all()


@functools.cache
def usual_script(prepared: Path, options: ExtractOptions, scratch: Path, threads: int) -> UsualScript:
    torch.set_num_threads(threads)
    return UsualScript(prepared, options, scratch)


def load_script(*given: Any) -> None:
    """Before anything is measured."""
    usual_script(*given)


def script_rate(clips: int, *given: Any) -> float:
    """In the script's own process, which loads it once."""
    return rate(usual_script(*given), clips)


def rate(work: Callable[[], object], clips: int) -> float:
    start = time.perf_counter()
    work()
    return clips / (time.perf_counter() - start)


def measure(root: Path, given: argparse.Namespace) -> dict[str, tuple[float, int]]:
    """Clips a second of each part and of the whole, measured in turn, and the number of clips."""
    folder = prepare_random(root / "prepared", given.clips, given.shard)
    options = ExtractOptions(weights="random", precision=given.precision, device=given.device, batch_clips=given.batch)
    parts = Parts(folder, options, given.threads, root / "parts")
    script = (folder.path, parts.options, root / "script", given.threads)
    rates: dict[str, list[float]] = {}
    counts = {PEER: given.clips}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as beside:
        beside.submit(load_script, *script).result()
        for number in range(given.rounds):
            out = root / f"s{number}"
            for name, work, count in (
                ("JPEG and crop", parts.jpeg, parts.clips),
                ("backbone and tokens", parts.backbone, parts.clips),
                ("hash and write", parts.writing, parts.clips),
                (WHOLE, lambda out=out: extract(folder.path, out, options), given.clips),
            ):
                rates.setdefault(name, []).append(rate(work, count))
                counts[name] = count
            rates.setdefault(PEER, []).append(beside.submit(script_rate, given.clips, *script).result())
    return {name: (statistics.median(values), counts[name]) for name, values in rates.items()}


def show(malloc: str, measured: dict[str, tuple[float, int]], device: str) -> None:
    """One process's rates and the two ratios."""
    found = {name: value for name, (value, _) in measured.items()}
    backbone, jpeg = found["backbone and tokens"], found["JPEG and crop"]
    bound = 1 / (1 / backbone + 1 / jpeg) if device == "cpu" else min(backbone, jpeg)
    for name, (value, clips) in measured.items():
        print(f"{malloc:8} {name:24}{value:10.2f}{clips:8}")
    print(f"{malloc:8} whole stage / bound of its parts: {found[WHOLE] / bound:.2f}")
    print(f"{malloc:8} whole stage / usual script: {found[WHOLE] / found[PEER]:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--shard", type=int, default=8, help="clips of a shard (64 is the stage's own default)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "auto"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        torch.set_num_threads(given.threads)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), given)))
        return
    print(f"{given.device}, {given.precision}, {given.threads} threads, {given.clips} clips")
    print(f"{'malloc':8} {'':24}{'clips/s':>10}{'clips':>8}")
    for malloc, more in (("default", {}), ("raised", RAISED)):
        plain = {name: value for name, value in os.environ.items() if name not in RAISED}
        command = [sys.executable, __file__, *sys.argv[1:], "--child"]
        done = subprocess.run(command, env={**plain, **more}, stdout=subprocess.PIPE, text=True, check=True)
        show(malloc, json.loads(done.stdout.splitlines()[-1]), given.device)


if __name__ == "__main__":
    main()

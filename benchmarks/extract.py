"""Stage 2 as a whole against its parts, and against the usual script.

    python benchmarks/extract.py [--clips 24] [--rounds 3] [--precision fp32] [--threads 2]

In: nothing; it prepares random clips of the usual sizes. Out: one table of clips a second, the parts and the whole by
turns in one process, the median over rounds. "Parts" are JPEG decoding with crop, the backbone with tokens, hashing and
writing, each alone; the bound is 1 / (1 / backbone + 1 / JPEG). The usual script is torchvision's `mc3_18` in eager
float32, fed by a DataLoader without workers that decodes the same pictures, keeping its features in memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.models.video import mc3_18

from pipeline import engine
from pipeline.backbone import normalize
from pipeline.blobs import open_blobs
from pipeline.clips import ClipContent, encode_picture, encode_shard
from pipeline.config import ExtractOptions, PrepareOptions
from pipeline.extract import extract, sizes_of
from pipeline.extract_shard import ShardJob, begin_group, decode_group, load_job
from pipeline.prepared import PreparedFolder
from pipeline.records import Listing, VideoRecord
from pipeline.store_writer import commit_shard

SIDE, FRAMES, JOINTS = 128, 16, 25


def prepare_random(root: Path, clips: int) -> PreparedFolder:
    """Smooth random pictures of 128 x 128, which compress about as well as photographs; shards of 8."""
    names = [f"S001C001P001R{i:03d}A001" for i in range(clips)]
    records = tuple(VideoRecord(clip_id=name, key=name[:16], label=0) for name in names)
    listing = Listing(dataset="ntu60", class_names=("a",), topology="ntu25", protocols=("xsub",), records=records)
    folder = PreparedFolder.match(root, listing, PrepareOptions(shard_clips=8))
    root.mkdir(parents=True, exist_ok=True)
    folder.freeze()
    rng = np.random.default_rng(0)
    for number in range(folder.shards):
        made: list[ClipContent | None] = [_clip(rng) for _ in folder.rows(number)]
        ids = [record.clip_id for record in folder.shard(number).records]
        data = encode_shard(made, ids=ids, labels=[0] * len(ids), draws=1, num_frames=FRAMES, num_joints=JOINTS)
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

    def __init__(self, folder: PreparedFolder, options: ExtractOptions, threads: int, scratch: Path) -> None:
        self.sizes, self.blobs = sizes_of(folder, options), open_blobs(scratch)
        options, weights = engine.resolve(options)
        self.compute = engine.worker_computer(options, weights, threads)
        self.job: ShardJob = load_job(folder.shard(0), 0, options, self.sizes, self.blobs, None)
        self.decoded = [decode_group(group) for group in self.job.groups()]
        self.tokens = [part for decoded in self.decoded for part in begin_group(self.compute, decoded)()]
        self.clips = len(self.job.clips)

    def jpeg(self) -> None:
        for group in self.job.groups():
            decode_group(group)

    def backbone(self) -> None:
        for decoded in self.decoded:
            begin_group(self.compute, decoded)()

    def writing(self) -> None:
        for part in self.tokens:
            self.job.absorb(part)
        commit_shard(
            self.blobs, sizes=self.sizes, stamp="0", shard=0, view=0, arrays=self.job.arrays, clips=self.job.entries
        )


class Decoding(Dataset[torch.Tensor]):
    """The usual script's: one clip, decoded and cropped."""

    def __init__(self, jobs: list[ShardJob]) -> None:
        self.groups = [group._replace(rows=[row]) for job in jobs for group in job.groups() for row in group.rows]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, item: int) -> torch.Tensor:
        group = self.groups[item]
        return torch.from_numpy(decode_group(group).pictures[group.rows[0]].frames)


@torch.inference_mode()
def usual_script(model: torch.nn.Module, data: Decoding, batch: int) -> None:
    for frames in DataLoader(data, batch_size=batch):
        clips = normalize(frames).contiguous()
        x = model.stem(clips)  # type: ignore[operator]
        features = []
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            x = layer(x)  # type: ignore[operator]
            features.append(x)
        assert features[3].half().isfinite().all()


def rate(work: Callable[[], object], clips: int) -> float:
    start = time.perf_counter()
    work()
    return clips / (time.perf_counter() - start)


def table(root: Path, clips: int, rounds: int, precision: str, threads: int) -> None:
    """Measure by turns, print."""
    folder = prepare_random(root / "prepared", clips)
    options = ExtractOptions(weights="random", precision=precision, device="cpu")
    parts = Parts(folder, options, threads, root / "parts")
    jobs = [
        load_job(folder.shard(n), 0, parts.job.options, parts.sizes, parts.blobs, None) for n in range(folder.shards)
    ]
    model, data = mc3_18().eval(), Decoding(jobs)
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        out = root / f"s{number}"
        for name, work, count in (
            ("JPEG and crop", parts.jpeg, parts.clips),
            ("backbone and tokens", parts.backbone, parts.clips),
            ("hash and write", parts.writing, parts.clips),
            ("whole stage", lambda out=out: extract(folder.path, out, options), clips),
            ("usual script, fp32", lambda: usual_script(model, data, parts.job.options.batch_clips), clips),
        ):
            rates.setdefault(name, []).append(rate(work, count))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    bound = 1 / (1 / middle["backbone and tokens"] + 1 / middle["JPEG and crop"])
    print(f"{precision}, {threads} threads, {clips} clips\n{'':24}{'clips/s':>10}")
    for name, value in middle.items():
        print(f"{name:24}{value:10.2f}")
    print(f"whole stage / bound of its parts: {middle['whole stage'] / bound:.2f}")
    print(f"whole stage / usual script: {middle['whole stage'] / middle['usual script, fp32']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "auto"])
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        table(Path(folder), given.clips, given.rounds, given.precision, given.threads)


if __name__ == "__main__":
    main()

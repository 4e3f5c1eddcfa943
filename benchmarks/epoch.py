"""One epoch of training from the cache, from prepared clips, and from the videos: what stages 1 and 2 save.

In: the synthetic set, drawn, prepared and extracted here, or an NTU folder. Out: one table. The three ways give the
same batches to the same training steps, which is checked; they differ in how a batch is made:

    cache           one read from the token store, not held in memory
    prepared clips  JPEG pictures decoded and cropped, backbone, heatmaps, pooling
    videos          video decoded, persons chosen, frames cut out and scaled, then all of the above

One process and one thread, no loader workers: the seconds are those of the work alone. A video of the synthetic set
has 640 x 360 pixels, one of NTU nine times as many.

    python benchmarks/epoch.py [--clips-per-class 3] [--rounds 3] [--preset smoke] [--videos DIR --skeletons DIR]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.config import ExtractOptions, PrepareOptions
from pipeline.datasets import ntu
from pipeline.datasets.synthetic import recipe
from pipeline.datasets.synthetic.write_all import write_set
from pipeline.decode.child_process import DecodeProcess
from pipeline.extract import compute
from pipeline.extract.coordinator import extract
from pipeline.extract.provenance import sizes_of
from pipeline.extract.shard import view_of_clip
from pipeline.extract.values import ClipView, ShardJob
from pipeline.prepare.clip import attempt
from pipeline.prepare.coordinator import prepare
from pipeline.prepare.folder import PreparedFolder
from pipeline.prepare.hdf5 import ClipContent
from pipeline.records import Listing
from star.batch import Batch
from star.build import seeded_model
from star.config.presets import preset
from star.config.text import TrainConfig, with_overrides
from star.data.dataset import TokenDataset
from star.data.frames import thinned, thinned_joints
from star.data.splits import fitted, open_splits
from star.distributed.world import join_world
from star.train.optim import make_optimizer
from star.train.step import train_step

Source = Callable[[list[int]], Batch]  # items of the training split to their batch


class Origin:
    """The same batches from three places: a row of the store is that row of the prepared clips and of the videos."""

    def __init__(self, listing: Listing, folder: Path, options: ExtractOptions, config: TrainConfig) -> None:
        self.listing, self.config = listing, config
        prepare(listing, PrepareOptions(), folder / "prepared")
        extract(folder / "prepared", str(folder / "tokens.zarr"), options)
        self.prepared = PreparedFolder.open(folder / "prepared")
        self.options, weights = compute.resolve(options)
        self.sizes = sizes_of(self.prepared, self.options)
        self.compute = compute.worker_computer(self.options, weights["sha256"], 1)
        self.data: TokenDataset = open_splits(folder / "tokens.zarr", config, in_memory=False).train

    def from_cache(self, items: list[int]) -> Batch:
        return self.data.read(items)

    def from_prepared(self, items: list[int]) -> Batch:
        clips = []
        for row in self.data.rows[items].tolist():
            shard, place = divmod(row, self.prepared.options.shard_clips)
            with self.prepared.shard(shard).reader() as reader:
                clips.append(reader.clip(place))
        return self._batch(items, clips)

    def from_videos(self, items: list[int], decoder: DecodeProcess) -> Batch:
        clips = []
        for row in self.data.rows[items].tolist():
            record, rows = self.listing.records[row], self.listing
            clip, entry = attempt(record, rows.roots, rows.topology, self.prepared.options, decoder)
            assert clip is not None, entry
            clips.append(clip)
        return self._batch(items, clips)

    def _batch(self, items: list[int], clips: list[ClipContent]) -> Batch:
        """Tokens as stage 2 computes them, then only the kinds and frames that the data set would give."""
        rows = self.data.rows[items]
        views = [self._view(row, clip) for row, clip in zip(rows.tolist(), clips, strict=True)]
        frames, joints, scores = (np.stack([getattr(view, name) for view in views]) for name in ClipView._fields[:3])
        gg, jm, mask = self.compute(frames, joints, scores > 0).wait()
        step, mean = self.data.frame_step, self.data.frame_mean
        gg, (jm, mask) = thinned(gg, step, mean=mean), thinned_joints(jm, mask, step, mean=mean)
        gg, jm = (kept if kind in self.data.tokens else kept[..., :0] for kind, kept in (("gg", gg), ("jm", jm)))
        arrays = (gg.astype(np.float16), jm.astype(np.float16), mask, self.data.labels[items], rows)
        return Batch(*map(torch.from_numpy, arrays))

    def _view(self, row: int, clip: ClipContent) -> ClipView:
        shard, place = divmod(row, self.prepared.options.shard_clips)
        return view_of_clip(
            ShardJob(self.prepared.shard(shard), 0, self.options, self.sizes, {}, [], {place: clip}), place
        )


def epoch(source: Source, origin: Origin) -> tuple[float, float, list[Batch]]:
    """Seconds of one epoch, seconds of them for the batches, and the batches."""
    config, world = origin.config, join_world("cpu")
    model = seeded_model(fitted(config.model, origin.data), seed=0).train()
    optimizer = make_optimizer(model, config.optim)
    order, size = np.random.default_rng(0).permutation(len(origin.data)).tolist(), config.optim.batch_size
    batches, waited, start = [], 0.0, time.perf_counter()
    for step, first in enumerate(range(0, len(order), size)):
        requested = time.perf_counter()
        batches.append(source(order[first : first + size]))
        waited += time.perf_counter() - requested
        train_step(
            model,
            optimizer,
            batches[-1],
            config=config.optim,
            clips=len(batches[-1].labels),
            step=step,
            seed=0,
            world=world,
        )
    return time.perf_counter() - start, waited, batches


def table(origin: Origin, rounds: int) -> None:
    """Measure in turn, compare the batches, print."""
    found: dict[str, list[tuple[float, float]]] = {}
    with DecodeProcess() as decoder:
        sources: dict[str, Source] = {
            "cache": origin.from_cache,
            "prepared clips": origin.from_prepared,
            "videos": lambda items: origin.from_videos(items, decoder),
        }
        for _ in range(rounds):
            reference: list[Batch] = []
            for name, source in sources.items():
                whole, waited, batches = epoch(source, origin)
                found.setdefault(name, []).append((whole, waited))
                reference = reference or batches
                for ours, theirs in zip(batches, reference, strict=True):
                    torch.testing.assert_close(ours.jm, theirs.jm, rtol=2e-3, atol=2e-3)
                    torch.testing.assert_close(ours.gg, theirs.gg, rtol=2e-3, atol=2e-3)
    cache = [whole for whole, _ in found["cache"]]
    print(f"{len(origin.data)} clips an epoch, preset {origin.config.preset}, {origin.listing.dataset}")
    print(f"{'an epoch from':16}{'seconds':>9}{'clips/s':>9}{'waiting for data':>18}{'x the cache':>13}")
    for name, rows in found.items():
        seconds, share = statistics.median(a for a, _ in rows), statistics.median(b / a for a, b in rows)
        times = statistics.median(a / c for (a, _), c in zip(rows, cache, strict=True))
        print(f"{name:16}{seconds:9.2f}{len(origin.data) / seconds:9.1f}{100 * share:16.1f} %{times:13.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips-per-class", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--skeletons", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        if given.videos:
            rows = ntu.listing(given.videos, given.skeletons, dataset="ntu120")
        else:
            write_set(raw, clips_per_class=given.clips_per_class, seed=0)
            rows = recipe.listing(raw)
        options = ExtractOptions(weights="random", jm_layer="layer1", device="cpu", batch_clips=4)
        config = with_overrides(preset(given.preset), ["data.validation=0"])  # an epoch of all training clips
        table(Origin(rows, Path(folder), options, config), given.rounds)


if __name__ == "__main__":
    main()

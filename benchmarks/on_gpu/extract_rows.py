"""Rows of stage 2: the whole of it from prepared clips to a store, and each of its parts alone.

In: random prepared clips of the usual sizes (16 JPEG pictures of 128 x 128), made here. Out: planned rows. The parts:
reading and checking, decoding, transfers, computing, hashing and writing; decoding, writing and the whole with the
numbers of threads that the stage chooses, with half as many and with twice as many. `extract` itself is timed after its
first eighth, until it returns.
"""

from __future__ import annotations

import copy
import functools
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from extract import FRAMES, JOINTS, Parts, prepare_random

from on_gpu.table import Measured, Planned, seconds_per_call
from pipeline.backbone import FrozenMC18, normalize
from pipeline.backbone.transfer import HostCopy, to_device
from pipeline.config import ExtractOptions
from pipeline.extract import worker
from pipeline.extract.coordinator import extract
from pipeline.extract.devices import cores
from pipeline.heatmaps import joint_heatmaps, to_cells
from pipeline.prepare.folder import PreparedFolder
from pipeline.store.blobs import open_blobs
from pipeline.tokens import global_grid_tokens, joint_map_tokens

JM_STRIDE, GG_STRIDE = 4, 16  # pixels of a cell of layer2 and of layer4
DIFFERENT = 64  # clips with pictures of their own; the others repeat them
REPEATS = 3
CHOICES = ("default", "half the", "twice the")  # threads
READING, DECODING, WRITING = "reading and checking, 1 thread", "JPEG decoding and crop", "hashing and writing"
IN_STAGE = "transfers and compute, as the stage does them"


@dataclass
class ExtractRows:
    """What the rows share: the prepared clips, the stage's parts on some of them, and the parts' speeds so far."""

    device: torch.device
    precision: str
    scratch: Path
    clips: int
    shard: int
    batch: int
    crop: int  # side of the pictures that the backbone sees, in pixels
    seconds: float  # of a measurement; 0: one call
    speeds: dict[str, float] = field(default_factory=dict)  # clips a second of each part

    def rows(self) -> list[Planned]:
        """The clips, the parts, the whole."""
        parts: list[tuple[str, float, Callable[[], Measured]]] = [
            (READING, 4, self._reading),
            *((f"{DECODING}, {c} threads", 4.0, functools.partial(self._decoding, c)) for c in CHOICES),
            ("host to device", 1, self._to_device),
            ("compute", 1, self._compute),
            ("device to host", 1, self._to_host),
            (IN_STAGE, 4, self._in_stage),
            *((f"{WRITING}, {c} threads", 6, functools.partial(self._writing, c)) for c in CHOICES),
            *((f"the whole, {c} threads", 12, functools.partial(self._whole, c)) for c in CHOICES),
            ("the whole, four times the batch", 12, lambda: self._whole("default", batch=4 * self.batch)),
        ]
        made = Planned("stage 2", f"{self.clips} prepared clips", 30, self._made)
        return [made, *(Planned("stage 2", name, seconds, measure) for name, seconds, measure in parts)]

    def threads(self, choice: str) -> tuple[int, int, int]:
        """How many decode, how many write, and how many groups are begun while one is computed."""
        decoding, writing, launches = worker.overlap(self.device.type)
        if choice == "half the":
            return max(1, decoding // 2), max(1, writing // 2), launches
        return (2 * decoding, 2 * writing, launches + 1) if choice == "twice the" else (decoding, writing, launches)

    @functools.cached_property
    def _options(self) -> ExtractOptions:
        return ExtractOptions(
            weights="random",
            precision=self.precision,
            device=self.device.type,
            batch_clips=self.batch,
            crop=self.crop,
        )

    @functools.cached_property
    def _folder(self) -> PreparedFolder:
        return prepare_random(self.scratch / "prepared", self.clips, self.shard, different=DIFFERENT)

    @functools.cached_property
    def _parts(self) -> Parts:
        return Parts(self._folder, self._options, cores(), self.scratch / "parts")

    def _made(self) -> Measured:
        start = time.perf_counter()
        total = sum(self._folder.shard(number).path.stat().st_size for number in range(self._folder.shards))
        note = f"set-up, not tuned; {total / self.clips / 1e3:.0f} kB each"
        return Measured(self.clips / (time.perf_counter() - start), "clips/s", note=note)

    def _part(self, name: str, speed: float, note: str) -> Measured:
        self.speeds[name] = speed
        return Measured(speed, "clips/s", note=note)

    def _reading(self) -> Measured:
        numbers = range(len(self._parts.jobs))

        def read() -> None:
            for number in numbers:
                with self._folder.shard(number).reader() as reader:
                    for row in range(len(self._folder.rows(number))):
                        clip = reader.clip(row)
                        assert clip is not None
                        clip.digest()

        clips = sum(len(self._folder.rows(number)) for number in numbers)
        return self._part(READING, self._rate(read, clips), "one thread, as in the stage")

    def _decoding(self, choice: str) -> Measured:
        parts = copy.copy(self._parts)
        parts.decoders = self.threads(choice)[0]
        speed = self._rate(parts.jpeg, parts.clips)
        note = f"{parts.decoders} threads; {speed * FRAMES:,.0f} pictures/s"
        return self._part(f"{DECODING}, {choice} threads", speed, note)

    def _frames(self) -> np.ndarray:
        shape = (self.batch, FRAMES, self.crop, self.crop, 3)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def _to_device(self) -> Measured:
        frames = self._frames()
        seconds = seconds_per_call(lambda: to_device(frames, self.device), self.device, self.seconds)
        note = f"{frames.nbytes / seconds / 1e9:.2f} GB/s, pinned copy included"
        return self._part("host to device", self.batch / seconds, note)

    @torch.inference_mode()
    def _compute(self) -> Measured:
        backbone = FrozenMC18("random", precision=self.precision, device=self.device)
        frames = torch.from_numpy(self._frames()).to(self.device)
        joints = self.crop * torch.rand(self.batch, 2, FRAMES, JOINTS, 2, device=self.device)
        drawn = torch.ones(joints.shape[:-1], dtype=torch.bool, device=self.device)
        grid = (self.crop // JM_STRIDE, self.crop // JM_STRIDE)

        def compute() -> tuple[torch.Tensor, torch.Tensor]:
            maps = backbone(normalize(frames))
            heatmaps = joint_heatmaps(to_cells(joints, JM_STRIDE), drawn, size=grid, sigma=self._options.sigma)
            return global_grid_tokens(maps["layer4"]).half(), joint_map_tokens(maps["layer2"], heatmaps).half()

        seconds = seconds_per_call(compute, self.device, self.seconds)
        return self._part("compute", self.batch / seconds, "normalise, backbone, heatmaps, pooling; nothing moved")

    def _to_host(self) -> Measured:
        shapes = ((self.batch, FRAMES, (self.crop // GG_STRIDE) ** 2, 512), (self.batch, FRAMES, JOINTS, 128))
        tokens = [torch.zeros(shape, dtype=torch.float16, device=self.device) for shape in shapes]
        pending: list[HostCopy] = []

        def back() -> None:  # one copy under way while the one before is waited for
            pending.append(HostCopy(tokens))
            if len(pending) > 1:
                pending.pop(0).wait()

        seconds = seconds_per_call(back, self.device, self.seconds)
        size = sum(tensor.nbytes for tensor in tokens)
        return self._part("device to host", self.batch / seconds, f"{size / seconds / 1e9:.2f} GB/s")

    def _in_stage(self) -> Measured:
        note = f"groups of {self.batch}, one thread; with the stacking of pictures"
        return self._part(IN_STAGE, self._rate(self._parts.backbone, self._parts.clips), note)

    def _writing(self, choice: str) -> Measured:
        threads, shards = self.threads(choice)[1], []
        for number, job in enumerate(self._parts.jobs):
            shard = copy.copy(self._parts)
            shard.jobs, shard.tokens = [job], [tokens for tokens in self._parts.tokens if tokens[0] is job]
            shard.blobs = open_blobs(self.scratch / "written" / str(number))
            shards.append(shard)

        def write() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(Parts.writing, shards))

        speed = self._rate(write, self._parts.clips)
        size = self._parts.tokens[0][1]
        each = (size.gg.nbytes + size.jm.nbytes) / len(size.gg)
        note = f"{threads} threads; {speed * each / 1e9:.2f} GB/s of tokens"
        shutil.rmtree(self.scratch / "written")
        return self._part(f"{WRITING}, {choice} threads", speed, note)

    def _whole(self, choice: str, batch: int = 0) -> Measured:
        threads, out, moments = self.threads(choice), self.scratch / "whole", list[float]()

        def progress(event: dict[str, Any]) -> None:
            if "clip" in event:
                moments.append(time.perf_counter())

        options = replace(self._options, batch_clips=batch or self.batch)
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        try:
            with mock.patch.object(worker, "overlap", return_value=threads):
                account = extract(self._folder.path, out, options, progress=progress)
            end = time.perf_counter()
        finally:
            shutil.rmtree(out, ignore_errors=True)
        assert account.done == self.clips, f"{account.done} of {self.clips} clips are done"
        skipped = self.clips // 8
        speed = (self.clips - skipped) / (end - moments[skipped - 1])
        note = f"{threads[0]} decode, {threads[1]} write, {threads[2]} ahead, batch {options.batch_clips}; "
        shares, bound = self._bound(speed, choice)
        return Measured(speed, "clips/s", shares, note + f"{end - start:.1f} s in all{bound}")

    def _bound(self, speed: float, choice: str) -> tuple[dict[str, float], str]:
        """The share of the slowest part with this choice of threads, and its name."""
        others = tuple(f"{other} threads" for other in CHOICES if other != choice)
        speeds = {name: found for name, found in self.speeds.items() if not name.endswith(others)}
        if not speeds:
            return {}, ""
        slowest = min(speeds, key=lambda name: speeds[name])
        return {"its slowest part": speed / speeds[slowest]}, f"; slowest part: {slowest}"

    def _rate(self, work: Callable[[], object], clips: int) -> float:
        """Clips a second: the median of some calls after a first one."""
        taken = []
        for _ in range(1 + REPEATS if self.seconds else 1):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
        return clips / statistics.median(taken[1:] or taken)

"""Rows of the backbone: clips a second and the shares of two measured ceilings, eager, as a CUDA graph and compiled.

In: sides of the picture and batch sizes; random clips (B, 3, 16, side, side) on the device, random weights. Out:
planned rows. The ceilings: one large matmul, and the backbone's convolutions alone on inputs that are ready,
with the project's cuDNN settings and with cuDNN free to choose its kernels by trial; the faster of the two counts.
Every form must give the eager features: the relative L2 distance of each layer is at most `TOLERANCE`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from backbone import compiled, convolutions_row
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from on_gpu.table import Measured, Planned, SkippedError, peak_gb, seconds_per_call
from pipeline.backbone import FrozenMC18

FRAMES = 16
TOLERANCE = {"bf16": 2e-2, "fp32": 1e-4}
PLAIN, TUNED = "convolutions alone", "convolutions alone, kernels chosen by trial"
COMPILES_S = {"cuda": 25.0, "cpu": 5.0}  # about
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass
class BackboneRows:
    """What the rows share: the device, and the ceilings as far as they have been measured."""

    device: torch.device
    precision: str
    seconds: float  # of a measurement
    matmul_size: int
    matmul: float = 0.0  # operations a second
    convolutions: dict[tuple[int, int], float] = field(default_factory=dict)  # clips a second by (side, batch)

    def ceilings_and_eager(self, sides: tuple[int, ...], batches: tuple[int, ...]) -> list[Planned]:
        """The ceilings, and what needs no compiler."""
        rows = [Planned("ceiling", f"matmul, {self.precision}", 3 * self.seconds, self._matmul)]
        for side in sides:
            for batch in batches:
                for name, measure in (
                    (PLAIN, functools.partial(self._convolutions, tuned=False)),
                    (TUNED, functools.partial(self._convolutions, tuned=True)),
                    ("eager", self._eager),
                    ("CUDA graph", self._graph),
                ):
                    rows.append(self._planned(name, side, batch, 2 * self.seconds, measure))
        return rows

    def compiled(self, side: int, batch: int) -> Planned:
        """torch.compile, shapes fixed; its time is not part of the speed."""
        return self._planned("compiled", side, batch, COMPILES_S[self.device.type], self._compiled)

    def _planned(
        self, name: str, side: int, batch: int, seconds: float, measure: Callable[[int, int], Measured]
    ) -> Planned:
        return Planned(f"backbone {side} px, batch {batch}", name, seconds, lambda: measure(side, batch))

    def _matmul(self) -> Measured:
        size = self.matmul_size
        a, b = (torch.randn(size, size, device=self.device, dtype=DTYPES[self.precision]) for _ in range(2))
        self.matmul = 2 * size**3 / seconds_per_call(lambda: a @ b, self.device, self.seconds)
        return Measured(self.matmul / 1e12, "TFLOP/s", note=f"{size} x {size} x {size}, random values")

    @torch.no_grad()
    def _convolutions(self, side: int, batch: int, *, tuned: bool) -> Measured:
        run = convolutions_row(self._backbone, self._clips(side, batch))
        with torch.backends.cudnn.flags(enabled=True, benchmark=tuned, deterministic=not tuned, allow_tf32=False):
            speed = batch / seconds_per_call(run, self.device, self.seconds)
        self.convolutions[side, batch] = max(speed, self.convolutions.get((side, batch), 0.0))
        return Measured(speed, "clips/s", self._share_of_matmul(speed, side))

    def _eager(self, side: int, batch: int) -> Measured:
        return self._measured(self._backbone, self._clips(side, batch))

    def _graph(self, side: int, batch: int) -> Measured:
        if self.device.type != "cuda":
            raise SkippedError("needs a GPU")
        clips = self._clips(side, batch)
        return self._measured(captured(self._backbone, clips), clips)

    def _compiled(self, side: int, batch: int) -> Measured:
        clips = self._clips(side, batch)
        torch.compiler.reset()  # else the shapes before this one count as recompilations
        backbone = compiled(FrozenMC18("random", precision=self.precision, device=self.device))
        return self._measured(backbone, clips)

    def _measured(self, forward: Callable[[Tensor], dict[str, Tensor]], clips: Tensor) -> Measured:
        batch, side = len(clips), clips.shape[-1]
        speed = batch / seconds_per_call(lambda: forward(clips), self.device, self.seconds)
        shares = self._share_of_matmul(speed, side)
        if (side, batch) in self.convolutions:
            shares["convolutions"] = speed / self.convolutions[side, batch]
        peak = peak_gb(self.device)  # the check takes more
        note = "as in stage 2" if forward is self._backbone else self._checked(forward, clips)
        return Measured(speed, "clips/s", shares, note, peak)

    def _checked(self, forward: Callable[[Tensor], dict[str, Tensor]], clips: Tensor) -> str:
        """A note of how far the features are from the eager ones; AssertionError beyond the tolerance."""
        expected, found = self._backbone(clips), forward(clips)
        far = max(float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected)
        assert far <= TOLERANCE[self.precision], f"features differ from eager ones by {far:.1e}"  # NaN fails, too
        return f"features within {far:.1e} of eager (tolerance {TOLERANCE[self.precision]:.0e})"

    def _share_of_matmul(self, speed: float, side: int) -> dict[str, float]:
        return {"matmul": speed * self._flops(side) / self.matmul} if self.matmul else {}

    @functools.cached_property
    def _backbone(self) -> FrozenMC18:
        return FrozenMC18("random", precision=self.precision, device=self.device)

    def _clips(self, side: int, batch: int) -> Tensor:
        clips = torch.randn(batch, 3, FRAMES, side, side, device=self.device, dtype=DTYPES[self.precision])
        return clips.contiguous(memory_format=torch.channels_last_3d)

    def _flops(self, side: int) -> int:
        """Operations of a clip, as torch counts them; a multiply-add is two."""
        with FlopCounterMode(display=False) as counter:
            self._backbone(self._clips(side, 1))
        return int(counter.get_total_flops())


def captured(backbone: FrozenMC18, clips: Tensor) -> Callable[[Tensor], dict[str, Tensor]]:
    """The forward pass as one CUDA graph, for clips of this shape; its features are overwritten by the next call."""
    static = clips.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is made on first use must be there before the capture
        for _ in range(3):
            backbone(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = backbone(static)

    def replay(new: Tensor) -> dict[str, Tensor]:
        static.copy_(new)
        graph.replay()
        return features

    return replay

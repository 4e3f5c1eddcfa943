"""Clips a second of the frozen backbone, against torchvision, and against its own convolutions alone.

In: random 16x112x112 clips, random weights. Out: one table. Every row does the same job, clips to the feature maps of
layers 2 and 4. All rows of a setting are measured in turn, round after round, in one fresh process; a ratio is the
median over rounds of the ratio within a round, so that other load on the machine changes it little. The ceiling is
the time of the network's convolutions alone, run one by one on inputs that are ready, in the row's own precision. On
Linux every row is measured twice: with glibc's default malloc, which returns large buffers to the system after each
use and faults them in again, and with its thresholds raised.

    python benchmarks/backbone.py [--batch 4] [--rounds 7] [--threads 2] [--device cuda] [--compile] [--bf16]
    python benchmarks/backbone.py --clock cpu --threads 1       # CPU seconds: for a busy machine
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.video import mc3_18

from pipeline.backbone.frozen import FrozenMC18
from pipeline.backbone.weights import load_weights
from pipeline.torch_device import resolve_precision

RAISED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
PEER = "torchvision, eager, fp32"
CEILING = "its convolutions alone, {}"
TableRow = Callable[[], object]


def torchvision_row(clips: Tensor) -> TableRow:
    """The usual extractor: the network as it comes, contiguous clips, stopped before the classifier."""
    model = mc3_18().eval().to(clips.device)
    model.load_state_dict(load_weights("random").tensors, strict=False)
    contiguous = clips.contiguous()

    def run() -> tuple[Tensor, Tensor]:
        layer2 = model.layer2(model.layer1(model.stem(contiguous)))
        return layer2, model.layer4(model.layer3(layer2))

    return run


def convolutions_row(backbone: FrozenMC18, clips: Tensor) -> TableRow:
    """Each convolution of the trunk on the input that it has in a forward pass, and nothing else."""
    calls: list[tuple[nn.Module, Tensor]] = []
    convolutions = [module for module in backbone.trunk.modules() if isinstance(module, nn.Conv3d)]
    hooks = [c.register_forward_pre_hook(lambda c, x: calls.append((c, x[0].clone()))) for c in convolutions]
    backbone(clips)
    for hook in hooks:
        hook.remove()
    return lambda: [convolution(x) for convolution, x in calls]


class Planar(nn.Module):
    """A convolution that never looks across frames, as a 2-D one: (B, C, T, h, w) seen as (B * T, C, h, w)."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight = conv.weight[:, :, 0].contiguous(memory_format=torch.channels_last)
        self.bias, self.stride, self.padding = conv.bias, conv.stride[1:], conv.padding[1:]

    def forward(self, x: Tensor) -> Tensor:
        flat = x.transpose(1, 2).flatten(0, 1)  # a view, since memory is channels-last
        y = nn.functional.conv2d(flat, self.weight, self.bias, self.stride, self.padding)
        return y.unflatten(0, (len(x), -1)).transpose(1, 2)


def planar(backbone: FrozenMC18) -> FrozenMC18:
    for module in list(backbone.trunk.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv3d) and child.kernel_size[0] == 1:
                setattr(module, name, Planar(child))
    return backbone


def compiled(backbone: FrozenMC18) -> FrozenMC18:
    """What torch.compile fuses: float32 on a CPU gained nothing, so the stage has no such option."""
    backbone.trunk.compile(dynamic=False)
    return backbone


def rows(options: argparse.Namespace) -> dict[str, tuple[TableRow, str]]:
    """Name: what to run, and the name of its ceiling."""
    clips = torch.randn(options.batch, 3, 16, 112, 112, device=options.device)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    native = resolve_precision("auto", options.device) == "bf16"
    table: dict[str, tuple[TableRow, str]] = {PEER: (torchvision_row(clips), CEILING.format("fp32"))}
    for precision in ("fp32", "bf16") if native or options.bf16 else ("fp32",):
        ceiling = CEILING.format(precision)

        make = partial(FrozenMC18, "random", precision=precision, device=options.device)

        backbones = {
            "ours": make(),
            "ours, 2-D layers 2 to 4": planar(make()),
            "ours, deterministic": make(deterministic=True),
        }
        if options.compile:
            backbones["ours, compiled"] = compiled(make())
        for name, backbone in backbones.items():
            table[f"{name}, {precision}"] = (partial(backbone, clips), ceiling)
        table[ceiling] = (convolutions_row(make(), clips), ceiling)
    return table


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of one process: clips a second, times the peer, share of the ceiling."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cuda = torch.device(options.device).type == "cuda"
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    table = rows(options)
    seconds: dict[str, list[float]] = {name: [] for name in table}
    # as our backbone sets it, for every row: fp32 means fp32 on a GPU, too
    same = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), same:
        for round_ in range(options.rounds + 1):
            for name, (run, _) in table.items():
                begun = clock()
                run()
                if cuda:
                    torch.cuda.synchronize()
                if round_:  # the first warms up
                    seconds[name].append(clock() - begun)

    def ratio(name: str, other: str) -> float:
        return statistics.median(b / a for a, b in zip(seconds[name], seconds[other], strict=True))

    return {
        name: {
            "clips": options.batch / statistics.median(seconds[name]),
            "peer": ratio(name, PEER),
            "share": ratio(name, ceiling),
        }
        for name, (_, ceiling) in table.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--compile", action="store_true", help="add a compiled row (a minute more)")
    parser.add_argument("--bf16", action="store_true", help="bf16 rows also where it is emulated")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options)))
        return
    print(f"{options.batch} clips a batch, {options.threads} threads, {options.device}, {options.clock} clock")
    print(f"{'malloc':8} {'row':38} {'clips/s':>8} {'x torchvision':>14} {'of ceiling':>11}")
    for malloc, more in (("default", {}), ("raised", RAISED)):
        plain = {name: value for name, value in os.environ.items() if name not in RAISED}
        command = [sys.executable, __file__, *sys.argv[1:], "--child"]
        done = subprocess.run(command, env={**plain, **more}, stdout=subprocess.PIPE, text=True, check=True)
        for name, row in json.loads(done.stdout).items():
            print(f"{malloc:8} {name:38} {row['clips']:8.2f} {row['peer']:14.2f} {row['share']:11.2f}", flush=True)


if __name__ == "__main__":
    main()

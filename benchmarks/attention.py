"""Time and memory of the three attentions, forward and backward, against the naive form that builds the T²S² matrix.

In: nothing but options. Out: one table: milliseconds, ratio to the naive form and to full attention at the same size,
and the largest single buffer that is allocated. Peers run in turn within each round, so that other load on the machine
affects all of them alike.

    python benchmarks/attention.py [--threads 1] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler, which finds the buffers, prints messages

import torch
from torch import Tensor

from star.attention import binary_attention, full_attention, zigzag_attention

SIZES = ((8, 27), (16, 27), (16, 77), (32, 77))  # (T, S): JM tokens alone, and both kinds
BATCH, HEADS, CHANNELS = 4, 8, 64


def naive_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over flattened (t, s), as the equation is written."""
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1) @ v


PEERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "naive": naive_attention,
    "full": full_attention,
    "zigzag": zigzag_attention,
    "binary": binary_attention,
}


def seconds(attention: Callable[[Tensor, Tensor, Tensor], Tensor], qkv: list[Tensor]) -> float:
    """Of one forward and backward pass."""
    start = time.perf_counter()
    torch.autograd.grad(attention(*qkv).sum(), qkv)
    return time.perf_counter() - start


def largest_buffer(attention: Callable[[Tensor, Tensor, Tensor], Tensor], qkv: list[Tensor]) -> float:
    """MiB."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        torch.autograd.grad(attention(*qkv).sum(), qkv)
    return max(event.cpu_memory_usage for event in profiler.events()) / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"batch {BATCH}, {HEADS} heads of {CHANNELS}, float32, {options.threads} thread(s), best of {options.rounds}")
    print(f"{'T':>3} {'S':>3} {'':8} {'ms':>8} {'of naive':>9} {'of full':>8} {'MiB':>7}")
    for frames, spatial in SIZES:
        shape = (BATCH, HEADS, frames, spatial, CHANNELS)
        qkv = [torch.randn(shape, requires_grad=True) for _ in range(3)]
        best = dict.fromkeys(PEERS, float("inf"))
        for _ in range(1 + options.rounds):
            for name, attention in PEERS.items():
                best[name] = min(best[name], seconds(attention, qkv))
        for name, attention in PEERS.items():
            line = f"{frames:3d} {spatial:3d} {name:8} {1e3 * best[name]:8.1f} {best[name] / best['naive']:9.2f}"
            print(f"{line} {best[name] / best['full']:8.2f} {largest_buffer(attention, qkv):7.1f}", flush=True)


if __name__ == "__main__":
    main()

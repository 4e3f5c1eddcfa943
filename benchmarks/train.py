"""The speed of a preset's training from a token store: clips a second, share of waiting, time of an epoch of NTU.

In: nothing, or a store. Out: one table of three rows, measured in the same run:

    training          `star.train.train` itself, reading, copying, every step; without its first epoch
    steps alone       the same steps on a batch that is on the device already: what training could reach
    products alone    the operations of the model's matrix products at the speed of one large product in the preset's
                      precision: what the device could reach (a step is three forward passes)

Without --store one of NTU60's shape is written: random tokens, 60 classes, a ninth of the clips of test subjects.

    python benchmarks/train.py --device cuda --clips 4096 --preset fast [--set optim.compile=true] [--epochs 4] [--disk]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.datasets.ntu import record_from_name
from pipeline.manifest import class_names
from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays
from star.build import seeded_model
from star.config.presets import preset
from star.config.text import TrainConfig, with_overrides
from star.data.dataset import TokenDataset
from star.data.splits import fitted, train_split
from star.distributed.machine import autocast_precision, choose_device
from star.distributed.world import World
from star.train.memory import made_up_batch
from star.train.optim import make_optimizer
from star.train.plan import forward_flops
from star.train.progress import TrainEvent
from star.train.start import train
from star.train.step import train_step

EPOCHS = {"NTU60": 40_091, "NTU120": 63_026}  # training clips of xsub, without the missing lists
SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 3)  # the last is of the test split
PASSES = 3  # a step in forward passes: the backward pass has twice the products
DIFFERENT = 64  # clips with different tokens; the others repeat them
MIN_S = 3.0  # of a measurement


def ntu_store(path: Path, clips: int) -> None:
    """Random tokens in the shape of NTU60's, JM tokens of layer2."""
    places = product(range(1, 1000), (1, 2, 3), SUBJECTS, range(1, 61))
    names = sorted(f"S001C{c:03d}P{p:03d}R{r:03d}A{a:03d}" for r, c, p, a in islice(places, clips))
    rng, shape = np.random.default_rng(0), (min(DIFFERENT, clips), 1, 16)
    gg, jm = (
        np.resize(rng.standard_normal((*shape, *last), np.float32).astype(np.float16), (clips, 1, 16, *last))
        for last in ((49, 512), (25, 128))
    )
    write_arrays(
        path,
        gg=gg,
        jm=jm,
        joint_mask=np.ones((clips, 1, 16, 25), bool),
        records=[record_from_name(name) for name in names],
        class_names=class_names("ntu60"),
        dataset="ntu60",
    )


def of_training(store: Path | str, items: int, config: TrainConfig, device: torch.device) -> tuple[float, float]:
    """Clips a second after the first epoch, and the share of that time in which steps waited for their batches."""
    marks: list[tuple[float, float]] = []  # after each epoch: the clock, seconds waited until then

    def progress(event: TrainEvent) -> None:
        if event.top1 is None and event.done * event.epochs % event.total == 0:
            _settled(device)
            spent = items * (len(marks) + 1) / event.clips_per_s
            marks.append((time.perf_counter(), event.wait_share * spent))

    with tempfile.TemporaryDirectory() as folder:
        train(store, Path(folder) / "run", config=config, device=str(device), progress=progress, save_every_s=1e9)
    (first, waited_first), *_, (last, waited_last) = marks
    return items * (len(marks) - 1) / (last - first), (waited_last - waited_first) / (last - first)


def of_steps(dataset: TokenDataset, config: TrainConfig, device: torch.device) -> float:
    """Clips a second of steps on one batch in memory."""
    model = seeded_model(fitted(config.model, dataset), seed=0).to(device).train()
    optimizer, clips = make_optimizer(model, config.optim), min(config.optim.batch_size, len(dataset))
    batch = made_up_batch(model.config, clips).to(device)
    forward: Any = torch.compile(model) if config.optim.compile else model
    world = World(device=device)

    def step() -> None:
        train_step(forward, optimizer, batch, config=config.optim, clips=clips, step=0, seed=0, world=world)

    return clips / _seconds(step, device)


def of_products(dataset: TokenDataset, config: TrainConfig, device: torch.device) -> float:
    """Clips a second if all the model's matrix products were as fast as a large one."""
    size = 8192 if device.type == "cuda" else 1024
    precision = torch.bfloat16 if autocast_precision(config.optim.precision, device) == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=precision) for _ in range(2))
    speed = 2 * size**3 / _seconds(lambda: a @ b, device)
    return speed / (PASSES * forward_flops(fitted(config.model, dataset)))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, over as many as take `MIN_S`; the first two warm up."""
    for _ in range(2):
        work()
    _settled(device)
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < MIN_S:
        work()
        calls += 1
        _settled(device)
    return (time.perf_counter() - start) / calls


def _settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(store: Path | str, config: TrainConfig, device: torch.device) -> None:
    """Measure and print."""
    dataset = train_split(TokenStore.open(store), config, in_memory=False)
    items = len(dataset)
    where = "in memory" if dataset.fits_in_memory else "read from the disk"
    speed, waiting = of_training(store, items, config, device)
    steps, products = of_steps(dataset, config, device), of_products(dataset, config, device)
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"the CPU, threads: {torch.get_num_threads()}"
    )
    print(f"preset {config.preset} on {name}, {items} training clips {where}, torch {torch.__version__}")
    print(f"{'':16}{'clips/s':>10}{'training is':>13}" + "".join(f"{f'{data} epoch':>15}" for data in EPOCHS))
    for row, found in (("training", speed), ("steps alone", steps), ("products alone", products)):
        epochs = "".join(f"{clips / found:13.1f} s" for clips in EPOCHS.values())
        print(f"{row:16}{found:10.1f}{speed / found:13.2f}{epochs}")
    print(f"waiting for data: {100 * waiting:.1f} % of training")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--store")
    parser.add_argument("--clips", type=int, default=540)
    parser.add_argument("--preset", default="smoke")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--disk", action="store_true", help="read every batch from the store, though it would fit")
    given = parser.parse_args()
    # whole epochs, of all training clips
    settings = [f"optim.epochs={given.epochs}", "optim.min_steps=0", "data.validation=0", "eval_every=0"]
    settings += given.settings
    config = with_overrides(preset(given.preset), settings)
    if given.disk:
        TokenDataset.fits_in_memory = property(lambda self: False)  # type: ignore[assignment, method-assign]
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or Path(folder) / "ntu.zarr"
        if given.store is None:
            ntu_store(Path(store), given.clips)
        table(store, config, choose_device(given.device))


if __name__ == "__main__":
    main()

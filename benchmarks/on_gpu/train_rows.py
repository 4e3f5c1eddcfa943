"""Rows of training: steps a second of a preset, the share of waiting, and the time of an epoch of NTU60's size.

In: a token store of NTU60's shapes (random tokens), written here once. Out: planned rows. "training" is
`star.train.train` itself until its time is over; "steps alone" are the same steps on one batch that lies on the device.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from train import EPOCHS, ntu_store, of_steps

from on_gpu.table import Measured, Planned
from pipeline.store import TokenStore
from star.config import preset, with_overrides
from star.config.text import TrainConfig
from star.data.dataset import TokenDataset
from star.data.splits import train_split
from star.train.progress import TrainEvent
from star.train.start import train

FROM_STORE, COMPILED = "training, every batch read from the store", "training, compiled"


@dataclass
class TrainRows:
    """What the rows share: the device and the store."""

    device: torch.device
    scratch: Path
    clips: int
    settings: tuple[str, ...]  # of every preset
    seconds: float  # of a measurement
    warm_up: int  # steps that do not count

    def eager(self) -> list[Planned]:
        """Both presets without a compiler."""
        rows = [Planned("training", f"a store of NTU60's shapes, {self.clips} clips", 20, self._store_written)]
        for name in ("fast", "paper"):
            rows += [
                self._planned(name, "training", self._training),
                self._planned(name, "steps alone", self._steps_alone),
            ]
        read = functools.partial(self._training, held=False)
        return [*rows, self._planned("fast", FROM_STORE, read)]

    def compiled(self) -> Planned:
        """`fast` with optim.compile; the seconds of compiling do not count."""
        row = self._planned("fast", COMPILED, functools.partial(self._training, settings=("optim.compile=true",)))
        row.seconds += 40.0
        return row

    def _planned(self, name: str, row: str, measure: Callable[[TrainConfig], Measured]) -> Planned:
        settings = ["eval_every=0", "optim.epochs=1000", "data.validation=0", *self.settings]
        config = with_overrides(preset(name), settings)
        return Planned(f"preset {name}", row, 2 * self.seconds, lambda: measure(config))

    def _store_written(self) -> Measured:
        start = time.perf_counter()
        assert self._store.is_dir()
        return Measured(self.clips / (time.perf_counter() - start), "clips/s", note="set-up, not tuned")

    @functools.cached_property
    def _store(self) -> Path:
        path = self.scratch / "ntu.zarr"
        ntu_store(path, self.clips)
        return path

    def _training(self, config: TrainConfig, *, held: bool = True, settings: tuple[str, ...] = ()) -> Measured:
        config = with_overrides(config, list(settings))
        counted: list[tuple[float, TrainEvent]] = []  # after the steps that warm up

        def progress(event: TrainEvent) -> None:
            if event.done >= self.warm_up:
                counted.append((time.perf_counter(), event))

        def enough() -> bool:
            return len(counted) > 1 and counted[-1][0] - counted[0][0] >= self.seconds

        @contextmanager
        def stop() -> Iterator[Callable[[], bool]]:
            yield enough

        read = mock.patch.object(TokenDataset, "fits_in_memory", property(lambda self: False))
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder, nullcontext() if held else read:
            try:
                run = Path(folder) / "run"
                train(
                    self._store, run, config=config, device=str(self.device), progress=progress, save_every_s=1e9,
                    stop=stop(),
                )  # fmt: skip
            except KeyboardInterrupt:
                if not enough():
                    raise
        (begin, first), (end, last) = counted[0], counted[-1]
        steps, taken = last.done - first.done, end - begin
        waited = _waited(last, self._items(config), config) - _waited(first, self._items(config), config)
        clips = _clips(last.done, self._items(config), config) - _clips(first.done, self._items(config), config)
        epoch = EPOCHS["NTU60"] * taken / clips
        note = f"{steps} steps of {config.optim.batch_size}; an epoch of NTU60 {epoch:.1f} s, scaled from these steps"
        return Measured(steps / taken, "steps/s", {"time waiting for data": waited / taken}, note)

    def _steps_alone(self, config: TrainConfig) -> Measured:
        dataset = train_split(TokenStore.open(self._store), config, in_memory=False)
        with mock.patch("train.MIN_S", self.seconds):
            speed = of_steps(dataset, config, self.device)
        note = f"an epoch of NTU60 {EPOCHS['NTU60'] / speed:.1f} s, scaled from these steps"
        return Measured(speed / config.optim.batch_size, "steps/s", note=note)

    def _items(self, config: TrainConfig) -> int:
        return len(train_split(TokenStore.open(self._store), config, in_memory=False))


def _clips(steps: int, items: int, config: TrainConfig) -> int:
    """Clips of so many steps from the first on: the last one of an epoch may be short."""
    size = config.optim.batch_size
    epochs, rest = divmod(steps, -(-items // size))
    return epochs * items + min(rest * size, items)


def _waited(event: TrainEvent, items: int, config: TrainConfig) -> float:
    """Seconds of waiting until this event."""
    return event.wait_share * _clips(event.done, items, config) / event.clips_per_s

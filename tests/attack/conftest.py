"""One small prepared folder, store, run and score file, made once; each attack gets a copy of its own."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
from extract_corpus import OPTIONS, install, write_prepared
from star_stores import write_small_store

from pipeline.extract.coordinator import extract
from star.config.options import DataConfig, ModelConfig, OptimConfig
from star.config.text import TrainConfig
from star.train.start import train

HANG_S = 120  # a limit that only a hang reaches
CONFIG = TrainConfig(
    model=ModelConfig(tokens="jm", width=8, heads=2, encoder_depth=1, decoder_depth=1, mlp_ratio=1),
    data=DataConfig(views=0, validation=0.5),
    optim=OptimConfig(kind="adamw", lr=1e-3, epochs=2, batch_size=16, ema=0.5),
)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `prepared` and `store` (2 views, 2 shards), `tokens` and `run`, whose second epoch is to do."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        write_prepared(root / "prepared", 6, shard_clips=3)
        extract(root / "prepared", root / "store", replace(OPTIONS, views=2))
    write_small_store(root / "tokens", classes=2, subjects=(1, 2, 9), replications=2)
    train(root / "tokens", root / "run", config=CONFIG, device="cpu", workers=0)
    max((root / "run").glob("checkpoint-*.pt")).unlink()  # the one before it has an epoch to go
    return root


@pytest.fixture
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, with an alarm that only a hang reaches."""
    install(monkeypatch)
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)

    def hung(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it hangs: not done after {HANG_S} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANG_S)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)

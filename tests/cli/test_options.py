"""Errors name arguments of Python; the command line shows their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import one_sentence, star

from cli.main import app
from cli.options import in_options
from pipeline.errors import ArtifactError, ConfigError

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "item", "shown"),
    [
        ("extract-tokens", "device", "--device"),
        ("extract-tokens", "jm_layer", "--jm-layer"),
        ("extract-tokens", "batch_clips", "--batch"),
        ("evaluate", "batch_size", "--batch"),
        ("train", "batch_size", "batch_size"),  # has no such option
        ("extract-tokens", "prepared", "prepared"),  # an argument without an option
        ("train", "optim.lr", "optim.lr"),
    ],
)
def test_an_item(command: str, item: str, shown: str) -> None:
    assert in_options(ConfigError(item, "is wrong"), COMMANDS[command]) == f"{shown}: is wrong"


def test_an_item_of_a_recipe(tmp_path: Path) -> None:
    raw = ("--videos", tmp_path, "--skeletons", tmp_path, "--out", tmp_path / "o")
    one_sentence(star("prepare", "ntu60", *raw, "--budget", "inf"), "star: --budget: must be a finite number")


def test_a_file_that_is_called_like_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for error in (ConfigError("out", "is damaged"), ArtifactError("device", "does not exist")):
        assert in_options(error, COMMANDS["train"]) == str(error)


def test_arguments_in_the_text() -> None:
    remedy = "set `workers` to 2, or `device` to cpu (`jm_layer`, `batch_clips`); see `nvidia-smi` and `seeds`"
    shown = "set --workers to 2, or --device to cpu (--jm-layer, --batch); see `nvidia-smi` and `seeds`"
    error = ConfigError("s", "`codec` is wrong", got="`codec`", expected="`dtype`", remedy=remedy)
    sentence = f"s: --codec is wrong (got `codec`, expected --dtype); {shown}"
    assert in_options(error, COMMANDS["extract-tokens"]) == sentence


def test_settings_in_the_text() -> None:
    error = ConfigError("m", "too large", remedy="`optim.micro_batch=8` takes smaller pieces; or use `torchrun -n=2`")
    shown = "m: too large; --set optim.micro_batch=8 takes smaller pieces; or use `torchrun -n=2`"
    assert in_options(error, COMMANDS["train"]) == shown
    assert in_options(error, COMMANDS["evaluate"]) == str(error)


def test_a_path_with_backticks_stays() -> None:
    path = "/data/`out`/`device`"
    error = ArtifactError(path, f"{path} is full", got=path, remedy=f"empty {path} or choose another `out`")
    shown = f"{path}: {path} is full (got {path}); empty {path} or choose another --out"
    assert in_options(error, COMMANDS["train"]) == shown


def test_real_sentences(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    train = ("train", "--from-cache", tmp_path / "s", "--out", tmp_path, "--preset")
    one_sentence(star(*train, "slow"), "star: --preset: no such choice")
    for setting, sentence in (("device=cpu", "star: device: no such setting"), ("seed", "star: seed: has no '='")):
        one_sentence(star(*train, "smoke", "--set", setting), sentence)  # no word of the options of these names
    one_sentence(
        star(*train, "smoke", "--set", "model.kind=token_gru", "--set", "model.tokens=gg"), "--set model.tokens=jm"
    )
    one_sentence(star("extract-tokens", tmp_path, "--out", tmp_path / "o", "--sigma", "nan"), "star: --sigma: must be")

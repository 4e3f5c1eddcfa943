"""Configs are strict: text and files become exactly the values asked for, or one clear sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from star.config.options import OF_THE_STORE
from star.config.presets import PRESETS, preset
from star.config.text import TrainConfig, from_dict, load_config, to_dict, with_overrides


def test_overrides_are_typed() -> None:
    config = with_overrides(
        TrainConfig(),
        ["optim.lr=1e-3", "optim.epochs=7", "model.encoder_modules=full, binary", "data.views=2", "seed=5",
         "model.uniform_attention=true", "data.protocol=xview", "optim.lr=2e-3"],
    )  # fmt: skip
    assert (config.optim.lr, config.optim.epochs, config.seed) == (2e-3, 7, 5)
    assert config.model.encoder_modules == ("full", "binary")
    assert config.data.views == 2
    assert config.model.uniform_attention is True
    assert config.data.protocol == "xview"
    assert TrainConfig() == TrainConfig(optim=dataclasses.replace(TrainConfig().optim))  # the input is not touched


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("optim.lr", "no '='"),
        ("optim.learning_rate=1", "no such setting"),
        ("lr=1", r"optim\.lr"),
        ("optim.epoch=1", r"optim\.epochs"),
        ("model=1", "no such setting"),
        ("seed.x=1", "no such setting"),
        ("optim.epochs=1.5", "expected int"),
        ("optim.epochs=0", "too small"),
        ("optim.lr=fast", "expected float"),
        ("optim.lr=nan", "too small"),
        ("optim.lr=inf", "finite"),
        ("optim.weight_decay=inf", "finite"),
        ("optim.clip_norm=1e999", "finite"),
        ("optim.mixup=inf", "finite"),
        ("optim.momentum=inf", "at least 0 and below 1"),
        ("data.fraction=nan", "above 0"),
        *[(f"model.{name}=77", "fact of the store") for name in OF_THE_STORE],
        ("seed=99999999999999999999", r"below 2\^63"),
        ("model.uniform_attention=1", "true or false"),
        ("model.tokens=rgb", r"gg \| jm \| both"),
        ("model.encoder_modules=", "full"),
        ("model.heads=3", "must divide"),
        ("data.fraction=0", "above 0"),
        ("data.views=some", "random"),
        ("model.dropout=1", "at least 0 and below 1"),
    ],
)
def test_bad_overrides_are_named(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        with_overrides(TrainConfig(), [setting])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json(name: str, tmp_path: Path) -> None:
    config = preset(name)
    assert config.preset == name
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": to_dict(config)}))
    assert load_config(path) == config
    assert "Command: star train" in (PRESETS[name].__doc__ or "")


def test_files_are_strict(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    for text, sentence in [
        ("[1]", "no JSON object"),
        ("{", "not JSON"),
        ('{"optim": {"lr": "1"}}', "optim.lr"),
        ('{"optim": 3}', "a group of settings"),
        ('{"optim": {"lr": Infinity}}', "not JSON"),
        ('{"optim": {"lr": 1' + 400 * "0" + "}}", "too large"),
        ('{"seed": true}', "expected int"),
        ('{"model": {"encoder_modules": "full"}}', "encoder_modules"),
        ('{"optim": {"leaning_rate": 1}}', "no such setting"),
        ('{"model": {"classes": 60}}', "fact of the store"),
        ('{"config": 3}', "config: no such setting"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.json")
    path.write_text('{"optim": {"lr": 1}}')
    assert load_config(path).optim.lr == 1.0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_file_lies_over_a_config(name: str, tmp_path: Path) -> None:
    path, base = tmp_path / "mine.json", preset(name)
    path.write_text('{"optim": {"epochs": 2}, "model": {"tokens": "gg"}}')
    expected = with_overrides(base, ["optim.epochs=2", "model.tokens=gg"])
    assert load_config(path, over=base) == expected != load_config(path)
    # a run's own file is all of its settings, but for the sizes of its store
    run = dataclasses.replace(expected, model=dataclasses.replace(expected.model, classes=7, frames=4))
    path.write_text(json.dumps({"format": "star-run/3", "config": to_dict(run), "store": {}}))
    assert load_config(path, over=preset("smoke")) == expected


def test_the_paper_preset_is_the_papers() -> None:
    paper = preset("paper")
    assert (paper.optim.kind, paper.optim.lr, paper.optim.momentum) == ("sgd", 2e-4, 0.9)
    assert (paper.optim.epochs, paper.optim.batch_size) == (300, 16)
    assert (paper.model.tokens, paper.model.encoder_modules) == ("both", ("full", "zigzag"))
    assert paper.model.decoder_modules == ("full", "binary")
    with pytest.raises(ConfigError, match="fast"):
        preset("best")


def test_tokens_are_not_whitened_without_statistics() -> None:
    with pytest.raises(ConfigError, match=r"model\.whiten: takes the statistics .*model\.whiten=false"):
        with_overrides(preset("smoke"), ["data.standardise=false"])
    assert not with_overrides(preset("smoke"), ["data.standardise=false", "model.whiten=false"]).model.whiten

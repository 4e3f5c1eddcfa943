"""`TrainConfig`, all that decides a training run, and its reading from text and files.

In: defaults (`star.config.presets`), a JSON file, `key=value` from a command line. Out: a frozen, strict
`TrainConfig`; equal configs on equal stores give equal runs. Device, loader workers and the interval of saving are not
part of it, so that a run can be resumed elsewhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts.boundary import read_file
from pipeline.artifacts.schema import parse_json
from pipeline.config import at_least
from pipeline.errors import ConfigError, CorruptError, SettingError
from star.config.options import OF_THE_STORE, DataConfig, ModelConfig, OptimConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run.

    Attributes:
        preset: name of the preset behind the values; decides nothing.
        seed: of initial weights, order, views, dropout and mixup.
        eval_every: epochs between evaluations on the validation side (see `DataConfig`); 0: at the end only. No
            evaluation ever chooses a checkpoint: a run reports its last step.
        score_test: score the test split once, after the last step. Off: a run to choose by never looks at it.
        log_every: steps between the training lines in metrics.jsonl.
    """

    preset: str = ""
    seed: int = 0
    eval_every: int = 1
    score_test: bool = True
    log_every: int = 1
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        if self.seed >= 1 << 63:
            raise ConfigError("seed", "the number is too large", got=self.seed, expected="below 2^63")
        if self.model.whiten and not self.data.standardise:
            problem = "takes the statistics that `data.standardise=false` leaves out"
            raise ConfigError("model.whiten", problem, remedy="add `model.whiten=false`")
        at_least("eval_every", self.eval_every, 0)
        at_least("log_every", self.log_every, 1)


def with_overrides(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """`config` with `key=value` settings in order, for instance `optim.lr=1e-3`, `model.encoder_modules=full,binary`.

    Raises:
        ConfigError: no "=", an unknown key (the nearest ones are named), a value of another type, or a size of the
            model that is a fact of the store.
    """
    values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise SettingError(setting, "has no '='", expected="key=value, for instance optim.lr=1e-3")
        *sections, name = key.strip().split(".")
        hints, target = typing.get_type_hints(TrainConfig), values
        for section in sections:
            if not dataclasses.is_dataclass(hints.get(section)):
                raise _unknown(key)
            hints, target = typing.get_type_hints(hints[section]), target[section]
        if name not in hints or dataclasses.is_dataclass(hints[name]):
            raise _unknown(key)
        _require_own(sections, [name])
        target[name] = _from_text(key, text.strip(), hints[name])
    return from_dict(values)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain nested values for JSON; the inverse of `from_dict`."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any], *, over: TrainConfig | None = None) -> TrainConfig:
    """The config with these values, and those of `over` (None: the defaults) for the rest.

    Raises:
        ConfigError: an unknown key, a value of another type, or an invalid one.
    """
    config: TrainConfig = _build(TrainConfig() if over is None else over, values, "")
    return config


def load_config(path: Path | str, *, over: TrainConfig | None = None) -> TrainConfig:
    """The settings in a JSON file, any part of `to_dict`, over those of a config.

    A run's `config.json` has them under "config", with the sizes of its store, which are ignored.

    Raises:
        ConfigError: no file, not JSON, a size of the model that is a fact of the store, or as `from_dict`.
    """
    try:
        values = parse_json(read_file(path), path)
    except OSError as error:
        raise ConfigError(path, f"cannot be read ({error.strerror})", remedy="name a JSON file") from error
    except CorruptError as error:
        raise ConfigError(path, error.problem, remedy="correct the file") from error
    if not isinstance(values, dict):
        raise ConfigError(path, "holds no JSON object", got=type(values).__name__)
    of_run = isinstance(values.get("config"), dict)
    values = values["config"] if of_run else values
    model = values.get("model")
    if isinstance(model, dict) and of_run:
        values = {**values, "model": {name: value for name, value in model.items() if name not in OF_THE_STORE}}
    elif isinstance(model, dict):
        _require_own(["model"], model)
    return from_dict(values, over=over)


def _require_own(sections: list[str], names: Iterable[str]) -> None:
    """Refuse a setting that would have no effect."""
    given = [name for name in names if name in OF_THE_STORE] if sections == ["model"] else []
    if given:
        raise ConfigError(
            f"model.{given[0]}",
            "is a fact of the store, which training takes from there",
            remedy="leave it out, or name a store that has it",
        )


def _build(base: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(type(base))
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise _unknown(prefix + name)
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise SettingError(prefix + name, "is a group of settings", got=repr(value))
            given[name] = _build(getattr(base, name), value, f"{prefix}{name}.")
        else:
            given[name] = _typed(prefix + name, value, hint)
    return dataclasses.replace(base, **given)


def _typed(key: str, value: Any, hint: Any) -> Any:
    """`value`, checked against the field's type; an int is valid for a float, a list for a tuple."""
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise SettingError(key, "the number is too large", expected=_named(hint)) from None
    if typing.get_origin(hint) is tuple:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise SettingError(key, "has a value of another type", got=repr(value), expected=_named(hint))


def _from_text(key: str, text: str, hint: Any) -> Any:
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if typing.get_origin(hint) is tuple:
            return tuple(part.strip() for part in text.split(","))
        if isinstance(hint, types.UnionType):  # str | int
            return int(text) if text.isdecimal() else text
        return hint(text)
    except (ValueError, KeyError):
        raise SettingError(f"{key}={text}", "has a value of another type", expected=_named(hint)) from None


def _named(hint: Any) -> str:
    if hint is bool:
        return "true or false"
    return "names separated by commas" if typing.get_origin(hint) is tuple else getattr(hint, "__name__", str(hint))


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names: {"optim.lr": 2e-4, ...}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def _unknown(key: str) -> ConfigError:
    known = list(leaves(to_dict(TrainConfig())))
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or [
        name for name in known if name.endswith("." + key.rsplit(".", 1)[-1])
    ]
    return SettingError(key, "no such setting", expected=" | ".join(near or known), remedy="correct the name")

"""Weights of mc3_18: random ones never change, its files are accepted, all others refused in one sentence."""

from __future__ import annotations

import hashlib
import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models import video

from pipeline.backbone import weights as weights_module
from pipeline.backbone.weights import load_weights, random_state, weights_digest
from pipeline.errors import DataError


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Of a whole network, classifier and all."""
    with torch.random.fork_rng():
        return video.mc3_18().state_dict()


@pytest.fixture(scope="module")
def weights_file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mc3.pth"
    torch.save(state, path)
    return path


def test_random_weights_follow_their_seed_and_disturb_nobody() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, same, other = (load_weights("random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert one.digest == same.digest != other.digest
    # frozen: a store made with random weights must be continued with the same ones on any machine
    assert one.digest == "1a61b8c15f829a09945a1cc6f74ca52d7bed8aa9109143f7f70a9832d51f4263"
    kernel = one.tensors["layer3.1.conv2.0.weight"]
    assert float(kernel.std()) == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)  # fan_out = 256 * 1 * 3 * 3
    assert float(kernel.mean()) == pytest.approx(0, abs=1e-3)


def test_digest_names_tensors_not_files(state: dict[str, Tensor], weights_file: Path, tmp_path: Path) -> None:
    trunk = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(dict(reversed(trunk.items())), tmp_path / "no_classifier.pth")
    one, two = load_weights(weights_file), load_weights(tmp_path / "no_classifier.pth")
    assert one.digest == two.digest
    assert one.source == two.source == "file"
    changed = {**one.tensors, "stem.1.bias": one.tensors["stem.1.bias"].clone()}
    changed["stem.1.bias"][63] += 1e-6
    assert weights_digest(changed) != one.digest


class Malicious:
    """Unpickling it unrestricted would run a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_refuses_other_networks_and_files(tmp_path: Path) -> None:
    def refused(content: object, pattern: str) -> None:
        path = tmp_path / "weights.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(DataError, match=pattern) as caught:
            load_weights(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    good = random_state(0)
    refused(video.r3d_18().state_dict(), r"layer2\.0\.conv1\.0\.weight differs \(got \(128, 64, 3, 3, 3\), expected")
    refused(video.r2plus1d_18().state_dict(), r"another network: stem\.0\.weight differs")
    refused({"conv1.weight": torch.zeros(64, 3, 7, 7)}, r"stem\.0\.weight is missing")
    refused({**good, "layer5.0.weight": torch.zeros(1)}, r"layer5\.0\.weight is unexpected")
    refused({"weights": good, "epoch": 3}, "is not a state dict")
    refused(torch.zeros(3), "is not a state dict")
    refused({**good, "stem.1.bias": torch.full((64,), torch.nan)}, r"stem\.1\.bias has invalid values")
    refused({**good, "stem.1.running_var": torch.full((64,), -1.0)}, r"stem\.1\.running_var has invalid values")
    refused(b"", "cannot be read as weights")
    refused(b"no weights at all", "cannot be read as weights")
    refused({"evil": Malicious(tmp_path / "touched")}, "cannot be read as weights")
    assert not (tmp_path / "touched").exists()
    with pytest.raises(DataError, match="no such weights"):
        load_weights(tmp_path / "absent.pth")
    with pytest.raises(DataError, match="no such weights"):
        load_weights(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans(), zipped=st.booleans())
def test_damaged_files_end_in_one_sentence(tmp_path: Path, place: float, bit: int, cut: bool, zipped: bool) -> None:
    path = tmp_path / "damaged.pth"
    small = {"stem.0.weight": torch.zeros(4, 4), "stem.1.bias": torch.ones(3)}
    torch.save(small, path, _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(DataError):
        load_weights(path)


def test_kinetics_weights_are_torchvisions_file_or_an_error(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(DataError, match=r"cannot be fetched .*no route to host.*set `weights` to a file"):
        load_weights("kinetics400")

    def other_file(url: str, target: str, hash_prefix: str | None, **_: object) -> None:
        assert url.endswith("/mc3_18-a90a0ba3.pth")
        assert hash_prefix == "a90a0ba3"
        Path(target).write_bytes(weights_file.read_bytes())

    monkeypatch.setattr("torch.hub.download_url_to_file", other_file)
    cached = tmp_path / "hub" / "checkpoints" / "mc3_18-a90a0ba3.pth"
    with pytest.raises(DataError, match="is not the published file"):
        load_weights("kinetics400")

    with cached.open("rb") as file:
        monkeypatch.setattr(weights_module, "KINETICS400_SHA256", hashlib.file_digest(file, "sha256").hexdigest())
    loaded = load_weights("kinetics400")
    assert loaded.source == "kinetics400"
    # the published file is that, wherever it lies: a store begun with the one goes on with the other
    assert load_weights(weights_file).identity() == loaded.identity()


def _lists(_: Tensor) -> list[object]:
    """A few bytes of a pickle that are 10^30 values to who walks through them."""
    value: list[object] = []
    for _ in range(30):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda value: value.to("meta"), "not numbers in memory of its own"),
        (lambda value: value.to_sparse(), "not numbers in memory of its own"),
        (lambda value: torch.zeros(1).expand(value.shape), "not numbers in memory of its own"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "cannot be read as weights"),
        (lambda value: value.to(torch.complex64), "holds no fractions .got torch.complex64"),
        (lambda value: value.long(), "holds no fractions .got torch.int64"),
        (lambda value: value / 0, "has invalid values"),
        (lambda value: value.reshape(-1)[:-1], "differs"),
        (_lists, "holds more values than a checkpoint does"),
        (lambda value: "x", "is not a state dict"),
    ],
)
def test_tensors_of_strangers_are_numbers_or_refused(
    tmp_path: Path, change: Callable[[Tensor], object], problem: str
) -> None:
    good = random_state(0)
    name = "layer1.0.conv1.1.weight"
    torch.save({**good, name: change(good[name])}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=problem) as caught:
        load_weights(tmp_path / "w.pth")
    assert str(caught.value).isprintable()


def test_names_and_records_of_strangers_are_names_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    for key in (1, None, ("a", "b")):
        torch.save({**random_state(0), key: torch.zeros(1)}, path)
        with pytest.raises(DataError, match="is not a state dict"):
            load_weights(path)
    torch.save({**random_state(0), "\x1b" * 10_000: torch.zeros(1)}, path)
    with pytest.raises(DataError, match="is unexpected") as caught:
        load_weights(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000
    torch.save(random_state(0), path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
        record = next(name for name in archive.namelist() if name.endswith("/data/0"))
        archive.writestr(record, bytes(len(archive.read(record))))
    with pytest.raises(DataError, match="two files of one name"):
        load_weights(path)


@pytest.mark.parametrize("form", ["state_dict", "model", "module", "all of it", "before 2020"])
def test_what_training_programs_wrap_around_weights_is_taken_off(
    state: dict[str, Tensor], weights_file: Path, tmp_path: Path, form: str
) -> None:
    spread = {f"module.{name}": value for name, value in state.items()}
    saved = {
        "state_dict": {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        "model": {"model": state, "best": 0.9},
        "module": spread,
        "all of it": {"model": {"state_dict": spread}},
        "before 2020": state,
    }[form]
    torch.save(saved, tmp_path / "wrapped.pth", _use_new_zipfile_serialization=form != "before 2020")
    assert load_weights(tmp_path / "wrapped.pth").identity() == load_weights(weights_file).identity()


def test_weights_that_hold_none_are_told(tmp_path: Path) -> None:
    for number, saved in enumerate(({"state_dict": 3}, {"model": {}}, {"module.x": torch.zeros(1)}, {}, [1])):
        torch.save(saved, tmp_path / f"{number}.pth")
        with pytest.raises(DataError, match=r"is not a state dict|weights of another network"):
            load_weights(tmp_path / f"{number}.pth")

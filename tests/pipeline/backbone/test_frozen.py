"""The frozen backbone against torchvision's own network.

The network's BatchNorms are given random statistics and scales: with torchvision's initial ones folding is the identity
and a mistake in it would not show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import video
from torchvision.transforms._presets import VideoClassification

from pipeline import torch_device
from pipeline.backbone.frozen import FrozenMC18, normalize
from pipeline.backbone.mc3_18 import LAYERS
from pipeline.config import CHANNELS, STRIDES
from pipeline.errors import ConfigError, DataError, StarError
from pipeline.torch_device import resolve_precision

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Clips as small as these are slower on several threads, by far on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> video.resnet.VideoResNet:
    """torchvision's mc3_18 in eval mode, BatchNorms as if trained."""
    generator = torch.Generator().manual_seed(5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = video.mc3_18()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def weights_file(network: video.resnet.VideoResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mc3.pth"
    torch.save(network.state_dict(), path)
    return path


@torch.no_grad()
def torchvision_features(network: video.resnet.VideoResNet, clips: Tensor) -> dict[str, Tensor]:
    x, features = network.stem(clips), {}
    for name in LAYERS:
        x = features[name] = getattr(network, name)(x)
    return features


def clips_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Root mean square of the difference in units of the layer's standard deviation; the worst value, of its range."""
    for name, maps in ((name, maps.cpu()) for name, maps in got.items()):
        assert maps.dtype == torch.float32
        assert maps.shape == expected[name].shape
        difference = maps - expected[name]
        assert difference.square().mean().sqrt() <= tolerance * expected[name].std(), name
        assert difference.abs().max() <= tolerance * (expected[name].max() - expected[name].min()), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(2, 3, 4, 32, 32), (1, 3, 3, 33, 47), (1, 3, 1, 16, 80)])
def test_features_equal_torchvision(
    network: video.resnet.VideoResNet, weights_file: Path, shape: tuple[int, ...], device: str
) -> None:
    clips = clips_of(*shape)
    kept = clips.clone()
    got = FrozenMC18(weights_file, layers=LAYERS, device=device)(clips)
    assert {maps.device.type for maps in got.values()} == {device}
    expected = torchvision_features(network, clips)
    assert_close(got, expected, 1e-5)
    assert torch.equal(clips, kept)
    for name, maps in got.items():
        grid = [math.ceil(side / STRIDES[name]) for side in shape[3:]]
        assert list(maps.shape) == [shape[0], CHANNELS[name], shape[2], *grid]


@pytest.mark.parametrize("device", DEVICES)
def test_features_of_a_whole_clip(network: video.resnet.VideoResNet, weights_file: Path, device: str) -> None:
    frames = torch.randint(0, 256, (1, 16, 112, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    clips = normalize(frames)
    got = FrozenMC18(weights_file, device=device)(normalize(frames.to(device)))
    assert {name: tuple(maps.shape) for name, maps in got.items()} == {
        "layer2": (1, 128, 16, 28, 28),
        "layer4": (1, 512, 16, 7, 7),
    }
    assert_close(got, torchvision_features(network, clips), 1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_features(network: video.resnet.VideoResNet, weights_file: Path, device: str) -> None:
    if not torch_device._bfloat16(torch.device(device))[1]:  # a device that cannot even emulate it refuses
        with pytest.raises(ConfigError, match="no bfloat16"):
            FrozenMC18(weights_file, layers=LAYERS, precision="bf16", device=device)
        return
    backbone = FrozenMC18(weights_file, layers=LAYERS, precision="bf16", device=device)
    clips = clips_of(1, 3, 4, 32, 32)
    got, expected = backbone(clips), torchvision_features(network, clips)
    assert_close(got, expected, 4e-2)
    assert not torch.allclose(got["layer4"].cpu(), expected["layer4"], rtol=1e-4, atol=1e-4), "this was float32"


def test_nothing_behind_the_deepest_layer_is_kept(weights_file: Path) -> None:
    backbone = FrozenMC18(weights_file, layers=("layer1",))
    assert set(backbone(clips_of(1, 3, 2, 16, 16))) == {"layer1"}
    assert set(backbone.trunk.stages) == {"stem", "layer1"}


@pytest.mark.parametrize("device", DEVICES)
def test_a_clips_features_do_not_depend_on_its_companions(device: str) -> None:
    clips = clips_of(5, 3, 4, 32, 32)
    backbone = FrozenMC18("random", device=device)
    together = {name: maps.cpu() for name, maps in backbone(clips).items()}
    for size in (1, 2, 3):
        assert_close(backbone(clips[:size]), {name: maps[:size] for name, maps in together.items()}, 5e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_deterministic_features_are_bit_equal(device: str) -> None:
    clips = clips_of(4, 3, 4, 32, 32)
    together = FrozenMC18("random", deterministic=True, device=device)(clips)
    again = FrozenMC18("random", deterministic=True, device=device)
    for order in ([0], [3, 1], [2, 0, 3, 1]):
        for name, maps in again(clips[order]).items():
            assert torch.equal(maps, together[name][order])


def test_normalize_is_torchvisions_preset() -> None:
    frames = torch.arange(256, dtype=torch.uint8).repeat(2 * 2 * 3 * 112).view(2, 2, -1, 3)[:, :, : 112 * 112]
    frames = frames.reshape(2, 2, 112, 112, 3)
    preset = VideoClassification(crop_size=(112, 112), resize_size=(112, 112))
    expected = preset(frames.permute(0, 1, 4, 2, 3))
    torch.testing.assert_close(normalize(frames), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="RGB"):
        normalize(frames.float())


def test_random_features_are_alive() -> None:
    for maps in FrozenMC18("random", layers=LAYERS)(clips_of(2, 3, 4, 48, 48)).values():
        assert maps.isfinite().all()
        assert (maps.amax((0, 2, 3, 4)) > 0).float().mean() > 0.95  # channels that say anything about so small a clip
        assert maps.max() < 100


def test_precision_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, auto, explicit in [((True, True), "bf16", "bf16"), ((False, True), "fp32", "bf16")]:
        monkeypatch.setattr(torch_device, "_bfloat16", lambda device, able=able: able)
        assert (resolve_precision("auto"), resolve_precision("bf16"), resolve_precision("fp32")) == (
            auto,
            explicit,
            "fp32",
        )
    monkeypatch.setattr(torch_device, "_bfloat16", lambda device: (False, False))
    assert resolve_precision("auto") == "fp32"
    with pytest.raises(ConfigError, match="no bfloat16"):
        FrozenMC18("random", precision="bf16")
    with pytest.raises(ConfigError, match="fp32, bf16 or auto"):
        resolve_precision("fp16")


def test_refuses_unknown_layers_and_clips() -> None:
    wrong: list[dict[str, object]] = [{"layers": ("layer5",)}, {"layers": ()}]
    for options in wrong:
        with pytest.raises(StarError):
            FrozenMC18("random", **options)  # type: ignore[arg-type]
    backbone = FrozenMC18("random", layers=("layer1",))
    for clips in (torch.zeros(1, 16, 3, 8, 8), torch.zeros(3, 4, 8, 8), torch.zeros(1, 3, 4, 8, 8, dtype=torch.uint8)):
        with pytest.raises(DataError, match="wrong shape"):
            backbone(clips)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might be"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    ],
)
def test_what_a_gpu_refuses_is_one_sentence(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    sentence = rf"device: {{}} failed .*{str(error).splitlines()[0][:20]}.*; see with `nvidia-smi` .* another `device`"
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "to", refused)  # the trunk on its way to the device
        with pytest.raises(ConfigError, match=sentence.format("cpu")) as caught:
            FrozenMC18("random")
        assert "\n" not in str(caught.value)
    monkeypatch.setattr("torch.cuda.device", refused)  # its context is made where its precision is asked for
    with pytest.raises(ConfigError, match=sentence.format("cuda:1")):
        resolve_precision("auto", "cuda:1")

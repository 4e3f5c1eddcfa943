"""GG and JM tokens against loop oracles, and the whole way from frames and joints to tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tokens as oracles
from torch import Tensor
from torch.nn.functional import avg_pool3d

from pipeline.backbone.frozen import FrozenMC18, normalize
from pipeline.backbone.transfer import HostCopy
from pipeline.errors import ConfigError, DataError
from pipeline.extract.token_computer import TokenComputer, Tokens, inside
from pipeline.heatmaps import to_cells
from pipeline.tokens import global_grid_tokens, joint_map_tokens
from pipeline.views import View, crop_frames, crop_joints, crop_visible

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
PAIRS = ((0, 1), (2, 4))  # of five joints


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Clips as small as these are slower on several threads, by far on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Averages:
    """In place of the backbone: means over the cells of each layer's grid, which commute with mirroring exactly."""

    layers, device, deterministic = ("layer2", "layer4"), torch.device("cpu"), False

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, clips: Tensor) -> dict[str, Tensor]:
        return {name: self.gain * avg_pool3d(clips, (1, s, s)) for name, s in (("layer2", 4), ("layer4", 16))}


def batch_of(seed: int, clips: int = 2, persons: int = 2, side: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (B, 3, side, side, 3), joints (B, M, 3, 5, 2) in and around the picture or NaN, visible (B, M, 3, 5)."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-6, side + 5, (clips, persons, 3, 5, 2)).astype(np.float32)
    joints[rng.random(joints.shape) < 0.1] = np.nan
    frames = rng.integers(0, 256, (clips, 3, side, side, 3), dtype=np.uint8)
    return frames, joints, rng.random(joints.shape[:-1]) < 0.8


def expected_tokens(
    maps: dict[str, Tensor], joints: np.ndarray, visible: np.ndarray, side: int, sigma: float, normalized: bool
) -> Tokens:
    """From the feature maps on by loops alone."""
    mask = np.zeros((len(joints), *joints.shape[2:4]), bool)
    drawn = np.zeros_like(visible)
    for b, m, t, v in np.ndindex(*visible.shape):
        x, y = joints[b, m, t, v]
        drawn[b, m, t, v] = visible[b, m, t, v] and -0.5 <= x < side - 0.5 and -0.5 <= y < side - 0.5
        mask[b, t, v] |= drawn[b, m, t, v]
    cells = (joints.astype(np.float64) + 0.5) / 4 - 0.5
    size = maps["layer2"].shape[3:]
    heat = np.stack([oracles.heatmaps(cells[b], drawn[b], size, sigma) for b in range(len(joints))])
    gg = oracles.global_grid(maps["layer4"].numpy())
    return Tokens(gg, oracles.joint_map(maps["layer2"].numpy(), heat, normalize=normalized), mask)


def assert_tokens_close(got: Tokens, expected: Tokens, tolerance: float = 1e-3) -> None:
    """Float16 keeps 11 bits."""
    assert got.gg.dtype == got.jm.dtype == np.float16
    np.testing.assert_allclose(got.gg, expected.gg, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(got.jm, expected.jm, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(got.joint_mask, expected.joint_mask)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(*(st.integers(1, 4) for _ in range(5))),
    count=st.integers(1, 4),
    normalized=st.booleans(),
)
def test_tokens_equal_the_oracles(seed: int, sizes: tuple[int, ...], count: int, normalized: bool) -> None:
    batch, _, frames, height, columns = sizes
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(sizes, generator=generator)
    heatmaps = torch.rand(batch, frames, count, height, columns, generator=generator)
    heatmaps[torch.rand(batch, frames, count, generator=generator) < 0.3] = 0
    kept = features.clone(), heatmaps.clone()
    expected = oracles.joint_map(features.numpy(), heatmaps.numpy(), normalize=normalized)
    jm = joint_map_tokens(features, heatmaps, normalize=normalized)
    np.testing.assert_allclose(jm, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(global_grid_tokens(features), oracles.global_grid(features.numpy()))
    channels_last = features.contiguous(memory_format=torch.channels_last_3d)
    np.testing.assert_array_equal(global_grid_tokens(channels_last), global_grid_tokens(features))
    assert torch.equal(features, kept[0])
    assert torch.equal(heatmaps, kept[1])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    persons=st.integers(0, 2),
    sigma=st.floats(0.4, 3),
    normalized=st.booleans(),
)
def test_computer_equals_the_oracle(seed: int, persons: int, sigma: float, normalized: bool) -> None:
    frames, joints, visible = batch_of(seed, persons=persons)
    got = TokenComputer(Averages(), sigma=sigma, normalize=normalized)(frames, joints, visible)
    maps = Averages()(normalize(torch.from_numpy(frames)))
    assert_tokens_close(got, expected_tokens(maps, joints, visible, 32, sigma, normalized))
    assert not got.jm[~got.joint_mask].any()


@pytest.mark.parametrize("device", DEVICES)
def test_computer_with_the_real_backbone(device: str) -> None:
    backbone = FrozenMC18("random", layers=("layer1", "layer2", "layer4"), device=device)
    frames, joints, visible = batch_of(1)
    got = TokenComputer(backbone)(frames, joints, visible)
    assert (got.gg.shape, got.jm.shape, got.joint_mask.shape) == ((2, 3, 4, 512), (2, 3, 5, 128), (2, 3, 5))
    maps = {name: values.cpu() for name, values in backbone(normalize(torch.from_numpy(frames).to(device))).items()}
    assert_tokens_close(got, expected_tokens(maps, joints, visible, 32, 1.0, False), 2e-3)
    assert TokenComputer(backbone, jm_layer="layer1")(frames, joints, visible).jm.shape == (2, 3, 5, 64)


@pytest.mark.parametrize("device", DEVICES)
def test_batches_begun_before_another_is_waited_for_keep_to_themselves(device: str) -> None:
    batches = [batch_of(seed, side=32) for seed in range(3)]
    exact = [TokenComputer(FrozenMC18("random"))(*batch) for batch in batches]
    begun = [TokenComputer(FrozenMC18("random", device=device)).begin(*batch) for batch in batches]
    for tokens, expected in reversed(list(zip(begun, exact, strict=True))):
        assert_tokens_close(tokens.wait(), expected)


def test_a_clip_without_bodies_has_picture_tokens_only() -> None:
    frames, joints, visible = batch_of(2)
    joints[0], visible[1] = np.nan, False
    tokens = TokenComputer(Averages())(frames, joints, visible)
    assert not tokens.jm.any()
    assert not tokens.joint_mask.any()
    assert tokens.gg.any(axis=(1, 2, 3)).all()


def test_joints_on_the_border_count_and_outside_do_not() -> None:
    places = torch.tensor([[-0.5, 0], [-0.51, 0], [31.49, 15.49], [31.5, 0], [0, 15.5], [torch.nan, 3], [torch.inf, 3]])
    assert inside(places, (16, 32)).tolist() == [True, False, True, False, False, False, False]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (5, 16), (2, 7)])
def test_heatmap_tokens_find_the_painted_joint(flip: bool, top: int, left: int) -> None:
    """One white pixel at a joint, on black: of all tokens, its own (or, mirrored, its partner's) is the brightest."""
    frames = np.zeros((3, 37, 48, 3), np.uint8)
    joints = np.array([[9, 8], [40, 30], [20, 16], [30, 9], [12, 28]], np.float32)[None, None].repeat(3, axis=1)
    view = View(0, top, left, flip)
    order = [1, 0, 4, 3, 2] if flip else [0, 1, 2, 3, 4]
    computer = TokenComputer(Averages(), sigma=0.6)
    moved = crop_joints(joints, view, PAIRS, crop=32)
    seen = crop_visible(np.ones((1, 3, 5), bool), view, PAIRS)
    checked = 0
    for v in range(5):
        picture = frames.copy()
        x, y = joints[0, 0, v].astype(int)
        picture[:, y, x] = 255
        tokens = computer(crop_frames(picture, view, crop=32)[None], moved[None], seen[None])
        place = order.index(v)
        if not tokens.joint_mask[0, 0, place]:
            continue
        checked += 1
        # against the same picture in black, so that a heatmap cut by the border does not count as darkness
        gain = (tokens.jm - computer(np.zeros((1, 3, 32, 32, 3), np.uint8), moved[None], seen[None]).jm)[0].sum(-1)
        assert (gain.argmax(-1) == place).all()
    assert checked >= 3


def mirrored(frames: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clip seen in a mirror: what is left is right, in pixels and in names."""
    other = [1, 0, 4, 3, 2]
    turned = joints[..., other, :].copy()
    turned[..., 0] = frames.shape[3] - 1 - turned[..., 0]
    return np.ascontiguousarray(frames[:, :, :, ::-1]), turned, visible[..., other]


def test_flipping_gives_the_tokens_of_the_mirrored_clip() -> None:
    frames, joints, visible = batch_of(7)
    # on the last pixel's outer edge "inside" is half open, which no mirror respects
    assert not np.isin(joints, (-0.5, 31.5)).any()
    view = View(0, 0, 0, True)
    flipped = (
        crop_frames(frames, view, crop=32),
        crop_joints(joints, view, PAIRS, crop=32),
        crop_visible(visible, view, PAIRS),
    )
    backbone = FrozenMC18("random", deterministic=True)
    for got, expected in zip(
        TokenComputer(backbone)(*flipped), TokenComputer(backbone)(*mirrored(frames, joints, visible)), strict=True
    ):
        np.testing.assert_array_equal(got, expected)

    plain = TokenComputer(Averages())(frames, joints, visible)
    turned = TokenComputer(Averages())(*flipped)
    other = [1, 0, 4, 3, 2]
    np.testing.assert_array_equal(turned.joint_mask, plain.joint_mask[..., other])
    np.testing.assert_allclose(turned.jm, plain.jm[:, :, other], rtol=2e-3, atol=2e-3)
    grid = plain.gg.reshape(2, 3, 2, 2, 3)[:, :, :, ::-1]
    np.testing.assert_allclose(turned.gg, grid.reshape(plain.gg.shape), rtol=1e-3, atol=1e-3)
    assert np.abs(turned.jm.astype(float) - plain.jm).max() > 0.1, "the clip was its own mirror image"


@pytest.mark.parametrize("device", DEVICES)
def test_deterministic_tokens_are_bit_equal_in_any_company(device: str) -> None:
    frames, joints, visible = batch_of(9, clips=4)
    together = TokenComputer(FrozenMC18("random", deterministic=True, device=device))(frames, joints, visible)
    again = TokenComputer(FrozenMC18("random", deterministic=True, device=device))
    for order in ([2], [3, 0], [1, 3, 2]):
        for got, expected in zip(again(frames[order], joints[order], visible[order]), together, strict=True):
            np.testing.assert_array_equal(got, expected[order])


def test_values_beyond_float16_are_an_error_that_names_the_clip() -> None:
    frames, joints, visible = batch_of(4, clips=3)
    frames[:2] = 110  # nearly the mean colour: small values after normalising
    with pytest.raises(DataError, match=r"clip 2 of the batch: GG tokens do not fit into float16.*65504"):
        TokenComputer(Averages(gain=2e5))(frames, joints, visible)


def test_too_large_a_batch_for_a_device_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = TokenComputer(Averages())

    def full(clips: Tensor) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Averages, "__call__", lambda self, clips: full(clips))
    with pytest.raises(ConfigError, match=r"batch_clips: 3 clips at once .* cpu; use a smaller `batch_clips`"):
        computer(*batch_of(4, clips=3))
    with pytest.raises(ConfigError, match=r"1 clips at once do not fit .* cpu; use a GPU with more free memory"):
        computer(*batch_of(4, clips=1))


def test_a_gpu_that_fails_while_it_is_waited_for_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(copy: HostCopy) -> tuple[np.ndarray, ...]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(HostCopy, "wait", failed)
    tokens = TokenComputer(Averages()).begin(*batch_of(4))
    with pytest.raises(ConfigError, match=r"device: cpu .*illegal memory access.*`nvidia-smi`.*`batch_clips`"):
        tokens.wait()


def test_normalised_tokens_do_not_depend_on_the_border() -> None:
    features = torch.full((1, 4, 1, 8, 8), 3.0)
    cells = to_cells(torch.tensor([[[[[0.0, 0.0], [15.5, 15.5]]]]]), 4)  # a corner and the middle
    heat = torch.exp(-0.5 * torch.stack([(cells[0, 0, 0, v] - g).square().sum(-1) for v in (0, 1) for g in [grid()]]))
    heat = heat.view(1, 1, 2, 8, 8)
    torch.testing.assert_close(joint_map_tokens(features, heat, normalize=True), torch.full((1, 1, 2, 4), 3.0))
    plain = joint_map_tokens(features, heat)
    assert plain[0, 0, 0, 0] < 0.6 * plain[0, 0, 1, 0]


def grid() -> Tensor:
    """(8, 8, 2): x and y of each cell."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return torch.stack([x, y], dim=-1)


def test_refuses_what_does_not_fit() -> None:
    features = torch.zeros(2, 4, 3, 5, 5)
    for shape in ((2, 3, 6, 5, 4), (2, 2, 6, 5, 5), (1, 3, 6, 5, 5), (2, 3, 5, 5)):
        with pytest.raises(DataError, match="shapes that do not match"):
            joint_map_tokens(features, torch.zeros(shape))
    with pytest.raises(ConfigError, match="layer3"):
        TokenComputer(Averages(), jm_layer="layer3")

"""The three attentions against float64 loops, and what they must not do: mix groups, or build a T²S² matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import attention as oracle
from torch import Tensor

from pipeline.errors import ConfigError
from star.attention import ATTENTION, attended_frames, attention_weights
from star.config.options import MODULES


def test_every_setting_has_an_attention() -> None:
    assert tuple(ATTENTION) == MODULES


def qkv(batch: int, heads: int, frames: int, spatial: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, heads, frames, spatial, d)
    q, k, v = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(3))
    return q, k, v


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("uniform", [False, True])
@settings(max_examples=4, deadline=None)
@given(frames=st.integers(2, 5), spatial=st.integers(1, 4), heads=st.integers(1, 2), seed=st.integers(0, 99))
def test_equals_the_loop_oracle(kind: str, uniform: bool, frames: int, spatial: int, heads: int, seed: int) -> None:
    q, k, v = qkv(2, heads, frames, spatial, 3, seed)
    ours = ATTENTION[kind](q, k, v, uniform=uniform).numpy()
    slow = oracle.attention(q.numpy(), k.numpy(), v.numpy(), kind, uniform)
    assert ours.shape == slow.shape
    assert np.abs(ours - slow).max() < 1e-10


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("frames", [2, 3, 6, 7])
@pytest.mark.parametrize("uniform", [False, True])
def test_weights_on_request_are_those_applied(kind: str, frames: int, uniform: bool) -> None:
    q, k, v = qkv(2, 2, frames, 3, 4)
    weights = attention_weights(q, k, kind=kind, uniform=uniform)
    assert torch.allclose(weights.sum((-1, -2)), torch.ones((), dtype=torch.float64))
    applied = torch.einsum("bhtsur,bhurd->bhtsd", weights, v)
    assert torch.allclose(applied, ATTENTION[kind](q, k, v, uniform=uniform), atol=1e-12)
    slow = oracle.weights_of(q[1, 1].numpy(), k[1, 1].numpy(), kind, uniform)
    assert np.abs(weights[1, 1].numpy() - slow).max() < 1e-12


@pytest.mark.parametrize("kind", ["zigzag", "binary"])
def test_a_frame_attends_to_the_other_group_only(kind: str) -> None:
    q, k, v = qkv(1, 1, 7, 2, 3)
    before = ATTENTION[kind](q, k, v)
    for changed in range(7):
        other = v.clone()
        other[:, :, changed] += 1
        moved = (ATTENTION[kind](q, k, other) - before).abs().amax(dim=(0, 1, 3, 4)) > 0
        assert moved.tolist() == attended_frames(kind, 7)[:, changed].tolist()


def test_odd_frames_are_grouped_as_documented() -> None:
    assert attended_frames("zigzag", 5)[0].tolist() == [False, True, False, True, False]
    assert attended_frames("zigzag", 5)[1].tolist() == [True, False, True, False, True]
    assert attended_frames("binary", 5)[2].tolist() == [False, False, False, True, True]
    assert attended_frames("binary", 5)[3].tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("kind", ["zigzag", "binary"])
def test_one_frame_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="2 or more"):
        ATTENTION[kind](*qkv(1, 1, 1, 2, 3))


@pytest.mark.parametrize("kind", MODULES)
def test_gradients_flow_and_inputs_stay(kind: str) -> None:
    q, k, v = qkv(1, 2, 4, 3, 2)
    kept = [tensor.clone() for tensor in (q, k, v)]
    for tensor in (q, k, v):
        tensor.requires_grad_(True)
    assert torch.autograd.gradcheck(ATTENTION[kind], (q, k, v), atol=1e-6)
    assert all(torch.equal(tensor, before) for tensor, before in zip((q, k, v), kept, strict=True))


@pytest.mark.parametrize("kind", MODULES)
def test_no_matrix_of_all_pairs_is_built(kind: str) -> None:
    frames, spatial = 16, 96
    tokens = frames * spatial
    q, k, v = (tensor.float().requires_grad_(True) for tensor in qkv(1, 1, frames, spatial, 8))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        ATTENTION[kind](q, k, v).sum().backward()  # as training does
    largest = max(event.cpu_memory_usage for event in profiler.events())
    assert largest < 4 * tokens * tokens / 4  # a quarter of one float32 matrix of all pairs

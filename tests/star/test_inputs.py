"""The way of a token into a model: whitened channels are uncorrelated, places have projections of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from star_stores import write_small_store
from torch import nn

from pipeline.store.token_store import TokenStore
from star.config.options import ModelConfig
from star.data.dataset import TokenDataset
from star.data.statistics import place_statistics
from star.inputs import MIN_VARIANCE, PlaceLinear, Whiten, projection
from star.model import MultiClassTokens


def test_whitened_tokens_are_uncorrelated_about_the_means_of_their_places(tmp_path: Path) -> None:
    store = TokenStore.open(write_small_store(tmp_path / "small.zarr"))
    dataset = TokenDataset(store, split="train", tokens="both", views=0)
    batch = dataset.read(range(len(dataset)))
    found = place_statistics(dataset)
    for kind, tokens in (("gg", batch.gg.double()), ("jm", batch.jm.double())):
        present = batch.joint_mask if kind == "jm" else torch.ones(tokens.shape[:3], dtype=torch.bool)
        means, covariance = found[kind]
        expected = torch.stack(
            [
                torch.stack([tokens[:, t, s][present[:, t, s]].mean(dim=0) for s in range(tokens.shape[2])])
                for t in range(tokens.shape[1])
            ]
        )
        assert torch.allclose(means, expected, atol=1e-4)
        residuals = (tokens - expected)[present]
        assert torch.allclose(covariance, residuals.T @ residuals / len(residuals), atol=1e-4)
        white = Whiten(*means.shape).double()
        white.set(means, covariance)
        spread = torch.cov(white(tokens)[present].T, correction=0)
        assert torch.allclose(spread, torch.diag(spread.diagonal()), atol=1e-3)
        assert (spread.diagonal() < 1 + 1e-6).all()
        variances = torch.linalg.eigvalsh(covariance)
        floor = MIN_VARIANCE * variances.mean()
        assert torch.allclose(spread.diagonal().sort().values, variances / (variances + floor), atol=1e-3)


def test_a_joint_that_is_never_there_has_mean_zero_and_does_not_count(tmp_path: Path) -> None:
    dataset = TokenDataset(TokenStore.open(write_small_store(tmp_path / "small.zarr")), tokens="jm", views=0)
    read = dataset.read

    def without(items: object, *, pin: bool = False) -> object:
        batch = read(items, pin=pin)  # type: ignore[arg-type]
        batch.joint_mask[:, :, 1] = False
        batch.jm[:, :, 1] = 1000.0
        return batch

    dataset.read = without  # type: ignore[assignment,method-assign]
    means, covariance = place_statistics(dataset)["jm"]
    assert (means[:, 1] == 0).all()
    assert covariance.abs().max() < 1000


def test_tokens_without_any_variance_are_centred() -> None:
    white = Whiten(2, 3, 4)
    white.set(torch.full((2, 3, 4), 5.0), torch.zeros(4, 4))
    assert torch.equal(white(torch.full((1, 2, 3, 4), 7.0)), torch.full((1, 2, 3, 4), 2.0))


@pytest.mark.parametrize("kind", ["joint", "place"])
def test_a_place_has_its_own_projection(kind: str) -> None:
    torch.manual_seed(0)
    own = projection(kind, 3, 5, 4, 6)
    assert isinstance(own, PlaceLinear)
    tokens = torch.randn(2, 3, 5, 4)
    found = own(tokens)
    for t in range(3):
        for s in range(5):
            weight = own.weight[t, s] if kind == "place" else own.weight[s]
            assert torch.allclose(found[:, t, s], tokens[:, t, s] @ weight + own.bias, atol=1e-6)


def test_shared_is_a_linear_layer_and_the_model_takes_each_kind() -> None:
    assert isinstance(projection("shared", 3, 5, 4, 6), nn.Linear)
    config = ModelConfig(
        frames=3, cells=4, joints=5, gg_channels=6, jm_channels=7, width=8, heads=2, jm_projection="place",
        gg_projection="cell",
    )  # fmt: skip
    tokens = MultiClassTokens(config)
    assert tokens.jm_project.weight.shape == (3, 5, 7, 8)
    assert tokens.gg_project.weight.shape == (4, 6, 8)

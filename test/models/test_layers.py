from __future__ import annotations

import numpy as np
import pytest
import torch

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.layers import LayerWeighting, Standardize


def write_stats(path, vectors):
    np.savez(path, count=len(vectors), sum=vectors.sum(0), sum_square=(vectors**2).sum(0))
    return path


@pytest.fixture
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(loc=50, scale=[[1, 2, 3, 0.1, 5, 6]], size=(40, 6))


def test_standardize_is_numpys(tmp_path, vectors):
    layer = Standardize((2, 3), write_stats(tmp_path / "stats.npz", vectors))
    result = layer(torch.from_numpy(vectors).float().view(40, 2, 3)).numpy()
    expected = ((vectors - vectors.mean(0)) / vectors.std(0)).reshape(40, 2, 3)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e-3, 123456.789])
def test_a_constant_dimension_becomes_zero(tmp_path, vectors, constant):
    vectors[:, 4] = constant
    layer = Standardize((1, 6), write_stats(tmp_path / "stats.npz", vectors))
    result = layer(torch.from_numpy(vectors).float()[:, None])
    assert result.isfinite().all()
    assert result[..., 4].abs().max() < 0.02
    assert result[..., 0].std() == pytest.approx(1, abs=0.05)


def test_statistics_travel_in_the_state_dict(tmp_path, vectors):
    layer = Standardize((2, 3), write_stats(tmp_path / "stats.npz", vectors))
    bare = Standardize((2, 3))
    features = torch.randn(4, 2, 3)
    torch.testing.assert_close(bare(features), features)
    bare.load_state_dict(layer.state_dict())
    assert torch.equal(bare(features), layer(features))
    assert list(layer.parameters()) == []


def test_standardize_errors(tmp_path, vectors):
    missing = tmp_path / "nowhere.npz"
    with pytest.raises(UserError, match=f"stats_file {missing}: no such file"):
        Standardize((2, 3), missing)
    stats = write_stats(tmp_path / "stats.npz", vectors)
    with pytest.raises(UserError, match=r"statistics of size 6, but the features are \(2, 4\)"):
        Standardize((2, 4), stats)


def test_weights_start_equal_and_sum_to_one():
    layers = LayerWeighting(4)
    torch.testing.assert_close(layers.weights(), torch.full((4,), 0.25))
    pooled = torch.randn(3, 4, 5)
    torch.testing.assert_close(layers(pooled), pooled.mean(1))


def test_weighted_sum_is_numpys():
    layers = LayerWeighting(3)
    with torch.no_grad():
        layers.weight.copy_(torch.tensor([0.0, 1.0, -2.0]))
    pooled = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    w = np.exp([0.0, 1.0, -2.0]) / np.exp([0.0, 1.0, -2.0]).sum()
    expected = sum(w[i] * pooled[:, i] for i in range(3))
    result = layers(torch.from_numpy(pooled)).detach().numpy()
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [([0, 2], [0, 2]), ([-1], [3]), ([-1, 0, 3], [0, 3]), (None, [0, 1, 2, 3])],
)
def test_selection_of_layers(layers, chosen):
    weighting = LayerWeighting(4, layers)
    assert weighting.chosen == chosen
    pooled = torch.randn(2, 4, 5)
    torch.testing.assert_close(weighting(pooled), pooled[:, chosen].mean(1))


@pytest.mark.parametrize("weighting", [LayerWeighting(1), LayerWeighting(5, [-2])])
def test_a_single_layer_has_nothing_to_learn(weighting):
    assert list(weighting.parameters()) == []
    assert weighting.weights().tolist() == [1.0]


@pytest.mark.parametrize("layers", [[4], [-5], [0, 9], []])
def test_a_layer_that_is_not_there(layers):
    with pytest.raises(UserError, match="the upstream has layers 0 to 3"):
        LayerWeighting(4, layers)


def test_the_layers_learn():
    weighting = LayerWeighting(3)
    weighting(torch.randn(2, 3, 4)).sum().backward()
    assert weighting.weight.grad.abs().sum() > 0

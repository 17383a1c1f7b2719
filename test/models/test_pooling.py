from __future__ import annotations

import numpy as np
import pytest
import torch

from espnet_mtkd.models.pooling import MeanPooling, StatsPooling

LENGTHS = torch.tensor([7, 1, 4])
POOLINGS = [MeanPooling(), StatsPooling()]


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)) + 2


def test_mean_is_numpys_over_the_valid_frames(frames):
    pooled = MeanPooling()(frames, LENGTHS)
    for row, sequence, length in zip(pooled, frames.numpy(), LENGTHS, strict=True):
        np.testing.assert_allclose(row, sequence[:length].mean(0), rtol=1e-5)


def test_deviation_is_numpys_of_the_population(frames):
    pooled = StatsPooling()(frames, LENGTHS)
    for row, sequence, length in zip(pooled, frames.numpy(), LENGTHS, strict=True):
        np.testing.assert_allclose(row[:5], sequence[:length].mean(0), rtol=1e-5)
        np.testing.assert_allclose(row[5:], sequence[:length].std(0), rtol=1e-5, atol=1.1e-5)


def test_a_single_frame_has_no_deviation(frames):
    pooled = StatsPooling()(frames[:, :1], torch.ones(3, dtype=torch.long))
    torch.testing.assert_close(pooled[:, :5], frames[:, 0])
    torch.testing.assert_close(pooled[:, 5:], torch.zeros(3, 5), atol=1.1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("garbage", [1e6, float("inf"), float("nan")])
def test_padding_has_no_influence(pooling, frames, garbage):
    padded = torch.cat([frames, torch.full((3, 9, 5), garbage)], dim=1)
    padded[1, 1:] = garbage
    torch.testing.assert_close(pooling(padded, LENGTHS), pooling(frames, LENGTHS))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_size_is_what_is_promised(pooling, frames):
    assert pooling(frames, LENGTHS).shape == (3, pooling.output_size(5))


def test_gradient_of_a_constant_input_is_finite():
    frames = torch.ones(2, 6, 3, requires_grad=True)
    StatsPooling()(frames, torch.tensor([6, 2])).sum().backward()
    assert frames.grad.isfinite().all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_gradient_reaches_the_padding(pooling, frames):
    frames.requires_grad_()
    pooling(frames, LENGTHS).pow(2).sum().backward()
    assert (frames.grad[1, 1:] == 0).all() and (frames.grad[2, 4:] == 0).all()
    assert (frames.grad[0] != 0).any()


def test_deviation_does_not_drown_in_a_large_mean():
    frames = torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None] + 4096
    pooled = StatsPooling()(frames, torch.tensor([4]))
    torch.testing.assert_close(pooled, torch.tensor([[4096.5, 0.5]]))

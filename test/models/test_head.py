from __future__ import annotations

import pytest
import torch

from espnet_mtkd.models.head import LinearHead, MLPHead


@pytest.mark.parametrize("projector_size", [256, 8, 0])
def test_linear_head_is_linear(projector_size):
    head = LinearHead(6, 4, projector_size).eval()
    a, b = torch.randn(2, 3, 6)
    torch.testing.assert_close(head(a) + head(b), head(a + b) + head(torch.zeros(3, 6)))


def test_linear_head_without_projection_is_one_layer():
    shapes = [tuple(p.shape) for p in LinearHead(6, 4, projector_size=0).parameters()]
    assert shapes == [(4, 6), (4,)]
    assert [p.numel() for p in LinearHead(6, 4).parameters()] == [6 * 256, 256, 256 * 4, 4]


def test_mlp_head_is_not_linear():
    torch.manual_seed(0)
    head = MLPHead(6, 4, hidden_size=8).eval()
    a, b = torch.randn(2, 3, 6)
    assert head(a).shape == (3, 4)
    assert (head(a) + head(b) - head(a + b) - head(torch.zeros(3, 6))).abs().max() > 1e-3


@pytest.mark.parametrize("head", [LinearHead(6, 4, dropout=0.5), MLPHead(6, 4, dropout=0.5)])
def test_dropout_is_for_training_only(head):
    x = torch.randn(3, 6)
    assert not torch.equal(head.train()(x), head(x))
    assert torch.equal(head.eval()(x), head(x))

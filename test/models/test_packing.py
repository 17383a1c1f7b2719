"""Packed linear layers compute what ordinary ones do."""

from __future__ import annotations

import os
import platform

import pytest
import torch

from espnet_mtkd.models.packing import HalfConv1d, PackedLinear, limit_caches, pack

HERE = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")


@pytest.mark.parametrize("shape", [(1, 7), (130, 7), (2, 3, 7), (3, 0, 7)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_the_result_is_the_same(shape, bias):
    torch.manual_seed(0)
    layer, data = torch.nn.Linear(7, 5, bias=bias), torch.randn(*shape)
    expected, weight = layer(data), layer.weight.clone()
    pack(layer)
    torch.testing.assert_close(layer(data), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(layer.weight, weight)
    assert isinstance(layer, PackedLinear) == HERE


@pytest.mark.skipif(not HERE, reason="packing is for oneDNN on x86")
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_half_is_right_to_three_digits(bias):
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 32, bias=bias)
    convolution = torch.nn.Conv1d(64, 32, 3, stride=2, padding=1, groups=2, bias=bias)
    for layer, data in ((linear, torch.randn(2, 9, 64)), (convolution, torch.randn(2, 64, 9))):
        expected, weight = layer(data), layer.weight.clone()
        pack(layer, 16)
        found = layer(data)
        assert found.dtype == torch.float32
        assert 0 < (found - expected).abs().max() < 0.01 * expected.abs().max()
        assert torch.equal(layer.weight, weight)
    assert isinstance(linear, PackedLinear) and isinstance(convolution, HalfConv1d)


@pytest.mark.parametrize("bits", [32, 16])
@torch.inference_mode()
def test_a_weight_that_is_made_at_every_call_stays(bits):
    layer = torch.nn.utils.weight_norm(torch.nn.Conv1d(4, 4, 3))
    pack(layer, bits)
    layer.weight_g.mul_(2)
    data = torch.randn(1, 4, 9)
    expected = torch.nn.functional.conv1d(data, 2 * layer.weight, layer.bias)
    torch.testing.assert_close(layer(data), expected)


def test_packing_twice_and_other_types():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2).double())
    names = list(model.state_dict())
    pack(model.requires_grad_(False))
    pack(model)
    assert list(model.state_dict()) == names
    assert model[1](torch.ones(1, 3).double()).dtype == torch.float64
    assert model.double()(torch.ones(1, 3).double()).dtype == torch.float64


def test_caches_are_limited_unless_the_user_said_how(monkeypatch):
    names = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    monkeypatch.setenv(names[0], "9")
    monkeypatch.setenv(names[1], "1")  # so that it is put back
    monkeypatch.delenv(names[1])
    limit_caches()
    assert [os.environ[name] for name in names] == ["9", "64"]

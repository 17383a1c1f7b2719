"""The loss of hints, against its definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from espnet_mtkd.distill.hints import HintLoss

LENGTHS, HINTS = (9, 5, 1), (7, 6, 1)  # what one side has more is left out


@pytest.fixture
def frames() -> tuple[torch.Tensor, ...]:
    """Frames of an encoder and of an upstream, and their lengths."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 12, 4, generator=generator)
    hint = 5 + 2 * torch.randn(3, 10, 6, generator=generator)
    return states, torch.tensor(LENGTHS), hint, torch.tensor(HINTS)


def make() -> HintLoss:
    torch.manual_seed(1)
    return HintLoss(4, 6)


def test_the_loss_is_its_definition(frames):
    loss, (states, lengths, hint, hints) = make(), frames
    weight, bias = (p.detach().numpy() for p in loss.projector.parameters())
    count = [min(pair) for pair in zip(LENGTHS, HINTS, strict=True)]
    guess = np.concatenate([states[i, :n].numpy() @ weight.T + bias for i, n in enumerate(count)])
    wanted = np.concatenate([hint[i, :n].numpy() for i, n in enumerate(count)])
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    wanted = (wanted - wanted.mean(1, keepdims=True)) / wanted.std(1, keepdims=True)
    expected = ((guess - wanted) ** 2).mean()
    assert loss(states, lengths, hint, hints).item() == pytest.approx(expected, rel=1e-3)


def test_order_padding_and_scale_do_not_matter(frames):
    states, lengths, hint, hints = frames
    expected = make()(*frames).item()
    order = torch.tensor([2, 0, 1])
    moved = make()(states[order], lengths[order], hint[order], hints[order])
    longer = make()(states[:, :9], lengths, torch.nn.functional.pad(hint, (0, 0, 0, 5)), hints)
    louder = make()(states, lengths, 30 * hint - torch.arange(6.0), hints)
    for same in (moved, longer, louder):
        assert same.item() == pytest.approx(expected, rel=1e-3)


def test_only_the_projector_is_learned(frames):
    loss = make()
    states = frames[0].requires_grad_()
    loss(states, *frames[1:]).backward()
    assert states.grad.abs().sum() > 0
    assert {name for name, p in loss.named_parameters() if p.grad is not None} == {
        "projector.weight",
        "projector.bias",
    }

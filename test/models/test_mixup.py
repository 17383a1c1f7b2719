from __future__ import annotations

import numpy as np
import pytest
import torch

from espnet_mtkd.models.mixup import mixup

B, C = 40, 3
LENGTHS = torch.arange(1, B + 1)


def one_hot_speech(shape: tuple[int, ...]) -> torch.Tensor:
    """Utterance b is the b-th unit vector, so a mixture tells what it is made of."""
    return torch.eye(B)[(...,) + (None,) * (len(shape) - 1)].expand(B, *shape)


@pytest.fixture(params=[(B,), (B, 5)], ids=["waveform", "stored"])
def mixed(request):
    """Mixture, its targets, and for each utterance its share and its partner, read off it."""
    torch.manual_seed(4)
    targets = torch.eye(C)[torch.arange(B) % C]
    speech, lengths, soft = mixup(one_hot_speech(request.param), LENGTHS, targets, 0.8)
    assert speech.shape == (B, *request.param)
    composition = speech.reshape(B, B, -1)
    assert torch.equal(composition, composition[..., :1].expand_as(composition))
    return composition[..., 0].double().numpy(), lengths.numpy(), soft.double().numpy()


def test_at_least_half_is_the_utterance_itself(mixed):
    composition, _, _ = mixed
    assert (np.diag(composition) >= 0.5).all()
    np.testing.assert_allclose(composition.sum(1), 1, rtol=1e-6)
    assert ((composition > 0).sum(1) <= 2).all()
    assert len(set(np.diag(composition).round(6))) > B / 2  # a share of its own for each


def test_every_utterance_is_a_partner_once(mixed):
    composition, _, _ = mixed
    others = composition * (1 - np.eye(B))
    partner = np.where(others.sum(1) > 0, others.argmax(1), np.arange(B))
    assert sorted(partner) == list(range(B))


def test_targets_and_lengths_follow(mixed):
    composition, lengths, soft = mixed
    targets = np.eye(C)[np.arange(B) % C]
    np.testing.assert_allclose(soft, composition @ targets, atol=1e-6)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
    expected = [LENGTHS.numpy()[row > 0].max() for row in composition]
    assert lengths.tolist() == expected


def test_waveforms_of_their_lengths():
    torch.manual_seed(0)
    speech = torch.zeros(6, 60)
    for b in range(6):
        speech[b, : 10 * (b + 1)] = 1.0
    lengths = 10 * torch.arange(1, 7)
    speech, lengths, _ = mixup(speech, lengths, torch.eye(6), 1.0)
    for row, n in zip(speech, lengths, strict=True):
        assert (row[:n] != 0).all() and (row[n:] == 0).all()


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.9, 1.0), (50.0, 0.5, 0.6)])
def test_alpha_says_how_much_is_mixed(alpha, low, high):
    torch.manual_seed(1)
    speech, _, _ = mixup(one_hot_speech((B,)), LENGTHS, torch.eye(B), alpha)
    assert low < speech.diagonal().mean() <= high


def test_the_seed_decides():
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(mixup(one_hot_speech((B,)), LENGTHS, torch.eye(B), 0.5)[0])
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_a_lonely_utterance_stays_as_it_is():
    speech = torch.randn(1, 7)
    mixed, lengths, targets = mixup(speech, torch.tensor([7]), torch.ones(1, 1), 0.5)
    torch.testing.assert_close(mixed, speech)
    assert lengths.tolist() == [7] and targets.tolist() == [[1.0]]


def test_labelled_utterances_are_mixed_with_labelled_ones():
    torch.manual_seed(3)
    targets = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    targets[3:] = 0  # not labelled
    speech = torch.eye(6)[:, None, :]  # shows who is in a mixture
    mixed, _, mixed_targets = mixup(speech, torch.ones(6, dtype=torch.long), targets, 0.4)
    assert torch.all(mixed[:3, 0, 3:] == 0) and torch.all(mixed[3:, 0, :3] == 0)
    assert torch.allclose(mixed_targets[:3].sum(-1), torch.ones(3))
    assert torch.all(mixed_targets[3:] == 0)

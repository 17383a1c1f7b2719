"""The loss of hints, against its definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from espnet_mtkd.distill.hints import HintLoss
from espnet_mtkd.models.encoders import ConvEncoder
from espnet_mtkd.models.hint_model import ESPnetHintModel

pytestmark = pytest.mark.usefixtures("no_network")

FRAMES = (9, 5, 1)  # of the encoder, which has one every 20 ms


def make(**options) -> ESPnetHintModel:
    torch.manual_seed(0)
    encoder = ConvEncoder(channels=(6,), kernels=(3,), strides=(2,))
    return ESPnetHintModel(encoder, HintLoss(encoder.output_size(), 7), **options)


def batch(extra: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([320 * n - 160 for n in FRAMES])
    speech = 0.1 * torch.randn(len(FRAMES), int(lengths.max()), generator=generator)
    hint = 3 + 2 * torch.randn(len(FRAMES), max(FRAMES), 7, generator=generator)
    if extra:  # what lies behind an utterance
        speech = torch.nn.functional.pad(speech, (0, 320 * extra), value=0.3)
        hint = torch.nn.functional.pad(hint, (0, 0, 0, extra), value=-50.0)
    return dict(speech=speech, speech_lengths=lengths, hint=hint, hint_lengths=torch.tensor(FRAMES))


def expected(model: ESPnetHintModel, given: dict[str, torch.Tensor]) -> float:
    """The definition, over lists of frames instead of padded matrices."""
    with torch.no_grad():
        states, lengths = model.frontend(given["speech"], given["speech_lengths"])
        guess = model.hint_loss.projector(states[0])
    rows = range(len(given["hint"]))
    count = [min(int(lengths[0][i]), int(given["hint_lengths"][i])) for i in rows]
    hints = np.concatenate([given["hint"][i, : count[i]].numpy() for i in rows])
    guesses = np.concatenate([guess[i, : count[i]].numpy() for i in rows])
    wanted = (hints - hints.mean(0)) / hints.std(0)
    wanted = (wanted - wanted.mean(1, keepdims=True)) / wanted.std(1, keepdims=True)
    return float(((guesses - wanted) ** 2).mean())


@pytest.mark.parametrize("hints", [FRAMES, (12, 3, 1)])
def test_the_loss_is_its_definition(hints):
    model, given = make().train(), batch(extra=3)
    given["hint_lengths"] = torch.tensor(hints)
    loss, stats, weight = model(**given)
    assert loss.item() == pytest.approx(expected(make().train(), given), rel=1e-3)
    assert stats["loss"] == loss.detach() and weight == len(FRAMES)


def test_what_lies_behind_an_utterance_does_not_matter():
    alone, padded = make()(**batch())[0], make()(**batch(extra=4))[0]
    assert alone.item() == pytest.approx(padded.item(), rel=1e-6)


def test_who_knows_nothing_has_a_loss_of_one():
    model = make()
    torch.nn.init.zeros_(model.hint_loss.projector.weight)
    torch.nn.init.zeros_(model.hint_loss.projector.bias)
    assert model(**batch())[0].item() == pytest.approx(1, rel=1e-3)


def test_the_scale_of_a_number_does_not_matter():
    given = batch()
    one = make()(**given)[0]
    given["hint"] = given["hint"] * torch.linspace(0.5, 90, 7) - torch.arange(7.0)
    assert make()(**given)[0].item() == pytest.approx(one.item(), rel=1e-3)


def test_what_is_not_heard_has_no_hint():
    short, given = make(max_duration=0.1), batch()  # 1600 samples: 6 frames, the last one half
    loss = short(**given)[0]
    given["speech_lengths"] = given["speech_lengths"].clamp(max=1600)
    given["speech"] = given["speech"][:, :1600]
    assert loss.item() == pytest.approx(make()(**given)[0].item(), rel=1e-6)


def test_encoder_and_projector_are_trained_and_nothing_else():
    model = make()
    model(**batch())[0].backward()
    assert all(p.grad is not None for p in model.frontend.parameters())
    assert all(p.grad is not None for p in model.hint_loss.projector.parameters())
    assert not any(p.requires_grad for p in model.hint_loss.norm.parameters())
    encoder = sum(p.numel() for p in model.frontend.parameters())
    assert model.count_params() == {"num_params": encoder, "num_trainable": encoder}

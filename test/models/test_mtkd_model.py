from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.weighting import WEIGHTINGS
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.head import LinearHead
from espnet_mtkd.models.layers import LayerWeighting, Standardize
from espnet_mtkd.models.mtkd_model import ESPnetMTKDModel
from espnet_mtkd.models.pooling import MeanPooling
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.models.upstream import Upstream

EMOTIONS, LANGUAGES = ["anger", "neutral", "sadness"], ["de", "en"]
TEACHERS = ["teacher_de", "teacher_en"]
B, P = 6, 5


def parts() -> dict:
    torch.manual_seed(0)
    frontend = Upstream("hf_hubert_custom", "/unused", num_layers=2, hidden_size=P, num_params=9)
    return dict(
        emotions=EMOTIONS,
        languages=LANGUAGES,
        frontend=frontend,
        pooling=MeanPooling(),
        normalize=Standardize((2, P)),
        layer_weighting=LayerWeighting(2),
        head=LinearHead(P, len(EMOTIONS), 4),
    )


def build(weighting: str = "language", kd_lambda: float = 0.5, **loss) -> ESPnetMTKDModel:
    return ESPnetMTKDModel(
        TEACHERS,
        WEIGHTINGS[weighting]([0, 1]),
        MultiTeacherLoss(**loss),
        kd_lambda,
        **parts(),
    )


def make_batch(seed: int = 0, size: int = B) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return dict(
        speech=torch.randn(size, 2, P, generator=generator),
        speech_lengths=torch.full((size,), 2),
        emotion=torch.randint(0, 3, (size, 1), generator=generator),
        language=torch.arange(size)[:, None] % 2,
        teacher_logits=torch.randn(size, 2, 3, generator=generator),
        teacher_logits_lengths=torch.full((size,), 2),
    )


@pytest.mark.parametrize("kd_lambda", [0.0, 0.3, 1.0])
def test_loss_by_hand(kd_lambda):
    model, batch = build(kd_lambda=kd_lambda, temperature=3.0, standardize=False), make_batch()
    loss, stats, weight = model(**batch)
    z = model.logits(batch["speech"], batch["speech_lengths"]).detach().numpy().astype(float)
    ce = kd = 0.0
    for b in range(B):
        ce -= log_softmax(z[b])[batch["emotion"][b, 0]] / B
        own_teacher = batch["teacher_logits"][b, batch["language"][b, 0]].numpy()
        kd += 9 * rel_entr(softmax(own_teacher / 3), softmax(z[b] / 3)).sum() / B
    assert float(stats["loss_ce"]) == pytest.approx(ce, rel=1e-5)
    assert float(stats["loss_kd"]) == pytest.approx(kd, rel=1e-5)
    assert loss.item() == pytest.approx((1 - kd_lambda) * ce + kd_lambda * kd, rel=1e-5)
    assert float(stats["loss"]) == loss.item() and float(weight) == B


def test_without_teachers_logits_it_is_the_cross_entropy():
    batch = {k: v for k, v in make_batch().items() if not k.startswith("teacher")}
    loss, stats, _ = build(kd_lambda=0.7)(**batch)
    plain, plain_stats, _ = ESPnetSERModel(**parts())(**batch)
    assert loss.item() == plain.item()
    assert stats.keys() == plain_stats.keys() == {"loss", "acc"}


def test_state_dict_is_that_of_the_plain_classifier():
    student, plain = build(), ESPnetSERModel(**parts())
    assert student.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(student.state_dict())


def test_mean_weights_of_an_epoch(monkeypatch):
    model = build("label")
    rows, languages = [], []
    inner = type(model.weighting).forward

    def spy(self, student, teachers, emotion, language):
        weights = inner(self, student, teachers, emotion, language)
        rows.append(weights)
        languages.append(language)
        return weights

    monkeypatch.setattr(type(model.weighting), "forward", spy)
    model(**make_batch(9))  # of an epoch before
    rows.clear(), languages.clear()
    model.begin_epoch()
    for seed, size in enumerate((6, 6, 3)):
        model(**make_batch(seed, size))
    stats = model.end_epoch()
    weights, language = torch.cat(rows).numpy(), torch.cat(languages).numpy()
    for index, name in enumerate(LANGUAGES):
        expected = weights[language == index].mean(0)
        for k, teacher in enumerate(TEACHERS):
            assert stats[f"weight_{name}_{teacher}"] == pytest.approx(expected[k], rel=1e-5)
        assert sum(stats[f"weight_{name}_{t}"] for t in TEACHERS) == pytest.approx(1)
    assert 0 <= stats["uar"] <= 1


def test_no_weights_for_a_language_that_did_not_come():
    model, batch = build(), make_batch()
    batch["language"][:] = 1
    model.begin_epoch()
    model(**batch)
    keys = {key for key in model.end_epoch() if key.startswith("weight_")}
    assert keys == {"weight_en_teacher_de", "weight_en_teacher_en"}


@pytest.mark.parametrize("weighting", ["cosine", "cosine_batch"])
def test_weights_carry_no_gradient(weighting):
    model, batch = build(weighting, kd_lambda=1.0, standardize=False), make_batch()
    model(**batch)[0].backward()
    z = model.logits(batch["speech"], batch["speech_lengths"]).detach()
    with torch.no_grad():
        weights = model.weighting(z, batch["teacher_logits"], None, None)
    # With fixed weights T^2 sum_k w_k KL(p_k || q) has the gradient T (q - sum_k w_k p_k).
    t = batch["teacher_logits"].numpy()
    mixture = (weights.numpy()[..., None] * softmax(t / 2, -1)).sum(1)
    expected = 2 * (softmax(z.numpy() / 2, -1) - mixture).sum(0) / B
    np.testing.assert_allclose(model.head[-1].bias.grad, expected, rtol=1e-4, atol=1e-6)


def test_teachers_logits_of_another_shape():
    batch = make_batch()
    batch["teacher_logits"] = batch["teacher_logits"][:, :1]
    with pytest.raises(UserError, match=r"teacher_logits are \(1, 3\) .* 2 teachers of 3 emotions"):
        build()(**batch)


@pytest.mark.parametrize("kd_lambda", [-0.1, 1.5])
def test_lambda_out_of_range(kd_lambda):
    with pytest.raises(UserError, match=f"kd_lambda {kd_lambda}: must be between 0 and 1"):
        build(kd_lambda=kd_lambda)

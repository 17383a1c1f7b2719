from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from espnet_mtkd.distill.features import FeatureLoss
from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.opinions import Opinions
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
CAST = list(zip(TEACHERS, LANGUAGES, strict=True))
B, P = 6, 5


def parts(seed: int = 0, **options) -> dict:
    torch.manual_seed(seed)
    frontend = Upstream("hf_hubert_custom", "/unused", num_layers=2, hidden_size=P, num_params=9)
    return dict(
        emotions=EMOTIONS,
        languages=LANGUAGES,
        frontend=frontend,
        pooling=MeanPooling(),
        normalize=Standardize((2, P)),
        layer_weighting=LayerWeighting(2),
        head=LinearHead(P, len(EMOTIONS), 4),
        **options,
    )


def build(weighting: str = "language", kd_lambda: float = 0.5, **options) -> ESPnetMTKDModel:
    """A student; options of the loss go there."""
    keys = ("temperature", "standardize", "reduction")
    loss = {key: options.pop(key) for key in keys if key in options}
    own = ("lambda_schedule", "live_teachers", "feature_loss", "feature_lambda")
    own = {key: options.pop(key) for key in own if key in options}
    return ESPnetMTKDModel(
        TEACHERS,
        WEIGHTINGS[weighting](CAST, LANGUAGES),
        MultiTeacherLoss(**loss),
        kd_lambda,
        **own,
        **parts(**options),
    )


def live_teachers() -> list[ESPnetSERModel]:
    return [ESPnetSERModel(**parts(seed)) for seed in (11, 12)]


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


@pytest.mark.parametrize(
    "options",
    [
        {"kd_lambda": "much"},
        {"temperature": "warm"},
        {"temperature": [1.0, None]},
        {"feature_lambda": None},
        {"lid_lambda": [1]},
        {"mixup": True},
    ],
)
def test_words_where_numbers_should_be(options):
    with pytest.raises(UserError, match=f"_conf: {next(iter(options))} .*: must be a number"):
        build(**options)


@pytest.mark.parametrize("how", ["cached", "live", "lid"])
def test_half_precision(how):
    options = {"live": {"live_teachers": live_teachers()}, "lid": {"lid_lambda": 0.1}}
    model = build("lid" if how == "lid" else "cosine", **options.get(how, {}))
    batch = make_batch()
    if how == "live":
        batch = {k: v for k, v in batch.items() if not k.startswith("teacher")}
    whole = model(**batch)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch)[0]
    loss.backward()
    torch.testing.assert_close(loss.float(), whole, rtol=0.05, atol=0.05)


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
    assert model.end_epoch()["loss_ce"] == pytest.approx(ce, rel=1e-5)
    assert float(stats["loss_kd"]) == pytest.approx(kd, rel=1e-5)
    assert loss.item() == pytest.approx((1 - kd_lambda) * ce + kd_lambda * kd, rel=1e-5)
    assert float(stats["loss"]) == loss.item() and float(weight) == B


def test_without_teachers_logits_it_is_the_cross_entropy():
    batch = {k: v for k, v in make_batch().items() if not k.startswith("teacher")}
    loss, stats, _ = build(kd_lambda=0.7)(**batch)
    plain, plain_stats, _ = ESPnetSERModel(**parts())(**batch)
    assert loss.item() == plain.item()
    assert stats.keys() == plain_stats.keys() == {"loss"}


def test_state_dict_is_that_of_the_plain_classifier():
    student, plain = build(), ESPnetSERModel(**parts())
    assert student.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(student.state_dict())


def test_mean_weights_of_an_epoch(monkeypatch):
    model = build("label")
    rows, languages = [], []
    inner = type(model.weighting).forward

    def spy(self, opinions):
        weights = inner(self, opinions)
        rows.append(weights)
        languages.append(opinions.language)
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


def test_members_of_an_ensemble_are_reported_together(monkeypatch):
    """Five seeds of four languages would be 80 numbers a step, and as many curves."""
    model = build()
    model.teachers = ["teacher_de.0", "teacher_de.1"]
    weights = torch.tensor([[0.5, 0.25]]).repeat(6, 1)
    monkeypatch.setattr(type(model.weighting), "forward", lambda *_: weights)
    model.begin_epoch()
    model(**make_batch(0, 6))
    stats = {k: v for k, v in model.end_epoch().items() if k.startswith("weight_")}
    assert stats and set(k.split("_", 2)[2] for k in stats) == {"teacher_de"}
    assert all(value == pytest.approx(0.75) for value in stats.values())


def test_no_weights_for_a_language_that_did_not_come():
    model, batch = build(), make_batch()
    batch["language"][:] = 1
    model.begin_epoch()
    model(**batch)
    keys = {key for key in model.end_epoch() if key.startswith("weight_")}
    assert keys == {"weight_en_teacher_de", "weight_en_teacher_en"}


@pytest.mark.parametrize("weighting", ["cosine", "cosine_batch", "lid"])
def test_weights_carry_no_gradient(weighting):
    model = build(weighting, kd_lambda=1.0, standardize=False, lid_lambda=0.1)
    batch = make_batch()
    model(**batch)[0].backward()
    z = model.logits(batch["speech"], batch["speech_lengths"]).detach()
    with torch.no_grad():
        heard = model.language_head(model.embed(batch["speech"], batch["speech_lengths"]))
        given = Opinions(z, batch["teacher_logits"], None, None, heard.softmax(-1))
        weights = model.weighting(given)
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


# ---- lambda over the training ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0]),
    ],
)
def test_lambda_by_progress(schedule, shares):
    model, batch = build(kd_lambda=0.8, lambda_schedule=schedule), make_batch()
    for progress, share in zip((0, 0.25, 0.5, 1), shares, strict=True):
        model.begin_epoch(progress)
        loss, stats, _ = model(**batch)
        part = 0.8 * share
        expected = (1 - part) * model.end_epoch()["loss_ce"] + part * float(stats["loss_kd"])
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_before_the_first_epoch_lambda_is_the_first(monkeypatch):
    batch = make_batch()
    linear, constant = build(lambda_schedule="linear"), build()
    assert linear(**batch)[0].item() == constant(**batch)[0].item()


def test_unknown_schedule():
    with pytest.raises(UserError, match="lambda_schedule 'step': must be one of constant, linear"):
        build(lambda_schedule="step")


# ---- hidden labels, language head --------------------------------------------------------------


def test_teachers_teach_utterances_with_a_hidden_label():
    model, batch = build("label", kd_lambda=0.4), make_batch()
    batch["emotion"][2:] = -1
    loss, stats, _ = model(**batch)
    loss.backward()
    z = model.logits(batch["speech"], batch["speech_lengths"]).detach()
    ce = torch.nn.functional.cross_entropy(z[:2], batch["emotion"][:2, 0])
    opinions = Opinions(z, batch["teacher_logits"], batch["emotion"].flatten(), None)
    weights = model.weighting(opinions)
    assert (weights[2:] == 0.5).all() and (weights[:2] != 0.5).all()
    kd = model.distill_loss(z, batch["teacher_logits"], weights)
    assert model.end_epoch()["loss_ce"] == pytest.approx(ce.item(), rel=1e-6)
    assert float(stats["loss_kd"]) == pytest.approx(kd.item(), rel=1e-6)
    assert loss.item() == pytest.approx(0.6 * ce.item() + 0.4 * kd.item(), rel=1e-6)
    assert model.confusion.sum() == 2


def test_no_label_at_all_leaves_the_teachers():
    model, batch = build(kd_lambda=0.4), make_batch()
    batch["emotion"][:] = -1
    loss, stats, _ = model(**batch)
    loss.backward()
    assert "loss_ce" not in model.end_epoch()
    assert loss.item() == pytest.approx(0.4 * float(stats["loss_kd"]), rel=1e-6)
    gradients = [p.grad for p in model.parameters()]
    assert all(g.isfinite().all() for g in gradients) and any((g != 0).any() for g in gradients)


def test_language_head_beside_the_teachers():
    model, batch = build("lid", kd_lambda=0.4, lid_lambda=0.2), make_batch()
    loss, stats, _ = model(**batch)
    x = model.embed(batch["speech"], batch["speech_lengths"])
    heard = model.language_head(x)
    lid = torch.nn.functional.cross_entropy(heard, batch["language"].flatten()).item()
    posterior = heard.detach().softmax(-1)  # teacher k is that of language k
    kd = model.distill_loss(model.head(x), batch["teacher_logits"], posterior).item()
    assert float(stats["loss_kd"]) == pytest.approx(kd, rel=1e-5)
    expected = 0.6 * model.end_epoch()["loss_ce"] + 0.4 * kd + 0.2 * lid
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert float(stats["loss"]) == loss.item()
    assert 0 <= float(stats["lid_acc"]) <= 1
    loss.backward()  # the head learns the language, not what would suit the teachers' part
    expected = 0.2 * (posterior - torch.eye(2)[batch["language"].flatten()]).mean(0)
    torch.testing.assert_close(model.language_head.bias.grad, expected)


def test_lid_without_a_language_head():
    with pytest.raises(UserError, match="lid needs a language head"):
        build("lid")(**make_batch())


# ---- live teachers -----------------------------------------------------------------------------


def test_live_is_cached_where_nothing_is_random():
    teachers, batch = live_teachers(), make_batch()
    with torch.no_grad():
        x = batch["speech"], batch["speech_lengths"]
        opinions = torch.stack([t.logits(*x) for t in teachers], 1)
    batch["teacher_logits"] = opinions
    cached, live = build("cosine"), build("cosine", live_teachers=teachers)
    expected, expected_stats, _ = cached(**batch)
    for key in [key for key in batch if key.startswith("teacher")]:
        del batch[key]
    loss, stats, _ = live(**batch)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert stats.keys() == expected_stats.keys() == {"loss", "loss_kd"}
    expected.backward(), loss.backward()
    for a, b in zip(live.parameters(), cached.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5)


def test_live_teachers_are_guests():
    teachers = live_teachers()
    before = [{k: v.clone() for k, v in t.state_dict().items()} for t in teachers]
    student, plain = build(live_teachers=teachers, mixup=0.5), build()
    batch = {k: v for k, v in make_batch().items() if not k.startswith("teacher")}
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        student(**batch)[0].backward()
        optimizer.step()
    for teacher, state in zip(teachers, before, strict=True):
        assert not any(module.training for module in teacher.modules())
        assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
        assert teacher.confusion.sum() == 0
        for key, value in teacher.state_dict().items():
            assert torch.equal(value, state[key])
    theirs = {id(p) for t in teachers for p in (*t.parameters(), *t.buffers())}
    assert not theirs & {id(p) for p in (*student.parameters(), *student.buffers())}
    assert student.state_dict().keys() == plain.state_dict().keys()
    assert student.count_params() == plain.count_params()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_live_teachers_hear_what_the_student_hears(monkeypatch, share):
    teachers = live_teachers()
    student = build(live_teachers=teachers, mixup=share).train()
    heard: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for name, model in (("student", student), ("a", teachers[0]), ("b", teachers[1])):
        inner = model.embed

        def spy(speech, lengths, name=name, inner=inner, **known):
            heard.setdefault(name, []).append((speech, lengths))
            return inner(speech, lengths, **known)

        monkeypatch.setattr(model, "embed", spy)
    batch = {k: v for k, v in make_batch().items() if not k.startswith("teacher")}
    student(**batch)
    (speech, lengths), *more = heard["student"]
    assert not more and torch.equal(speech, batch["speech"]) == (share == 0)
    for name in ("a", "b"):
        (theirs, their_lengths), *more = heard[name]
        assert not more and torch.equal(theirs, speech) and torch.equal(their_lengths, lengths)


def test_mixture_by_hand(monkeypatch):
    student, batch = (
        build(live_teachers=live_teachers(), mixup=0.5, standardize=False),
        make_batch(),
    )
    batch = {k: v for k, v in batch.items() if not k.startswith("teacher")}
    student.train()
    half, partner = torch.full((B,), 0.75), torch.tensor([1, 2, 3, 4, 5, 0])
    # Asked for once for the labelled utterances, which are all, and once for the others.
    monkeypatch.setattr(torch, "randperm", lambda n, device=None: partner[:n])
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self, shape: 1 - half)
    loss, stats, _ = student(**batch)
    speech = 0.75 * batch["speech"] + 0.25 * batch["speech"][partner]
    targets = torch.eye(3)[batch["emotion"].flatten()]
    targets = 0.75 * targets + 0.25 * targets[partner]
    with torch.no_grad():
        z = student.logits(speech, batch["speech_lengths"])
        opinions, _ = student.ask_teachers(speech, batch["speech_lengths"])
        weights = torch.eye(2)[batch["language"].flatten()]
        kd = student.distill_loss(z, opinions, weights).item()
    ce = -(targets * z.log_softmax(-1)).sum(-1).mean().item()
    assert student.end_epoch()["loss_ce"] == pytest.approx(ce, rel=1e-5)
    assert float(stats["loss_kd"]) == pytest.approx(kd, rel=1e-5)


def test_nothing_is_mixed_in_evaluation():
    batch = {k: v for k, v in make_batch().items() if not k.startswith("teacher")}
    student = build(live_teachers=live_teachers(), mixup=0.5).eval()
    plain = ESPnetSERModel(**parts()).eval()
    assert student(**batch)[0].item() == plain(**batch)[0].item()


def test_mixup_wants_live_teachers():
    with pytest.raises(UserError, match="mixup needs live teachers .*teaching: live"):
        build(mixup=0.2)


# ---- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_feature_loss_is_added(schedule):
    torch.manual_seed(1)
    parts_of_loss = FeatureLoss(P, [4, 4])
    options = dict(feature_loss=parts_of_loss, feature_lambda=0.3, lambda_schedule=schedule)
    model, batch = build(kd_lambda=0.5, **options), make_batch()
    batch["teacher_embeddings"] = torch.randn(B, 2, 4)
    model.begin_epoch(0.25)
    loss, stats, _ = model(**batch)
    x = model.embed(batch["speech"], batch["speech_lengths"])
    weights = torch.eye(2)[batch["language"].flatten()]
    feature = parts_of_loss(x, batch["teacher_embeddings"].unbind(1), weights).item()
    assert float(stats["loss_feature"]) == pytest.approx(feature, rel=1e-6)
    share = 1 if schedule == "constant" else 0.75
    part = 0.5 * share
    expected = (1 - part) * model.end_epoch()["loss_ce"] + part * float(stats["loss_kd"])
    assert loss.item() == pytest.approx(expected + 0.3 * share * feature, rel=1e-6)
    assert float(stats["loss"]) == loss.item()


def test_features_of_live_teachers_are_those_of_the_cache():
    teachers, batch = live_teachers(), make_batch()
    models = []
    for given in (None, teachers):
        torch.manual_seed(1)
        loss = FeatureLoss(P, [P, P], "mse")
        models.append(build(feature_loss=loss, feature_lambda=0.3, live_teachers=given))
    x = batch["speech"], batch["speech_lengths"]
    with torch.no_grad():
        batch["teacher_logits"] = torch.stack([t.logits(*x) for t in teachers], 1)
        batch["teacher_embeddings"] = torch.stack([t.embed(*x) for t in teachers], 1)
    expected = models[0](**batch)[0]
    batch = {k: v for k, v in batch.items() if not k.startswith("teacher")}
    loss = models[1](**batch)[0]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    expected.backward(), loss.backward()
    for a, b in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-5)
    assert not any(p.grad is not None or p.requires_grad for t in teachers for p in t.parameters())
    assert not any(module.training for t in teachers for module in t.modules())
    assert models[1].state_dict().keys() == models[0].state_dict().keys()


def test_projectors_are_no_part_of_the_student():
    plain = build()
    model = build(feature_loss=FeatureLoss(P, [7, 7]), feature_lambda=1.0)
    extra = {key for key in model.state_dict() if key not in plain.state_dict()}
    assert extra and {key.split(".")[0] for key in extra} == {"feature_loss"}
    assert extra == {f"feature_loss.projectors.{k}.{x}" for k in (0, 1) for x in ("weight", "bias")}
    assert model.count_params() == plain.count_params()


def test_feature_lambda_below_zero():
    with pytest.raises(UserError, match="feature_lambda -1: must not be below 0"):
        build(feature_lambda=-1)


# ---- teachers that do not know all emotions ----------------------------------------------------


def test_a_teacher_without_an_emotion():
    model = build("uniform", kd_lambda=1.0, temperature=1.0, standardize=False)
    batch = make_batch()
    batch["teacher_logits"][:, 1, 1] = torch.nan  # the second teacher knows no "neutral"
    batch["emotion"] = torch.tensor([[0], [1], [2], [1], [-1], [1]])
    loss, stats, _ = model(**batch)
    loss.backward()
    z = model.logits(batch["speech"], batch["speech_lengths"]).detach().numpy().astype(float)
    t = batch["teacher_logits"].numpy().astype(float)
    kd = 0.0
    for b, emotion in enumerate(batch["emotion"].flatten()):
        first = rel_entr(softmax(t[b, 0]), softmax(z[b])).sum()
        second = rel_entr(softmax(t[b, 1, [0, 2]]), softmax(z[b, [0, 2]])).sum()
        kd += (first if emotion == 1 else (first + second) / 2) / B
    assert loss.item() == pytest.approx(kd, rel=1e-5)
    assert all(p.grad.isfinite().all() for p in model.head.parameters())
    weights = model.end_epoch()
    assert weights["weight_de_teacher_en"] == pytest.approx(0.5)  # utterances 0, 2 and 4
    assert weights["weight_en_teacher_en"] == 0


def test_where_all_abstain_there_is_no_teaching():
    model, batch = build("language", kd_lambda=0.4), make_batch()
    batch["teacher_logits"][:, :, 1] = torch.nan
    batch["emotion"][:] = 1
    loss, stats, _ = model(**batch)
    assert float(stats["loss_kd"]) == 0
    assert loss.item() == pytest.approx(0.6 * model.end_epoch()["loss_ce"], rel=1e-6)


def test_live_teachers_of_other_label_sets():
    teachers = live_teachers()
    teachers[0].emotions = ["sadness", "joy", "anger"]
    student, batch = build("uniform", live_teachers=teachers), make_batch()
    logits, _ = student.ask_teachers(batch["speech"], batch["speech_lengths"])
    own = [t.logits(batch["speech"], batch["speech_lengths"]).detach() for t in teachers]
    np.testing.assert_array_equal(logits[:, 0, 0], own[0][:, 2])
    np.testing.assert_array_equal(logits[:, 0, 2], own[0][:, 0])
    assert logits[:, 0, 1].isnan().all() and torch.equal(logits[:, 1], own[1])


# ---- what is reported --------------------------------------------------------------------------


def test_cross_entropy_of_an_epoch_is_the_mean_over_labelled_utterances():
    model, values, labelled = build(), 0.0, 0
    model.begin_epoch()
    for seed, hidden in enumerate((0, 5, 6)):
        batch = make_batch(seed)
        batch["emotion"][:hidden] = -1
        model(**batch)
        z = model.logits(batch["speech"], batch["speech_lengths"]).detach()
        if hidden < B:
            own = batch["emotion"][hidden:, 0]
            values += float(torch.nn.functional.cross_entropy(z[hidden:], own, reduction="sum"))
            labelled += len(own)
    assert model.end_epoch()["loss_ce"] == pytest.approx(values / labelled, rel=1e-5)
    model.begin_epoch()
    assert "loss_ce" not in model.end_epoch()

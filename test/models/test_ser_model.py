from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score

from espnet_mtkd.distill.hints import HintLoss
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.encoders import ConvEncoder
from espnet_mtkd.models.head import LinearHead
from espnet_mtkd.models.layers import LayerWeighting, Standardize
from espnet_mtkd.models.pooling import MeanPooling, StatsPooling
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.models.upstream import Upstream

pytestmark = pytest.mark.usefixtures("no_network")

EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
LANGUAGES = ["de", "en", "it"]
POOLINGS = {"mean": MeanPooling, "stats": StatsPooling}


def build(frontend: Upstream, pooling: str = "mean", **options) -> ESPnetSERModel:
    torch.manual_seed(3)
    shape = (frontend.num_layers, POOLINGS[pooling]().output_size(frontend.output_size()))
    normalize = Standardize(shape)
    normalize.mean.normal_()
    normalize.deviation.uniform_(0.5, 2.0)
    weighting = LayerWeighting(shape[0])
    if shape[0] > 1:
        torch.nn.init.normal_(weighting.weight)
    return ESPnetSERModel(
        EMOTIONS,
        LANGUAGES,
        frontend,
        POOLINGS[pooling](),
        normalize,
        weighting,
        LinearHead(shape[1], len(EMOTIONS), 8),
        **options,
    ).eval()


def utterances(*seconds: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(int(16000 * s), generator=generator) for s in seconds]


def padded(wavs: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(wav) for wav in wavs])
    return torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True), lengths


@pytest.fixture(scope="module")
def frontends(checkpoints) -> dict[str, Upstream]:
    return {
        "fbank_no_cmvn": Upstream("fbank_no_cmvn"),
        "wav2vec2": Upstream("hf_wav2vec2_custom", str(checkpoints["wav2vec2_group"])),
    }


@pytest.mark.parametrize("upstream", ["fbank_no_cmvn", "wav2vec2"])
@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_stored_layers_give_the_same_as_waveforms(frontends, upstream, pooling):
    model = build(frontends[upstream], pooling)
    wavs = utterances(0.7, 0.2, 0.45)
    whole = model.logits(*padded(wavs))
    stored = torch.cat([model.pool(wav[None], torch.tensor([len(wav)])) for wav in wavs])
    assert stored.shape[1] == frontends[upstream].num_layers
    from_store = model.logits(stored, torch.full((3,), stored.shape[1]))
    torch.testing.assert_close(from_store, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("upstream", ["fbank_no_cmvn", "wav2vec2"])
@torch.no_grad()
def test_logits_do_not_depend_on_the_batch(frontends, upstream):
    model = build(frontends[upstream], "stats")
    wavs = utterances(0.2, 0.9, 0.45)
    together = model.logits(*padded(wavs))
    for wav, row in zip(wavs, together, strict=True):
        alone = model.logits(wav[None], torch.tensor([len(wav)]))[0]
        torch.testing.assert_close(alone, row, atol=1e-5, rtol=1e-5)
    speech, lengths = padded(wavs)
    longer = torch.nn.functional.pad(speech, (0, 5000), value=0.3)
    torch.testing.assert_close(model.logits(longer, lengths), together)


@torch.no_grad()
def test_what_comes_after_max_duration_is_not_heard(frontends):
    model, whole = (build(frontends["wav2vec2"], **x) for x in ({"max_duration": 0.3}, {}))
    wavs = utterances(0.2, 0.9, 0.45)
    cut = [wav[:4800] for wav in wavs]
    torch.testing.assert_close(model.logits(*padded(wavs)), whole.logits(*padded(cut)))
    assert not torch.allclose(model.logits(*padded(wavs)), whole.logits(*padded(wavs)))


@torch.no_grad()
def test_weighting_the_pooled_layers_is_pooling_the_weighted_layers(frontends):
    model = build(frontends["wav2vec2"])
    model.normalize = None
    speech, lengths = padded(utterances(0.5))
    states, _ = model.frontend(speech, lengths)
    weights = model.layer_weighting.weight.softmax(0)
    summed = sum(w * h for w, h in zip(weights, states, strict=True))
    expected = model.head(summed.mean(1))
    torch.testing.assert_close(model.logits(speech, lengths), expected, atol=1e-6, rtol=1e-5)


def batches(logits: np.ndarray, emotion: np.ndarray, language: np.ndarray, size: int):
    for start in range(0, len(logits), size):
        part = slice(start, start + size)
        n = len(logits[part])
        yield dict(
            speech=torch.zeros(n, 1, 1),
            speech_lengths=torch.ones(n, dtype=torch.long),
            emotion=torch.from_numpy(emotion[part, None]),
            language=torch.from_numpy(language[part, None]),
            logits=torch.from_numpy(logits[part]),
        )


def run_epoch(model: ESPnetSERModel, monkeypatch: pytest.MonkeyPatch, *data, size: int = 7):
    model.begin_epoch()
    outputs = []
    for batch in batches(*data, size):
        logits = batch.pop("logits")
        monkeypatch.setattr(model.head, "forward", lambda _, value=logits: value)
        outputs.append(model(**batch))
    return model.end_epoch(), outputs


@pytest.fixture
def answers():
    rng = np.random.default_rng(5)
    emotion, language = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    emotion[language == 1] %= 3  # English has no sadness
    logits = rng.normal(size=(60, 4)).astype(np.float32)
    logits[np.arange(60), emotion] += 0.8
    return logits, emotion, language


@pytest.mark.parametrize("size", [1, 7, 60])
def test_uar_is_that_of_the_whole_epoch(frontends, monkeypatch, answers, size):
    model = build(frontends["fbank_no_cmvn"])
    stats, outputs = run_epoch(model, monkeypatch, *answers, size=size)
    logits, emotion, language = answers
    expected = {}
    for index, name in enumerate(LANGUAGES):
        of = language == index
        expected[f"uar_{name}"] = recall_score(
            emotion[of],
            logits[of].argmax(1),
            average="macro",
            labels=sorted(set(emotion[of])),
        )
    expected["uar"] = np.mean(list(expected.values()))
    expected["acc"] = (logits.argmax(1) == emotion).mean()
    assert stats == pytest.approx(expected)
    assert sum(float(w) for _, _, w in outputs) == len(emotion)


def test_a_language_without_utterances_is_left_out(frontends, monkeypatch, answers):
    model = build(frontends["fbank_no_cmvn"])
    logits, emotion, language = (a[answers[2] != 2] for a in answers)
    stats, _ = run_epoch(model, monkeypatch, logits, emotion, language)
    assert stats.keys() == {"acc", "uar", "uar_de", "uar_en"}
    assert stats["uar"] == pytest.approx((stats["uar_de"] + stats["uar_en"]) / 2)


def test_an_epoch_forgets_the_one_before(frontends, monkeypatch, answers):
    model = build(frontends["fbank_no_cmvn"])
    first, _ = run_epoch(model, monkeypatch, *answers)
    run_epoch(model, monkeypatch, -answers[0], *answers[1:])
    assert run_epoch(model, monkeypatch, *answers)[0] == first
    assert "confusion" not in model.state_dict()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_by_hand(frontends, monkeypatch, answers, smoothing):
    model = build(frontends["fbank_no_cmvn"], label_smoothing=smoothing)
    _, [(loss, stats, weight)] = run_epoch(model, monkeypatch, *answers, size=60)
    logits, emotion, _ = answers
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = np.full((60, 4), smoothing / 4)
    target[np.arange(60), emotion] += 1 - smoothing
    expected = -(target * log_p).sum(1).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert float(stats["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == 60


# ---- hidden labels -----------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hidden_labels_have_no_part_in_loss_and_scores(frontends, monkeypatch, answers, smoothing):
    model = build(frontends["fbank_no_cmvn"], label_smoothing=smoothing)
    logits, emotion, language = answers
    hidden = emotion.copy()
    hidden[::3] = -1
    some = [a[hidden >= 0] for a in answers]
    expected, [(loss, _, _)] = run_epoch(model, monkeypatch, *some, size=60)
    epoch, [(masked, _, weight)] = run_epoch(model, monkeypatch, logits, hidden, language, size=60)
    assert epoch == expected and model.confusion.sum() == len(some[0])
    assert masked.item() == pytest.approx(loss.item(), rel=1e-6)
    assert float(weight) == 60


def test_a_batch_without_any_label(frontends):
    model = build(frontends["fbank_no_cmvn"], lid_lambda=0.0)
    size = model.head[0].in_features
    loss, *_ = model(
        speech=torch.randn(5, 1, size),
        speech_lengths=torch.ones(5, dtype=torch.long),
        emotion=torch.full((5, 1), -1),
        language=torch.tensor([[0], [1], [2], [0], [1]]),
    )
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in model.head.parameters())
    assert model.confusion.sum() == 0


def test_mixed_with_a_hidden_label_is_hidden(frontends):
    model = build(frontends["fbank_no_cmvn"])
    logits = torch.randn(3, 4)
    targets = torch.tensor([[1.0, 0, 0, 0], [0.6, 0, 0, 0], [0, 0.3, 0.7, 0]])
    loss, _ = model.losses(logits, targets)
    log_p = logits.log_softmax(-1)
    expected = -(log_p[0, 0] + 0.3 * log_p[2, 1] + 0.7 * log_p[2, 2]) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


# ---- language head -----------------------------------------------------------------------------


def language_batch(size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return dict(
        speech=torch.randn(6, 1, size, generator=generator),
        speech_lengths=torch.ones(6, dtype=torch.long),
        emotion=torch.tensor([[0], [1], [2], [3], [-1], [1]]),
        language=torch.tensor([[0], [1], [2], [2], [0], [0]]),
    )


def test_language_head_adds_its_cross_entropy(frontends):
    model = build(frontends["fbank_no_cmvn"], lid_lambda=0.3)
    batch = language_batch(model.head[0].in_features)
    loss, stats, _ = model(**batch)
    with torch.no_grad():
        x = model.embed(batch["speech"], batch["speech_lengths"])
        heard = x @ model.language_head.weight.T + model.language_head.bias
        log_p, log_l = model.head(x).log_softmax(-1).numpy(), heard.log_softmax(-1).numpy()
    language = batch["language"].flatten().numpy()
    # All languages are known, one emotion is not.
    lid = -np.mean(log_l[np.arange(6), language])
    rows = [0, 1, 2, 3, 5]
    ce = -np.mean(log_p[rows, batch["emotion"].flatten().numpy()[rows]])
    assert loss.item() == pytest.approx(ce + 0.3 * lid, rel=1e-5)
    assert float(stats["loss"]) == loss.item()  # what is reported is what is minimised
    assert float(stats["loss_lid"]) == pytest.approx(lid, rel=1e-5)
    assert float(stats["lid_acc"]) == pytest.approx(np.mean(log_l.argmax(1) == language))
    loss.backward()
    assert model.language_head.weight.grad.abs().sum() > 0


def test_language_head_changes_no_logits(frontends):
    with_head = build(frontends["fbank_no_cmvn"], lid_lambda=0.3)
    without = build(frontends["fbank_no_cmvn"])
    new = {"language_head.weight", "language_head.bias"}
    assert with_head.state_dict().keys() - without.state_dict().keys() == new
    x = language_batch(without.head[0].in_features)
    without.load_state_dict({k: v for k, v in with_head.state_dict().items() if k not in new})
    speech = x["speech"], x["speech_lengths"]
    assert torch.equal(with_head.logits(*speech), without.logits(*speech))
    assert "lid_acc" not in without(**x)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -0.1}, "model_conf: mixup -0.1: must not be below 0"),
        ({"lid_lambda": -1}, "model_conf: lid_lambda -1: must not be below 0"),
        ({"max_duration": 0}, "model_conf: max_duration 0: must be above 0"),
        ({"label_smoothing": 1.0}, r"model_conf: label_smoothing 1.0: must be in \[0, 1\)"),
    ],
)
def test_options_out_of_range(frontends, options, message):
    with pytest.raises(UserError, match=message):
        build(frontends["fbank_no_cmvn"], **options)


def test_count_params(checkpoints, frontends):
    head = LinearHead(16, 4, 8)
    own = sum(p.numel() for p in head.parameters()) + 3  # 3 layer weights
    frozen = build(frontends["wav2vec2"]).count_params()
    upstream = frontends["wav2vec2"].num_params()
    assert frozen == {"num_params": own + upstream, "num_trainable": own}
    path = str(checkpoints["wav2vec2_group"])
    tuned = build(Upstream("hf_wav2vec2_custom", path, mode="finetune")).count_params()
    assert tuned["num_params"] == own + upstream
    assert own < tuned["num_trainable"] < own + upstream


# ---- hints -------------------------------------------------------------------------------------


def with_hints(**options) -> tuple[ESPnetSERModel, dict[str, torch.Tensor]]:
    torch.manual_seed(2)
    encoder = ConvEncoder(channels=(6,), kernels=(3,), strides=(2,))
    pooling = MeanPooling()
    parts = (encoder, pooling, None, LayerWeighting(1), LinearHead(6, len(EMOTIONS), 8))
    model = ESPnetSERModel(EMOTIONS, LANGUAGES, *parts, hint_loss=HintLoss(6, 5), **options)
    speech = torch.nn.utils.rnn.pad_sequence(utterances(0.5, 0.3), batch_first=True)
    batch = dict(
        speech=speech,
        speech_lengths=torch.tensor([8000, 4800]),
        emotion=torch.tensor([[0], [-1]]),
        language=torch.tensor([[0], [0]]),
        hint=torch.randn(2, 24, 5),
        hint_lengths=torch.tensor([24, 14]),
    )
    return model.eval(), batch


def test_the_loss_of_hints_is_added():
    model, batch = with_hints(hint_lambda=3.0)
    states, lengths = model.frontend(batch["speech"], batch["speech_lengths"])
    hints = model.hint_loss(states[0], lengths[0], batch["hint"], batch["hint_lengths"]).item()
    loss, stats, _ = model(**batch)
    bare = {key: value for key, value in batch.items() if "hint" not in key}
    alone, plain, _ = model(**bare)  # the answer itself does not need them
    assert "loss_hint" not in plain
    assert float(stats["loss_hint"]) == pytest.approx(hints, rel=1e-6)
    assert loss.item() == pytest.approx(alone.item() + 3 * hints, rel=1e-6)
    assert float(stats["loss"]) == loss.item()


def test_hints_hear_the_encoder_once(monkeypatch):
    model, batch = with_hints(hint_lambda=1.0)
    heard, forward = [], model.frontend.forward
    monkeypatch.setattr(model.frontend, "forward", lambda *x: heard.append(x) or forward(*x))
    model(**batch)
    assert len(heard) == 1


def test_the_loss_of_hints_is_no_part_of_the_student():
    model, _ = with_hints(hint_lambda=1.0)
    counts = model.count_params()
    model.hint_loss = None
    assert model.count_params() == counts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hint_lambda": -1}, "hint_lambda -1: must not be below 0"),
        ({"hint_lambda": 1.0, "mixup": 0.2}, "mixup with hint_lambda: hints are of unmixed"),
    ],
)
def test_hints_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        with_hints(**options)

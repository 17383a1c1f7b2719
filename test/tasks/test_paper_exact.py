"""``conf/systems/paper_exact.yaml`` is the official method, term by term."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd.models.upstream import Upstream
from espnet_mtkd.systems import System, find_file, read_yaml
from espnet_mtkd.tasks.mtkd import MTKDTask

pytestmark = pytest.mark.usefixtures("no_network")

EMOTIONS, LANGUAGES = ["anger", "happiness", "neutral", "sadness"], ["de", "en", "it"]
B, K, C, P = 7, 3, 4, 6
LAYERS = 13  # of wav2vec2-base


@pytest.fixture
def model(tmp_path):
    """The student that the task builds from the shipped files, in double precision."""
    system = System.read("paper_exact")
    assert system.teachers == "monolingual"
    config = {**read_yaml(find_file("conf/train_paper.yaml")), **system.options}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "emotions").write_text("\n".join(EMOTIONS))
    (tmp_path / "languages").write_text("\n".join(LANGUAGES))
    (tmp_path / "teachers").write_text("".join(f"teacher_{x} {x}\n" for x in LANGUAGES))
    frontend = dict(upstream="hf_wav2vec2_custom", path_or_url="/gone", mode="frozen")
    frontend.update(num_layers=LAYERS, hidden_size=P, num_params=9)
    info = json.dumps({"pooling": "mean", "frontend_conf": frontend})
    (tmp_path / "info.json").write_text(info)
    argv = ["--config", str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "x")]
    for option in ("emotions", "languages", "teachers"):
        argv += [f"--{option}", str(tmp_path / option)]
    argv += ["--feats_info", str(tmp_path / "info.json")]
    argv += ["--train_data_path_and_name_and_type", "logits.scp,teacher_logits,kaldi_ark"]
    torch.manual_seed(2)
    return MTKDTask.build_model(MTKDTask.get_parser().parse_args(argv)).double()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return dict(
        speech=torch.randn(B, LAYERS, P, generator=generator).double(),
        speech_lengths=torch.ones(B, dtype=torch.long),
        emotion=torch.randint(0, C, (B, 1), generator=generator),
        language=torch.randint(0, K, (B, 1), generator=generator),
        teacher_logits=3 * torch.randn(B, K, C, generator=generator).double(),
    )


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def official_weights(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """softmax over the teachers of the batch's mean cosine / 0.25."""
    means = []
    for k in range(K):
        cosines = [
            (z[b] * t[b, k]).sum() / np.sqrt((z[b] ** 2).sum() * (t[b, k] ** 2).sum())
            for b in range(B)
        ]
        means.append(sum(cosines) / B)
    return softmax(np.array(means) / 0.25)


def official_loss(z: np.ndarray, t: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """0.75 CE + 0.25 T^2 sum_k w_k mean over batch and classes of p_k (log p_k - log q)."""
    temperature = 5.0
    ce = -sum(np.log(softmax(z[b]))[y[b]] for b in range(B)) / B
    q = softmax(z / temperature)
    kd = 0.0
    for k in range(K):
        p = softmax(t[:, k] / temperature)
        kd += w[k] * temperature**2 * (p * (np.log(p) - np.log(q))).mean()
    return 0.75 * ce + 0.25 * kd


def test_loss(model, batch):
    loss, stats, _ = model.train()(**batch)
    with torch.no_grad():
        z = model.logits(batch["speech"], batch["speech_lengths"]).numpy()
    t, y = batch["teacher_logits"].numpy(), batch["emotion"].flatten().numpy()
    w = official_weights(z, t)
    assert loss.item() == pytest.approx(official_loss(z, t, y, w), abs=1e-6, rel=1e-9)
    assert loss.item() == pytest.approx(
        0.75 * model.end_epoch()["loss_ce"] + 0.25 * float(stats["loss_kd"]), rel=1e-9
    )


def test_gradient_with_weights_that_are_held(model, batch):
    model.train()(**batch)[0].backward()
    with torch.no_grad():
        z = model.logits(batch["speech"], batch["speech_lengths"]).numpy()
    t, y = batch["teacher_logits"].numpy(), batch["emotion"].flatten().numpy()
    w = official_weights(z, t)  # not moved with z: the official code detaches them
    step, expected = 1e-5, []
    for direction in np.eye(C) * step:  # the classifier's bias moves all logits alike
        ends = [official_loss(z + s * direction, t, y, w) for s in (1, -1)]
        expected.append((ends[0] - ends[1]) / (2 * step))
    np.testing.assert_allclose(model.head[-1].bias.grad, expected, atol=1e-6)


def test_the_weights_are_reported(model, batch):
    model.begin_epoch()
    model(**batch)
    with torch.no_grad():
        z = model.logits(batch["speech"], batch["speech_lengths"]).numpy()
    w, stats = official_weights(z, batch["teacher_logits"].numpy()), model.end_epoch()
    for language in {LANGUAGES[i] for i in batch["language"].flatten()}:
        for k, teacher in enumerate(LANGUAGES):
            key = f"weight_{language}_teacher_{teacher}"
            assert stats[key] == pytest.approx(w[k], abs=1e-6)


def test_the_model_is_the_papers(model):
    projector, _, classifier = model.head  # nothing but a dropout of 0 between them
    assert (projector.out_features, classifier.in_features, model.head[1].p) == (256, 256, 0.0)
    assert type(model.pooling).__name__ == "MeanPooling" and model.normalize is None
    assert model.layer_weighting.chosen == [LAYERS - 1]  # the last layer alone
    assert inspect.signature(Upstream).parameters["freeze_feature_encoder"].default is True
    assert (model.label_smoothing, model.mixup, model.lid_lambda) == (0, 0, 0)
    for progress in (0.0, 0.5, 1.0):
        model.begin_epoch(progress)
        assert model.kd_lambda * model.share == 0.25
    training = read_yaml("conf/train_paper.yaml")
    assert training["optim"] == "adamw" and training["batch_size"] == 16
    assert training["optim_conf"]["lr"] == 3e-5 and training["max_epoch"] == 20

"""Live teachers, through ESPnet's own entry point."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd.bin import teacher_logits
from espnet_mtkd.data.ark import write_ark
from espnet_mtkd.errors import UserError
from espnet_mtkd.tasks.inference import load_model, logits_of
from espnet_mtkd.tasks.mtkd import MTKDTask

pytestmark = pytest.mark.usefixtures("no_network")


def history_of(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text())


@pytest.fixture(scope="session")
def cache(toy, teacher, student, tmp_path_factory) -> Path:
    """What the live teachers say of the toy's utterances, as stage 6 stores it."""
    folder = tmp_path_factory.mktemp("cache")
    opinions = []
    for path in (teacher, student):
        model, args = load_model(path)
        opinion = {}
        for side in ("train", "dev"):
            speech = (str(toy.folder / "feats.scp"), "kaldi_ark")
            opinion.update(logits_of(model, args, speech, toy.folder / side / "utt2emotion"))
        opinions.append(opinion)
    write_ark(folder / "logits.scp", ((u, np.stack([o[u] for o in opinions])) for u in toy.feats))
    return folder


@pytest.mark.parametrize("weighting", ["label", "cosine_batch"])
def test_live_is_cached_where_nothing_is_random(toy, train, live, cache, tmp_path, weighting):
    more = ("--weighting", weighting, "--head_conf", "dropout=0.0")
    alive = train(*more, live=live)
    argv = toy.argv(tmp_path / "cached", *more, student=True)
    own = str(cache / "logits.scp")
    MTKDTask.main(cmd=[a.replace(str(toy.folder / "logits.scp"), own) for a in argv])
    a, b = history_of(alive), history_of(tmp_path / "cached")
    for epoch in ("1", "2", "3"):
        keys = b[epoch]["train"].keys()
        assert keys == a[epoch]["train"].keys() and {"loss_kd", "weight_fi_teacher_en"} <= keys
        for key in keys:
            if key.startswith(("loss", "weight_", "uar", "acc")):
                assert a[epoch]["train"][key] == pytest.approx(b[epoch]["train"][key], abs=1e-5)
        assert a[epoch]["valid"]["uar"] == pytest.approx(b[epoch]["valid"]["uar"])
    x, y = (torch.load(f / "3epoch.pth") for f in (alive, tmp_path / "cached"))
    assert x.keys() == y.keys()
    for key in x:
        torch.testing.assert_close(x[key], y[key], atol=1e-5, rtol=1e-5)


def test_a_live_student_is_a_classifier_like_any_other(toy, train, live, teacher):
    before = {p.name: p.read_bytes() for p in teacher.iterdir() if p.is_file()}
    folder = train("--model_conf", "mixup=0.4", "--model_conf", "lid_lambda=0.1", live=live)
    assert {p.name: p.read_bytes() for p in teacher.iterdir() if p.is_file()} == before
    checkpoint = torch.load(folder / "checkpoint.pth", weights_only=False)
    own = torch.load(teacher / "model.pth").keys()
    assert checkpoint["model"].keys() - own == {"language_head.weight", "language_head.bias"}
    trained = sum(len(group["params"]) for group in checkpoint["optimizers"][0]["param_groups"])
    model, _ = load_model(folder)
    assert trained == len(list(model.parameters()))
    assert json.loads((folder / "info.json").read_text())["num_trainable"] == sum(
        p.numel() for p in model.parameters()
    )
    for phases in history_of(folder).values():
        assert phases["train"]["loss_kd"] > 0 and "loss_kd" not in phases["valid"]
    # The best epoch's development score is that of the stored model.
    speech, keys = (str(toy.folder / "feats.scp"), "kaldi_ark"), toy.folder / "dev" / "utt2emotion"
    logits = dict(logits_of(model, load_model(folder)[1], speech, keys))
    hits = [toy.emotions[logits[u].argmax()] == e for u, (e, _) in toy.records["dev"].items()]
    info = json.loads((folder / "info.json").read_text())
    phases = history_of(folder)[str(info["best_epoch"])]
    assert phases["valid"]["acc"] == pytest.approx(np.mean(hits))
    assert info["language_accuracy"] == phases["valid"]["lid_acc"]


def test_teachers_of_an_ensemble(train, live, tmp_path):
    teacher, student = (line.split()[2] for line in live.read_text().splitlines())
    path = tmp_path / "teachers"
    path.write_text(f"ft.0 all {teacher}\nft.1 all {student}\nft.2 all {teacher}\n")
    stats = history_of(train("--max_epoch", "1", live=path))["1"]["train"]
    assert stats["weight_en_ft"] == pytest.approx(1)  # reported together


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.fixture
def stranger(teacher, tmp_path) -> Path:
    """A teacher that knows joy in the place of anger, and in another order."""
    other = shutil.copytree(teacher, tmp_path / "other", symlinks=True)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["emotions"] = ["sadness", "joy", "neutral"]
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    return other


def test_a_teacher_with_another_label_set(toy, train, teacher, student, stranger, tmp_path):
    """Live as cached: what it does not know is NaN there."""
    path = tmp_path / "teachers"
    path.write_text(f"a all {stranger}\nb all {student}\n")
    more = ("--weighting", "uniform", "--head_conf", "dropout=0.0", "--max_epoch", "1")
    alive = train(*more, live=path, name="alive")
    argv = ["--output_dir", str(tmp_path / "o"), "--emotions", f"{toy.folder}/emotions"]
    for side in ("train", "dev"):
        argv += ["--keys", f"{toy.folder}/{side}/utt2emotion"]
        argv += ["--speech", f"{toy.folder}/feats.scp,kaldi_ark"]
    teacher_logits.main([*argv, "--teacher", f"a,all,{stranger}", "--teacher", f"b,all,{student}"])
    argv = toy.argv(tmp_path / "cached", *more, student=True)
    argv = [word.replace(f"{toy.folder}/logits", f"{tmp_path}/o/logits") for word in argv]
    MTKDTask.main(cmd=[*argv, "--teachers", str(tmp_path / "o" / "teachers")])
    a, b = (history_of(x)["1"]["train"] for x in (alive, tmp_path / "cached"))
    for key in ("loss", "loss_kd", "weight_en_a", "weight_fi_b"):
        assert a[key] == pytest.approx(b[key], abs=1e-5) and np.isfinite(a[key])
    assert 0 < a["weight_en_a"] < 0.5  # it abstains where the label is anger


def test_a_teacher_with_too_little_in_common(train, teacher, stranger, tmp_path):
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["emotions"] = ["joy", "fear", "neutral"]
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "teachers").write_text(f"a all {stranger}\n")
    with pytest.raises(UserError, match=f"teacher {stranger} knows joy, .* at least two emotions"):
        train(live=tmp_path / "teachers")


def test_a_teacher_that_hears_something_else(train, teacher, stranger, tmp_path):
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["frontend_conf"]["upstream"] = "hf_wavlm_custom"
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "teachers").write_text(f"a all {stranger}\n")
    with pytest.raises(UserError, match=f"{stranger}: this model does not hear the stored featur"):
        train(live=tmp_path / "teachers")


@pytest.mark.parametrize("weighting", ["similarity", "learned"])
def test_what_stage_6_measures_is_not_there(train, live, weighting):
    with pytest.raises(UserError, match=f"weighting {weighting} needs .* live teachers have no"):
        train("--weighting", weighting, live=live)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_features_live_as_cached(toy, train, live, tmp_path, kind):
    loss = ("feature_lambda=0.5", f"feature_loss={kind}")
    more = ("--head_conf", "dropout=0.0", *(x for item in loss for x in ("--distill_conf", item)))
    alive = train(*more, live=live, name="alive")
    paths = [line.split()[2] for line in live.read_text().splitlines()]
    argv = ["--output_dir", str(tmp_path / "o"), "--embeddings", "true"]
    argv += ["--teacher", f"teacher_en,en,{paths[0]}", "--teacher", f"teacher_fi,fi,{paths[1]}"]
    for side in ("train", "dev"):
        argv += ["--keys", f"{toy.folder}/{side}/utt2emotion"]
        argv += ["--speech", f"{toy.folder}/feats.scp,kaldi_ark"]
    teacher_logits.main(argv)
    argv = toy.argv(tmp_path / "cached", *more, student=True)
    argv = [word.replace(f"{toy.folder}/logits", f"{tmp_path}/o/logits") for word in argv]
    with pytest.raises(UserError, match="feature_lambda needs teacher_embeddings"):
        MTKDTask.main(cmd=argv)
    vectors = f"{tmp_path}/o/embeddings.scp,teacher_embeddings,kaldi_ark"
    MTKDTask.main(cmd=[*argv, "--train_data_path_and_name_and_type", vectors])
    a, b = (history_of(x) for x in (alive, tmp_path / "cached"))
    for epoch in a:
        for key in ("loss", "loss_kd", "loss_feature"):
            assert a[epoch]["train"][key] == pytest.approx(b[epoch]["train"][key], abs=1e-5)
    assert a["3"]["train"]["loss_feature"] < a["1"]["train"]["loss_feature"]
    state = torch.load(tmp_path / "cached" / "model.pth")
    assert any(key.startswith("feature_loss.") for key in state)
    model, _ = load_model(tmp_path / "cached")  # without them
    assert not any(key.startswith("feature_loss.") for key in model.state_dict())
    speech, keys = (f"{toy.folder}/feats.scp", "kaldi_ark"), toy.folder / "dev" / "utt2emotion"
    assert len(list(logits_of(model, load_model(tmp_path / "cached")[1], speech, keys))) == 20


def test_a_teacher_that_was_not_trained(train, tmp_path):
    (tmp_path / "teachers").write_text(f"a all {tmp_path}/nothing\n")
    with pytest.raises(UserError, match="nothing/config.yaml|nothing: no such file|has this model"):
        train(live=tmp_path / "teachers")


def test_live_and_cached_at_once(toy, train, live, tmp_path):
    message = "--teachers: teachers need either a folder each .live. or teacher_logits"
    with pytest.raises(UserError, match=message):
        MTKDTask.main(cmd=[*toy.argv(tmp_path / "x", student=True), "--teachers", str(live)])
    with pytest.raises(UserError, match=message):  # and neither of them
        train(live=toy.folder / "teachers")

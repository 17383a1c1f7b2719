"""Live teachers, through ESPnet's own entry point."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

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
    own = torch.load(teacher / "valid.uar.best.pth").keys()
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
    best = str(json.loads((folder / "info.json").read_text())["best_epoch"])
    assert history_of(folder)[best]["valid"]["acc"] == pytest.approx(np.mean(hits))


def test_teachers_of_an_ensemble(train, live, tmp_path):
    teacher, student = (line.split()[2] for line in live.read_text().splitlines())
    path = tmp_path / "teachers"
    path.write_text(f"ft.0 all {teacher}\nft.1 all {student}\nft.2 all {teacher}\n")
    stats = history_of(train("--max_epoch", "1", live=path))["1"]["train"]
    for name in ("ft.0", "ft.1", "ft.2"):
        assert stats[f"weight_en_{name}"] == pytest.approx(1 / 3)


# ---- mistakes ----------------------------------------------------------------------------------


def test_a_teacher_with_another_order_of_the_emotions(train, teacher, live, tmp_path):
    other = shutil.copytree(teacher, tmp_path / "other", symlinks=True)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["emotions"] = config["emotions"][::-1]
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    path = tmp_path / "teachers"
    path.write_text(live.read_text().replace(str(teacher), str(other)))
    with pytest.raises(UserError, match=f"teacher {other} knows .*; both need the same emotions"):
        train(live=path)


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

from __future__ import annotations

import contextlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.tasks.inference import check_features, load_model, logits_of
from espnet_mtkd.tasks.ser import SERTask

pytestmark = pytest.mark.usefixtures("no_network")


def speech_of(toy) -> tuple[str, str]:
    return str(toy.folder / "feats.scp"), "kaldi_ark"


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_loads_where_nothing_of_the_training_is_left(own_toy, toy, kind, request, tmp_path):
    original = request.getfixturevalue(kind)
    key_file = toy.folder / "dev" / "utt2emotion"
    model, args = load_model(original)
    expected = dict(logits_of(model, args, speech_of(toy), key_file))
    moved = shutil.copytree(original, tmp_path / "moved", symlinks=True)
    for path in moved.iterdir():  # what a user would take along
        if path.name != "config.yaml" and not re.match(r"model|\d+epoch", path.name):
            path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)
    config = yaml.safe_load((moved / "config.yaml").read_text())
    assert config["emotions"] == list(toy.emotions) and config["languages"] == ["en", "fi"]
    assert config["feats_info"] is None and config["normalize_conf"] == {}
    # Nothing that is needed may be a path of the training's machine: take them all away.
    text = (moved / "config.yaml").read_text().replace(str(toy.folder), "/gone")
    (moved / "config.yaml").write_text(text)
    model, args = load_model(moved)
    assert type(model) is ESPnetSERModel and not model.training
    found = dict(logits_of(model, args, speech_of(own_toy), own_toy.folder / "dev/utt2emotion"))
    assert found.keys() == expected.keys()
    for utt in expected:
        np.testing.assert_array_equal(found[utt], expected[utt])


def test_logits_come_in_the_order_of_the_keys_whatever_the_batch(toy, teacher):
    model, args = load_model(teacher)
    keys = toy.folder / "dev" / "utt2emotion"
    one = list(logits_of(model, args, speech_of(toy), keys, batch_size=1))
    many = list(logits_of(model, args, speech_of(toy), keys, batch_size=64))
    assert [utt for utt, _ in one] == [utt for utt, _ in many] == sorted(toy.records["dev"])
    for (_, a), (_, b) in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("reader", ["inference", "training"])
def test_a_command_in_an_index_is_not_run(own_toy, teacher, tmp_path, reader):
    scp, made = own_toy.folder / "feats.scp", tmp_path / "made"
    first, *others = scp.read_text().splitlines()
    utt = first.split()[0]
    scp.write_text("\n".join([f"{utt} touch {made} |", *others]) + "\n")
    with pytest.raises(UserError, match=f"^{scp}: {utt}: a pipe; give the path of a file$"):
        if reader == "inference":
            keys = own_toy.folder / "dev" / "utt2emotion"
            list(logits_of(*load_model(teacher), speech_of(own_toy), keys))
        else:
            SERTask.main(cmd=own_toy.argv(tmp_path / "model"))
    assert not made.exists()


def test_logits_by_hand(toy, teacher):
    model, args = load_model(teacher)
    state = {k: v.double().numpy() for k, v in torch.load(teacher / "model.pth").items()}
    for utt, logits in logits_of(model, args, speech_of(toy), toy.folder / "dev" / "utt2emotion"):
        x = (toy.feats[utt] - state["normalize.mean"]) / state["normalize.deviation"]
        w = np.exp(state["layer_weighting.weight"])
        x = (w / w.sum()) @ x
        hidden = np.maximum(state["head.1.weight"] @ x + state["head.1.bias"], 0)
        expected = state["head.4.weight"] @ hidden + state["head.4.bias"]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file", ["config.yaml", "model.pth"])
def test_missing_file(teacher, tmp_path, file):
    moved = shutil.copytree(teacher, tmp_path / "moved", symlinks=True)
    (moved / file).unlink()
    with pytest.raises(UserError, match=f"{moved}/{file}: no such file; has this model been tra"):
        load_model(moved)


@pytest.mark.parametrize(
    "change", [{"head_conf": {"hidden_size": 7}}, {"head": "linear", "head_conf": {}}]
)
def test_parameters_that_do_not_fit(teacher, tmp_path, change):
    moved = shutil.copytree(teacher, tmp_path / "moved", symlinks=True)
    config = yaml.safe_load((moved / "config.yaml").read_text())
    (moved / "config.yaml").write_text(yaml.safe_dump({**config, **change}))
    with pytest.raises(UserError, match="model.pth does not fit .*config.yaml: ") as error:
        load_model(moved)
    assert "\n" not in str(error.value)


def test_another_checkpoint_of_the_training(teacher):
    model, _ = load_model(teacher / "config.yaml", teacher / "3epoch.pth")
    state = torch.load(teacher / "3epoch.pth")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("stored", "own", "same"),
    [("a", "a", True), ("a", "b", False), (None, "b", True), ("a", None, True)],
)
def test_features_of_another_checkpoint_are_refused(toy, teacher, tmp_path, stored, own, same):
    info = json.loads((toy.folder / "info.json").read_text())
    info["frontend_conf"]["checkpoint"] = stored
    (tmp_path / "info.json").write_text(json.dumps(info))
    model, _ = load_model(teacher)
    model.frontend.checkpoint = own
    context = contextlib.nullcontext() if same else pytest.raises(UserError, match="does not hear")
    with context:
        check_features(model, tmp_path / "feats.scp", "it")

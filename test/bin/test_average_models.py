from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_mtkd.bin import average_models, ser_train, teacher_logits
from espnet_mtkd.data.ark import read_ark
from espnet_mtkd.errors import UserError
from espnet_mtkd.tasks.inference import load_model

pytestmark = pytest.mark.usefixtures("no_network")
FILE = "model.pth"


@pytest.fixture(scope="module")
def folders(toy, tmp_path_factory) -> list[Path]:
    """Two specialists that started from the same model, and that model."""
    folder = tmp_path_factory.mktemp("models")
    ser_train.main(toy.argv(folder / "ft", "--max_epoch", "1"))
    for seed in (0, 1):
        start = ("--init_param", str(folder / "ft" / FILE), "--optim_conf", "lr=0.01")
        ser_train.main(toy.argv(folder / str(seed), *start, "--seed", str(seed)))
    return [folder / "0", folder / "1", folder / "ft"]


def average(folders, output: Path) -> None:
    average_models.main(["--model", *map(str, folders), "--output_dir", str(output)])


def test_parameters_are_the_mean(folders, tmp_path):
    average(folders[:2], tmp_path / "soup")
    found, a, b = (torch.load(f / FILE) for f in (tmp_path / "soup", *folders[:2]))
    assert found.keys() == a.keys()
    for key in found:
        np.testing.assert_allclose(found[key], (a[key].numpy() + b[key].numpy()) / 2, atol=1e-7)
    assert not all(torch.equal(a[key], b[key]) for key in a)


def test_numbers_of_other_types_are_those_of_the_first():
    states = [{"x": torch.tensor([1.0]), "n": torch.tensor(k)} for k in (3, 5)]
    assert average_models.average(states) == {"x": torch.tensor([1.0]), "n": torch.tensor(3)}


def test_it_teaches_as_any_other_model(toy, folders, tmp_path):
    average(folders[:2], tmp_path / "soup")
    model, _ = load_model(tmp_path / "soup")
    assert model.emotions == list(toy.emotions)
    argv = ["--teacher", f"soup,en,{tmp_path}/soup", "--output_dir", str(tmp_path / "logits")]
    argv += ["--keys", f"{toy.folder}/dev/utt2emotion"]
    teacher_logits.main([*argv, "--speech", f"{toy.folder}/feats.scp,kaldi_ark"])
    logits = read_ark(tmp_path / "logits" / "logits.scp")
    features = torch.from_numpy(np.stack([toy.feats[utt] for utt in logits]))
    said = model.logits(features, torch.full((len(features),), 2)).detach()
    np.testing.assert_allclose(np.stack(list(logits.values()))[:, 0], said, atol=1e-5)


def test_models_from_nothing(folders, tmp_path):
    with pytest.raises(UserError, match=f"--model {folders[2]}: was trained from nothing"):
        average([folders[2], folders[0]], tmp_path / "soup")
    with pytest.raises(UserError, match=f"--model {folders[2]}: init_param is .*, but .* in "):
        average([folders[0], folders[2]], tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_models_of_two_kinds(folders, tmp_path):
    other = shutil.copytree(folders[1], tmp_path / "other", symlinks=True)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["emotions"] = config["emotions"][::-1]
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=f"--model {other}: emotions is "):
        average([folders[0], other], tmp_path / "soup")


def test_one_model(folders, tmp_path):
    with pytest.raises(UserError, match="an average needs at least two models"):
        average(folders[:1], tmp_path / "soup")


def test_a_model_that_was_not_trained(folders, tmp_path):
    with pytest.raises(UserError, match="no such file; has this model been trained"):
        average([folders[0], tmp_path], tmp_path / "soup")

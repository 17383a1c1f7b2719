"""Small students on waveforms, through ESPnet's own entry point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.train.dataset import ESPnetDataset

from espnet_mtkd.data.datadir import write_map
from espnet_mtkd.tasks.inference import load_model, logits_of
from espnet_mtkd.tasks.mtkd import MTKDTask
from espnet_mtkd.tasks.ser import SERTask

pytestmark = pytest.mark.usefixtures("no_network")

SPECAUG = dict(apply_time_warp=False, time_mask_width_range=[0, 9], freq_mask_width_range=[0, 9])
CONV = dict(channels=[8, 8], kernels=[3, 3], strides=[2, 2], dropout=0.1, specaug_conf=SPECAUG)
CONFORMER = dict(num_blocks=1, linear_units=8, attention_heads=2, cnn_module_kernel=3)


@pytest.fixture(scope="module")
def waves(toy, tmp_path_factory) -> Path:
    """wav.scp of tones for every utterance of the toy, each emotion at its own pitch."""
    folder, paths = tmp_path_factory.mktemp("tones"), {}
    rng = np.random.default_rng(0)
    for records in toy.records.values():
        for utt, (emotion, _) in records.items():
            time = np.arange(rng.integers(3000, 6000)) / 16000
            tone = np.sin(2 * np.pi * 500 * (1 + toy.emotions.index(emotion)) * time)
            paths[utt] = str(folder / f"{utt}.wav")
            soundfile.write(paths[utt], 0.1 * tone + 0.02 * rng.normal(size=len(time)), 16000)
    write_map(folder / "wav.scp", paths)
    return folder / "wav.scp"


@pytest.fixture
def train(toy, waves, tmp_path):
    """Train a small student on the tones."""

    def run(name: str, *more: str, frontend: str = "conv", teachers: Path | None = None) -> Path:
        conf = dict(CONV, **({"conformer_conf": CONFORMER} if frontend == "conformer" else {}))
        config = yaml.safe_load(Path(toy.argv(tmp_path)[1]).read_text())
        config.update(frontend=frontend, frontend_conf=conf, pooling="stats", normalize=None)
        config.update(keep_in_memory=True, model_conf={"max_duration": 0.3})
        config["optim_conf"]["lr"] = 0.01
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
        cached = "--weighting" in more and teachers is None
        argv = toy.argv(tmp_path / name, student=cached)
        argv[1] = str(tmp_path / "small.yaml")
        for option in ("--feats_info", "--normalize_conf"):
            at = argv.index(option)
            del argv[at : at + 2]
        argv = [
            word.replace(f"{toy.folder}/feats.scp,speech,kaldi_ark", f"{waves},speech,sound")
            for word in argv
        ]
        if teachers:
            argv += ["--teachers", str(teachers)]
        (MTKDTask if "--weighting" in more else SERTask).main(cmd=[*argv, *more])
        return tmp_path / name

    return run


@pytest.mark.parametrize("frontend", ["conv", "conformer"])
def test_it_learns_and_can_be_used(toy, waves, train, frontend):
    folder = train("x", "--max_epoch", "12", frontend=frontend)
    info = json.loads((folder / "info.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    assert info["num_params"] == info["num_trainable"]
    assert max(phases["valid"]["uar"] for phases in history.values()) > 0.6
    model, args = load_model(folder)
    assert model.frontend.mode == "own"
    keys = toy.folder / "dev" / "utt2emotion"
    one, many = (
        dict(logits_of(model, args, (str(waves), "sound"), keys, batch_size=size))
        for size in (1, 20)
    )
    for utt in one:
        np.testing.assert_allclose(one[utt], many[utt], atol=1e-5)


def test_filter_banks_that_are_kept_change_nothing(train):
    kept, made = (train(x, "--keep_in_memory", x, "--max_epoch", "2") for x in ("true", "false"))
    a, b = (json.loads((f / "history.json").read_text())["2"] for f in (kept, made))
    for phase in ("train", "valid"):
        for key in ("loss", "uar"):
            assert a[phase][key] == pytest.approx(b[phase][key], rel=1e-4), (phase, key)


def test_interrupted_and_resumed_is_the_same_to_the_bit(train):
    whole = train("whole", "--max_epoch", "3")
    train("parts", "--max_epoch", "1")
    parts = train("parts", "--max_epoch", "3")
    assert (whole / "3epoch.pth").read_bytes() == (parts / "3epoch.pth").read_bytes()


def test_taught_from_stored_logits_of_teachers_that_hear_features(toy, train):
    folder = train("x", "--weighting", "language", "--max_epoch", "2")
    history = json.loads((folder / "history.json").read_text())
    assert history["2"]["train"]["weight_en_teacher_en"] == pytest.approx(1)
    assert np.isfinite(history["2"]["train"]["loss_kd"])


def test_taught_live_by_another_small_student(train, tmp_path):
    teacher = train("teacher", "--max_epoch", "1")
    before = torch.load(teacher / "model.pth")
    (tmp_path / "teachers").write_text(f"t all {teacher}\n")
    more = ("--weighting", "uniform", "--max_epoch", "2", "--distill_conf", "feature_lambda=1.0")
    folder = train("x", *more, teachers=tmp_path / "teachers")
    history = json.loads((folder / "history.json").read_text())
    assert history["2"]["train"]["loss_kd"] > 0 and history["2"]["train"]["loss_feature"] > 0
    state = torch.load(folder / "model.pth")
    assert {key.split(".")[0] for key in state} == {
        *(key.split(".")[0] for key in before),
        "feature_loss",
    }


def test_waveforms_are_read_once(train, monkeypatch):
    read = []
    inner = ESPnetDataset.__getitem__

    def counting(self, uid):
        read.append(uid)
        return inner(self, uid)

    monkeypatch.setattr(ESPnetDataset, "__getitem__", counting)
    train("x", "--max_epoch", "3")
    assert len(read) == len(set(read)) == 60

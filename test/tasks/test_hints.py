"""The first stage of a student with hints, through ESPnet's own entry point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_mtkd.data.ark import read_ark, write_ark
from espnet_mtkd.data.datadir import read_map, write_map
from espnet_mtkd.errors import UserError
from espnet_mtkd.tasks.dataset import MeanHints
from espnet_mtkd.tasks.hints import HintTask
from espnet_mtkd.tasks.inference import load_model
from espnet_mtkd.tasks.ser import SERTask

pytestmark = pytest.mark.usefixtures("no_network")

SHIFT = 320  # of the upstream, samples
CONV = dict(channels=[8, 8], kernels=[3, 3], strides=[2, 2])  # a frame every 640 samples


@pytest.fixture(scope="module")
def stored(toy, tmp_path_factory) -> Path:
    """Folder with tones as speech, and as hints how loud they are in bands of frequency."""
    folder, paths = tmp_path_factory.mktemp("hints"), {}
    rng = np.random.default_rng(0)
    frames = {}
    for records in toy.records.values():
        for utt in records:
            n = int(rng.integers(10, 20)) * SHIFT
            pitch = rng.choice([500, 1500, 3000], size=3)
            tone = np.concatenate([np.sin(2 * np.pi * p * np.arange(n) / 16000) for p in pitch])
            paths[utt] = str(folder / f"{utt}.wav")
            soundfile.write(paths[utt], 0.1 * tone + 0.02 * rng.normal(size=3 * n), 16000)
            bands = np.eye(3)[[[500, 1500, 3000].index(p) for p in pitch]]
            frames[utt] = np.repeat(bands, n // SHIFT, axis=0).astype(np.float32)
    write_map(folder / "wav.scp", paths)
    write_ark(folder / "feats.scp", frames.items())
    info = {"pooling": "last_frames", "frame_shift": SHIFT, "frontend_conf": {"hidden_size": 3}}
    (folder / "info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def argv(toy, stored, tmp_path):
    """Arguments of the first stage."""

    def make(name: str = "hints", **changed) -> list[str]:
        conf = dict(frontend="conv", frontend_conf=CONV, pooling="stats", normalize=None)
        config = {**yaml.safe_load(Path(toy.argv(tmp_path)[1]).read_text()), **conf, **changed}
        config["keep_in_memory"] = True
        assert config["best_model_criterion"] == [["valid", "uar", "max"]]  # there is none
        config["optim_conf"] = {**config["optim_conf"], "lr": 0.01}
        (tmp_path / "hints.yaml").write_text(yaml.safe_dump(config))
        words = toy.argv(tmp_path / name)
        words[1] = str(tmp_path / "hints.yaml")
        for option in ("--feats_info", "--normalize_conf"):
            at = words.index(option)
            del words[at : at + 2]
        old = f"{toy.folder}/feats.scp,speech,kaldi_ark"
        words = [word.replace(old, f"{stored}/wav.scp,speech,sound") for word in words]
        for side in ("train", "valid"):
            words += [f"--{side}_data_path_and_name_and_type", f"{stored}/feats.scp,hint,kaldi_ark"]
        return [*words, "--hints_info", str(stored / "info.json")]

    return make


def test_the_encoder_learns_what_the_upstream_hears(argv, tmp_path):
    HintTask.main(cmd=[*argv(), "--max_epoch", "8"])
    history = json.loads((tmp_path / "hints" / "history.json").read_text())
    assert history["8"]["valid"]["loss"] < 0.6 * history["1"]["valid"]["loss"] < 1
    assert (tmp_path / "hints" / "model.pth").readlink() == Path("8epoch.pth")


def test_a_student_starts_from_the_encoder(argv, tmp_path):
    HintTask.main(cmd=[*argv(), "--max_epoch", "1"])
    hints = tmp_path / "hints" / "model.pth"
    words = argv("ft")
    del words[-2:]
    words = [w for i, w in enumerate(words) if "hint," not in " ".join(words[i : i + 2])]
    still = ("--optim_conf", "lr=0.0", "--max_epoch", "1")  # a step of nothing
    SERTask.main(cmd=[*words, *still, "--init_param", f"{hints}:frontend:frontend"])
    student, teacher = (torch.load(p) for p in (tmp_path / "ft" / "model.pth", hints))
    weights = [key for key in teacher if key.startswith("frontend.") and "stack.conv" in key]
    assert len(weights) == 4
    for key in weights:
        torch.testing.assert_close(student[key], teacher[key])
    assert not any(key.startswith("hint_loss") for key in student)


def test_a_student_goes_on_with_hints(argv, stored, tmp_path):
    HintTask.main(cmd=[*argv(), "--max_epoch", "2"])
    path = tmp_path / "hints" / "model.pth"
    start = ("--init_param", f"{path}:frontend:frontend", f"{path}:hint_loss:hint_loss")
    more = ("--model_conf", "hint_lambda=2.0", "--max_epoch", "4")
    SERTask.main(cmd=[*argv("ft"), *more, *start])
    first = json.loads((tmp_path / "hints" / "history.json").read_text())
    history = json.loads((tmp_path / "ft" / "history.json").read_text())
    assert history["1"]["train"]["loss_hint"] < first["1"]["train"]["loss"]
    assert history["4"]["valid"]["loss_hint"] < history["1"]["valid"]["loss_hint"]
    assert history["4"]["train"]["loss"] > 2 * history["4"]["train"]["loss_hint"]
    # The student is a classifier as any other, with no need of the upstream's frames.
    assert str(stored / "info.json") not in (tmp_path / "ft" / "config.yaml").read_text()
    model, _ = load_model(tmp_path / "ft")
    assert not any("hint" in key for key in model.state_dict())


@pytest.mark.parametrize("missing", ["--hints_info", "hint"])
def test_hints_beside_the_labels_without_frames(argv, missing):
    words = argv()
    if missing == "hint":
        words = [w for i, w in enumerate(words) if "hint," not in " ".join(words[i : i + 2])]
    else:
        del words[-2:]
    with pytest.raises(UserError, match="hint_lambda needs the frames of an upstream: --hints_inf"):
        SERTask.main(cmd=[*words, "--model_conf", "hint_lambda=1.0"])


def test_a_weight_of_hints_that_is_no_number(argv):
    with pytest.raises(UserError, match="model_conf: hint_lambda 'much': must be a number"):
        SERTask.main(cmd=[*argv(), "--model_conf", "hint_lambda=much"])


def test_hints_are_means_over_the_frames_of_the_upstream(stored):
    hints = read_ark(stored / "feats.scp")
    for utt in list(read_map(stored / "wav.scp"))[:5]:
        given = {"hint": hints[utt], "speech": np.zeros(3)}
        made = MeanHints(lambda uid, data: data, 4)(utt, given)["hint"]
        want = [hints[utt][i : i + 4].mean(0) for i in range(0, len(hints[utt]), 4)]
        np.testing.assert_allclose(made, want, rtol=1e-6)
        assert made.dtype == np.float32


def test_frames_that_do_not_fit(argv, stored):
    conf = {**CONV, "strides": [3, 1]}
    with pytest.raises(UserError, match="come every 320 samples, those of the encoder every 480"):
        HintTask.main(cmd=argv(frontend_conf=conf))


def test_an_upstream_as_encoder(argv):
    with pytest.raises(UserError, match="frontend s3prl: hints are for an encoder of the student"):
        HintTask.main(cmd=argv(frontend="s3prl", frontend_conf={}))


def test_no_frames_are_stored(argv, tmp_path):
    words = [*argv(), "--hints_info", str(tmp_path / "none.json")]
    with pytest.raises(UserError, match="none.json: no such file; stage 4 writes it"):
        HintTask.main(cmd=words)

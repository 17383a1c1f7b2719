"""The plain networks give what the trained models give."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.upstream import PARAMETER_FREE
from espnet_mtkd.use.archive import WITHOUT_FILES, open_model
from espnet_mtkd.use.network import Network
from espnet_mtkd.use.torch_backend import TorchBackend, TrainedModel, check_network, trained_model

PLAIN = [
    *("fbank", "fbank_no_cmvn"),
    *("whisper", "whisper_tuned", "whisper_slice", "whisper_lower", "whisper_slice_tuned"),
    "whisper_cut",
]
OTHERS = ["mfcc", "hubert", "wav2vec2", "conv", "whisper_lora"]


def speech(samples: int, batch: int = 1) -> np.ndarray:
    noise = np.random.default_rng(samples).normal(0, 0.1, (batch, samples))
    return (noise * np.linspace(0.1, 1, samples)).astype(np.float32)


def test_upstreams_without_files():
    assert WITHOUT_FILES == PARAMETER_FREE


@pytest.mark.parametrize("kind", PLAIN + OTHERS)
@pytest.mark.parametrize("pooling", ["mean", "stats"])
def test_logits_are_those_of_the_trained_model(trained, kind, pooling):
    folder = trained(kind, pooling, lid_lambda=0.1)
    with open_model(folder) as files:
        backend, model = TorchBackend(files), trained_model(files).model
    assert isinstance(backend.network, Network if kind in PLAIN else TrainedModel)
    assert backend.emotions == trained.emotions and backend.languages == ["en", "fi"]
    for samples in (1600, 1601, 16000, 30001):
        x = torch.from_numpy(speech(samples, batch=2))
        lengths = torch.tensor([samples, samples])
        with torch.no_grad():
            expected = model.logits(x, lengths)
            languages = model.language_head(model.embed(x, lengths))
        found = backend(x.numpy())
        np.testing.assert_allclose(found[0], expected, atol=2e-4)
        np.testing.assert_allclose(found[1], languages, atol=2e-4)


@pytest.mark.parametrize("kind", ["whisper", "hubert"])
def test_no_language_head_and_what_is_not_heard(trained, kind):
    with open_model(trained(kind, max_duration=0.5)) as files:
        backend = TorchBackend(files)
    assert backend.languages is None and backend.max_seconds == 0.5
    logits, languages = backend(speech(8000))
    assert languages is None
    more = np.concatenate([speech(8000), speech(4000)], axis=1)
    np.testing.assert_allclose(backend(more)[0], logits, atol=1e-6)


def test_whisper_hears_so_much_at_a_time(trained):
    for kind in ("whisper", "whisper_lora"):
        with open_model(trained(kind)) as files:
            assert TorchBackend(files).max_seconds == 3.0
    with open_model(trained("fbank")) as files:
        assert TorchBackend(files).max_seconds is None


@pytest.mark.parametrize("architecture", ["whisper", "whisper_encoder"])
def test_a_whole_whisper_or_its_encoder(trained, checkpoints, tmp_path, architecture):
    folder = shutil.copytree(trained("whisper"), tmp_path / "model")
    config = (folder / "config.yaml").read_text()
    path = str(checkpoints["whisper"])
    (folder / "config.yaml").write_text(config.replace(path, str(checkpoints[architecture])))
    with open_model(trained("whisper")) as first, open_model(folder) as second:
        one, two = TorchBackend(first), TorchBackend(second)
    np.testing.assert_array_equal(one(speech(9000))[0], two(speech(9000))[0])


def test_another_form_of_the_checkpoint_takes_the_long_way(trained, checkpoints, tmp_path):
    from safetensors.torch import load_file

    upstream = shutil.copytree(checkpoints["whisper_encoder"], tmp_path / "upstream")
    state = load_file(upstream / "model.safetensors")
    torch.save(state, upstream / "pytorch_model.bin")
    (upstream / "model.safetensors").unlink()
    folder = shutil.copytree(trained("whisper"), tmp_path / "model")
    config = (folder / "config.yaml").read_text()
    config = config.replace(str(checkpoints["whisper"]), str(upstream))
    (folder / "config.yaml").write_text(config)
    with open_model(trained("whisper")) as first, open_model(folder) as second:
        one, two = TorchBackend(first), TorchBackend(second)
    assert isinstance(two.network, TrainedModel)
    np.testing.assert_allclose(one(speech(9000))[0], two(speech(9000))[0], atol=2e-4)


def test_a_network_that_differs_is_noticed(trained, monkeypatch):
    with open_model(trained("fbank")) as files:
        model = trained_model(files)
        assert check_network(files, model) < 2e-4
        model.model.normalize.mean += 0.1
        with pytest.raises(UserError, match="its logits differ from the trained model's: "):
            check_network(files, model)


def test_nothing_heavy_is_imported(trained):
    archive = trained.packed("whisper")
    code = (
        "import sys; from espnet_mtkd import EmotionRecognizer;"
        f"EmotionRecognizer.from_pretrained({str(archive)!r});"
        "print([m for m in ('transformers', 's3prl', 'espnet2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_config_of_the_folder_is_what_counts(trained, checkpoints):
    # The tiny Whisper has 20 mel bands, not 80.
    config = json.loads((checkpoints["whisper"] / "config.json").read_text())
    with open_model(trained("whisper")) as files:
        features = TorchBackend(files).network.features
    assert features.conv1.in_channels == config["num_mel_bins"] == 20

"""Encoders on filter banks, and the students that the shipped configs make."""

from __future__ import annotations

import argparse

import librosa
import numpy as np
import pytest
import torch
import transformers as hf

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.encoders import ConformerEncoder, ConvEncoder, ConvStack, FrameNorm
from espnet_mtkd.systems import ROOT, read_yaml
from espnet_mtkd.tasks.ser import SERTask

pytestmark = pytest.mark.usefixtures("no_network")

SMALL = dict(channels=(12, 16, 16), kernels=(5, 3, 3), strides=(2, 2, 1))
CONFORMER = dict(num_blocks=2, linear_units=24, attention_heads=2, cnn_module_kernel=7)


def make(name: str, **options) -> ConvEncoder:
    torch.manual_seed(0)
    if name == "conv":
        return ConvEncoder(**SMALL, **options)
    return ConformerEncoder(**SMALL, conformer_conf=CONFORMER, **options)


def padded(*samples: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    wavs = [0.1 * torch.randn(n, generator=generator) for n in samples]
    lengths = torch.tensor([len(wav) for wav in wavs])
    return torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True), lengths, wavs


# ---- padding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv", "conformer"])
def test_padding_does_not_matter(name):
    speech, lengths, wavs = padded(30000, 16123, 7000, 200, 1)
    encoder = make(name)
    encoder(speech, lengths)  # in training: running statistics of its own
    encoder.eval()
    with torch.no_grad():
        for value in (0.0, 3.0):  # silence, and what lies behind a cut
            for row, n in enumerate(lengths):
                speech[row, n:] = value
            (states,), (frames,) = encoder(speech, lengths)
            for row, wav in enumerate(wavs):
                (alone,), (n,) = encoder(wav[None], lengths[row : row + 1])
                assert n == frames[row] == alone.shape[1]
                torch.testing.assert_close(states[row, :n], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["conv", "conformer"])
def test_logits_of_a_model_do_not_depend_on_the_batch(name):
    model = classifier(frontend=name, pooling="stats", frontend_conf=dict(SMALL)).eval()
    speech, lengths, wavs = padded(30000, 16123, 7000)
    with torch.no_grad():
        together = model.logits(speech, lengths)
        alone = [model.logits(wav[None], n[None]) for wav, n in zip(wavs, lengths, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["conv", "conformer"])
def test_half_precision(name):
    wavs, lengths, _ = padded(8000, 6000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, _ = make(name).train()(wavs, lengths)
    assert all(layer.isfinite().all() for layer in states)


def test_statistics_are_of_valid_frames():
    norm, mask = FrameNorm(3, momentum=1.0), torch.ones(2, 1, 5)
    mask[1, :, 2:] = 0
    x = torch.randn(2, 3, 5)
    y = norm(x, mask)
    frames = torch.cat([x[0].T, x[1, :, :2].T]).numpy()
    expected = (frames - frames.mean(0)) / np.sqrt(frames.var(0) + 1e-5)
    found = torch.cat([y[0].T, y[1, :, :2].T]).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (y[1, :, 2:] == 0).all()
    np.testing.assert_allclose(norm.mean, frames.mean(0), atol=1e-6)
    np.testing.assert_allclose(norm.variance, frames.var(0), rtol=1e-5)
    norm.eval()
    np.testing.assert_allclose(norm(x, mask)[0].T.detach(), expected[:5], atol=1e-5)


# ---- what comes out ----------------------------------------------------------------------------


def test_filter_banks_are_librosas():
    speech, lengths, _ = padded(16000)
    found, frames = make("conv").features(speech, lengths)
    signal = np.pad(speech[0].numpy(), 256)
    options = dict(n_fft=512, hop_length=160, win_length=400, center=False)
    power = np.abs(librosa.stft(signal, window="hann", **options)) ** 2
    mel = librosa.filters.mel(sr=16000, n_fft=512, n_mels=80) @ power
    assert frames.tolist() == [101] and found.shape == (1, 101, 80)
    np.testing.assert_allclose(found[0], np.log(np.maximum(mel, 1e-10)).T, atol=1e-2)


@pytest.mark.parametrize(("name", "size"), [("conv", 16), ("conformer", 16)])
def test_interface_of_an_upstream(name, size):
    encoder = make(name)
    (states,), (frames,) = encoder(*padded(16000, 8000)[:2])
    # 101 and 51 frames of 10 ms, every fourth of them.
    assert states.shape == (2, 26, size) and frames.tolist() == [26, 13]
    assert encoder.output_size() == size and encoder.num_layers == 1 and encoder.mode == "own"
    assert encoder.num_params() == sum(p.numel() for p in encoder.parameters())


def test_a_layer_that_changes_no_size_adds_to_its_input():
    stack, x = ConvStack(4, [4, 4], [3, 3], [1, 2]).eval(), torch.randn(1, 4, 1)
    for convolution in stack.convolutions:
        torch.nn.init.zeros_(convolution.weight)
        torch.nn.init.zeros_(convolution.bias)
    lengths = torch.tensor([1])
    assert torch.equal(ConvStack.forward(stack, x, lengths)[0], torch.zeros(1, 4, 1))
    stack.convolutions, stack.norms = stack.convolutions[:1], stack.norms[:1]
    assert torch.equal(stack(x, lengths)[0], x)  # even where strides change no length


def test_all_parameters_learn():
    for name in ("conv", "conformer"):
        encoder = make(name)
        (states,), _ = encoder(*padded(16000, 8000)[:2])
        (states * torch.randn_like(states)).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_specaug_is_for_training():
    conf = dict(apply_time_warp=False, time_mask_width_range=[5, 30], freq_mask_width_range=[5, 20])
    encoder, (speech, lengths, _) = make("conv", specaug_conf=conf), padded(16000, 16000)
    plain = make("conv")
    speech[1] = speech[0]
    (states,), _ = encoder(speech, lengths)
    (expected,), _ = plain(speech, lengths)
    assert not torch.equal(states[0], states[1]) and torch.equal(expected[0], expected[1])
    encoder.eval(), plain.eval()
    plain.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(speech, lengths)[0][0], plain(speech, lengths)[0][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(channels=[8], kernels=[3, 3], strides=[2]), "must have a value for each layer"),
        (dict(channels=[8], kernels=[4], strides=[2]), "kernels odd ones"),
        (dict(channels=[], kernels=[], strides=[]), "must have a value for each layer"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=f"frontend_conf: channels .*{message}"):
        ConvEncoder(**options)


def test_an_option_that_the_conformer_does_not_have():
    with pytest.raises(UserError, match="conformer_conf: .*warmth"):
        ConformerEncoder(**SMALL, conformer_conf={"warmth": 3})


# ---- the shipped students ----------------------------------------------------------------------


def classifier(**config):
    names = ("frontend", "pooling", "normalize", "head", "model")
    conf = {f"{name}_conf": {} for name in names}
    base = dict(frontend="s3prl", pooling="mean", normalize=None, head="mlp", layers=None)
    args = {**conf, **base, "feats_info": None, **config}
    args.update(emotions=list("ahns"), languages=["de", "en", "it", "ur"])
    return SERTask.build_model(argparse.Namespace(**args))


@pytest.mark.parametrize(
    ("name", "millions"), [("conv_300k", 0.3), ("conv_1m", 1.0), ("conformer_5m", 5.0)]
)
def test_sizes_of_small_students(name, millions):
    counts = classifier(**read_yaml(ROOT / "conf" / f"train_{name}.yaml")).count_params()
    assert counts["num_trainable"] == counts["num_params"]
    assert counts["num_params"] == pytest.approx(1e6 * millions, rel=0.06)


@pytest.fixture(scope="module")
def whisper_base(tmp_path_factory):
    """A folder of an untrained encoder of the size of Whisper base."""
    folder = tmp_path_factory.mktemp("whisper_base")
    sizes = dict(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048)
    config = hf.WhisperConfig(**sizes, num_mel_bins=80)
    with torch.device("meta"):
        encoder = hf.models.whisper.modeling_whisper.WhisperEncoder(config)
    encoder.to_empty(device="cpu").half().save_pretrained(folder)
    hf.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "millions"), [("cut_300k", 0.32), ("slice_5m", 5.0), ("slice_20m", 20.0)]
)
def test_sizes_of_slices(whisper_base, name, millions):
    config = read_yaml(ROOT / "conf" / f"train_{name}.yaml")
    own = dict(upstream="hf_whisper_custom", path_or_url=str(whisper_base), mode="finetune")
    config["frontend_conf"] = {**config["frontend_conf"], **own}
    model = classifier(**config)
    assert model.count_params()["num_params"] == pytest.approx(1e6 * millions, rel=0.06)
    assert model.frontend.num_layers == config["frontend_conf"]["keep_layers"] + 1

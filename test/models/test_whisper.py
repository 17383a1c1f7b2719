"""The Whisper upstream against transformers' own encoder; 3 s of speech are its limit here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.upstream import Upstream
from espnet_mtkd.models.whisper import WhisperUpstream

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def upstream(checkpoints) -> WhisperUpstream:
    return WhisperUpstream(str(checkpoints["whisper"])).eval()


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(int(seconds * 16000), generator=generator)


@torch.no_grad()
def test_equals_transformers_at_full_length(checkpoints, upstream):
    folder = checkpoints["whisper"]
    wav = noise(3)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    mel = extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    np.testing.assert_allclose(upstream.log_mel(wav), mel[0], atol=1e-4)
    encoder = transformers.WhisperModel.from_pretrained(folder).encoder.eval()
    theirs = encoder(mel, output_hidden_states=True).hidden_states
    ours = upstream([wav])["hidden_states"]
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == (1, 150, 16)
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_batch_changes_nothing(upstream):
    wavs = [noise(1.0, 1), noise(0.13, 2), noise(1.777, 3)]
    batch = upstream(wavs)["hidden_states"]
    for row, wav in enumerate(wavs):
        for together, alone in zip(batch, upstream([wav])["hidden_states"], strict=True):
            torch.testing.assert_close(
                together[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5
            )


@torch.no_grad()
def test_frames_cover_every_sample(upstream):
    for samples, frames in ((16000, 50), (16001, 51), (1600, 5), (48000, 150)):
        assert upstream([torch.zeros(samples)])["hidden_states"][0].shape[1] == frames


@torch.no_grad()
def test_a_folder_with_only_the_encoder_is_the_same(checkpoints, upstream):
    alone = WhisperUpstream(str(checkpoints["whisper_encoder"])).eval()
    assert alone.state_dict().keys() == upstream.state_dict().keys()
    assert not any("decoder" in key for key in upstream.state_dict())
    wav = noise(0.5)
    for a, b in zip(alone([wav])["hidden_states"], upstream([wav])["hidden_states"], strict=True):
        assert torch.equal(a, b)


def test_too_long_an_input(upstream):
    with pytest.raises(UserError, match="at most 3 s of speech"):
        upstream([noise(3.1)])


@torch.no_grad()
def test_silence_is_finite(upstream):
    assert all(h.isfinite().all() for h in upstream([torch.zeros(8000)])["hidden_states"])


@torch.no_grad()
def test_a_slice_has_the_first_layers(checkpoints, upstream):
    folder = str(checkpoints["whisper"])
    part = WhisperUpstream(folder, keep_layers=1).eval()
    whole, cut = (u([noise(1.0)])["hidden_states"] for u in (upstream, part))
    assert len(whole) == 3 and len(cut) == 2
    assert torch.equal(cut[0], whole[0])
    torch.testing.assert_close(cut[1], part.model.layer_norm(whole[1]))
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in upstream.parameters())
    raw = WhisperUpstream(folder, keep_layers=1, raw=True).eval()
    assert torch.equal(raw([noise(1.0)])["hidden_states"][1], whole[1])
    stem = WhisperUpstream(folder, keep_layers=0, raw=True).eval()
    (state,) = stem([noise(1.0)])["hidden_states"]
    assert torch.equal(state, whole[0])
    for wrong in (-1, 3):
        with pytest.raises(UserError, match=f"keep_layers {wrong}: .* has 2 layers"):
            WhisperUpstream(folder, keep_layers=wrong)


@torch.no_grad()
def test_a_cut_has_the_filters_with_the_greatest_norms(checkpoints):
    folder = str(checkpoints["whisper"])
    whole = WhisperUpstream(folder, keep_layers=0).model
    size = whole.conv2.out_channels
    cut = WhisperUpstream(folder, keep_layers=0, raw=True, keep_channels=[3, 2])
    first, second = (
        sorted(range(size), key=lambda i: -conv.weight[i].abs().sum())[:count]
        for conv, count in ((whole.conv1, 3), (whole.conv2, 2))
    )
    mel = cut.log_mel(noise(1.0))[None]
    weights = whole.conv1.weight[sorted(first)], whole.conv1.bias[sorted(first)]
    heard = F.gelu(F.conv1d(mel, *weights, padding=1))
    weights = whole.conv2.weight[sorted(second)][:, sorted(first)], whole.conv2.bias[sorted(second)]
    expected = F.gelu(F.conv1d(heard, *weights, stride=2, padding=1)).transpose(1, 2)
    (found,) = cut([noise(1.0)])["hidden_states"]
    torch.testing.assert_close(found, expected)
    (normalised,) = WhisperUpstream(folder, 0, keep_channels=[3, 2])([noise(1.0)])["hidden_states"]
    torch.testing.assert_close(normalised, F.layer_norm(expected, [2]))


def test_channels_that_cannot_be_kept(checkpoints):
    folder = str(checkpoints["whisper"])
    size = WhisperUpstream(folder).model.conv2.out_channels
    for wrong in ([], [3], [3, size + 1], [0, 3], 3, "3,2", [3, 2.5]):
        with pytest.raises(UserError, match=f"two numbers from 1 to {size}"):
            WhisperUpstream(folder, keep_layers=0, keep_channels=wrong)
    with pytest.raises(UserError, match="keep_channels needs keep_layers: 0"):
        WhisperUpstream(folder, keep_layers=1, keep_channels=[3, 2])
    with pytest.raises(UserError, match="mode must be finetune, not frozen"):
        Upstream("hf_whisper_custom", folder, keep_layers=0, keep_channels=[3, 2])
    with pytest.raises(UserError, match="keep_channels is for hf_whisper_custom only, not for"):
        Upstream("fbank", mode="finetune", keep_channels=[3, 2])


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_a_slice_as_an_upstream(checkpoints, mode):
    path = str(checkpoints["whisper"])
    part = Upstream("hf_whisper_custom", path, mode, keep_layers=1, raw=mode == "frozen")
    whole = Upstream("hf_whisper_custom", str(checkpoints["whisper"]), mode)
    assert (part.num_layers, whole.num_layers) == (2, 3)
    assert part.num_params() < whole.num_params()
    norm = 0 if mode == "finetune" else 2 * whole.output_size()  # which no part of a whole needs
    facts = dict(num_layers=3, hidden_size=whole.output_size(), num_params=whole.num_params())
    known = Upstream("hf_whisper_custom", layer_params=whole.layer_params(), **facts)
    assert known.num_params(1) == part.num_params() + norm
    assert known.num_params() == known.num_params(2) == whole.num_params()
    states, _ = part(noise(1.0)[None], torch.tensor([16000]))
    assert len(states) == 2
    same = torch.equal(states[1], whole(noise(1.0)[None], torch.tensor([16000]))[0][1])
    assert same == (mode == "frozen")
    with pytest.raises(UserError, match="keep_layers is for hf_whisper_custom only, not for fbank"):
        Upstream("fbank", mode=mode, keep_layers=1)

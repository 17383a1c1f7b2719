"""WavLM and wav2vec2-BERT against transformers' own forward."""

from __future__ import annotations

import pytest
import torch
import transformers

from espnet_mtkd.models.hf_upstreams import Wav2Vec2BertUpstream, WavLMUpstream, extend
from espnet_mtkd.models.upstream import Upstream, upstream_names

pytestmark = pytest.mark.usefixtures("no_network")


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(int(seconds * 16000), generator=generator)


def make(checkpoints, kind: str) -> torch.nn.Module:
    entry = Wav2Vec2BertUpstream if kind == "wav2vec2_bert" else WavLMUpstream
    return entry(str(checkpoints[kind])).eval()


def test_extend():
    states = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])
    longer = extend(states, torch.tensor([3, 1]), 4)
    assert longer[:, :, 0].tolist() == [[1, 2, 3, 3], [4, 4, 4, 4]]


@pytest.mark.parametrize("kind", ["wavlm", "wavlm_layer", "wav2vec2_bert"])
@torch.no_grad()
def test_equals_transformers(checkpoints, kind):
    folder = checkpoints[kind]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    wav = noise(1.234)
    inputs = extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt")
    theirs = model(**inputs, output_hidden_states=True).hidden_states
    ours = make(checkpoints, kind)([wav])["hidden_states"]
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs, strict=True):
        frames = int(inputs["attention_mask"].sum()) if kind == "wav2vec2_bert" else b.shape[1]
        assert a.shape[1] == -(-len(wav) // 320) and a.shape[1] - frames in (0, 1, 2)
        torch.testing.assert_close(a[:, :frames], b[:, :frames], atol=1e-5, rtol=1e-5)
        assert torch.equal(
            a[:, frames:], a[:, frames - 1 : frames].expand(-1, a.shape[1] - frames, -1)
        )


@pytest.mark.parametrize("kind", ["wavlm_layer", "wav2vec2_bert"])
@torch.no_grad()
def test_a_batch_changes_nothing(checkpoints, kind):
    upstream = make(checkpoints, kind)
    assert upstream.padding_is_invisible
    wavs = [noise(1.0, 1), noise(0.13, 2), noise(1.777, 3), noise(1.7, 4)]
    batch = upstream(wavs)["hidden_states"]
    for row, wav in enumerate(wavs):
        for together, alone in zip(batch, upstream([wav])["hidden_states"], strict=True):
            own = together[row, : alone.shape[1]]
            torch.testing.assert_close(own, alone[0], atol=1e-5, rtol=1e-5)


def test_group_normalisation_sees_padding(checkpoints):
    assert not make(checkpoints, "wavlm").padding_is_invisible


@torch.no_grad()
def test_the_frontend_runs_group_normalisation_by_length(checkpoints):
    frontend = Upstream("hf_wavlm_custom", str(checkpoints["wavlm"]))
    assert not frontend.padding_is_invisible
    wavs = [noise(0.5, 1), noise(0.3, 2), noise(0.5, 3)]
    lengths = torch.tensor([len(w) for w in wavs])
    states, frames = frontend(torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True), lengths)
    for row, wav in enumerate(wavs):
        alone, _ = frontend(wav[None], lengths[row : row + 1])
        own = states[-1][row, : int(frames[-1][row])]
        torch.testing.assert_close(own, alone[-1][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["wavlm", "wavlm_layer", "wav2vec2_bert"])
def test_all_parameters_can_be_trained(checkpoints, kind):
    name = "hf_wav2vec2_bert_custom" if kind == "wav2vec2_bert" else "hf_wavlm_custom"
    options = dict(mode="finetune", freeze_feature_encoder=False)
    frontend = Upstream(name, str(checkpoints[kind]), **options).train()
    wavs = torch.stack([noise(0.4, 1), noise(0.4, 2)])
    states, _ = frontend(wavs, torch.tensor([6400, 5000]))
    sum(h.pow(2).sum() for h in states).backward()
    without = [n for n, p in frontend.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_s3prl_knows_them():
    assert {"hf_wavlm_custom", "hf_wav2vec2_bert_custom"} <= set(upstream_names())

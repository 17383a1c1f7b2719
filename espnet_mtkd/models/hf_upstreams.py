"""WavLM and wav2vec2-BERT of Hugging Face folders as S3PRL upstreams, with all hidden layers.

Importing this module makes ``hf_wavlm_custom`` and ``hf_wav2vec2_bert_custom`` known to S3PRL,
which has neither. Models: Chen et al. 2022 (arXiv 2110.13900) and Barrault et al. 2023 (arXiv
2312.05187). A folder is read as it is; nothing is downloaded.

An upstream has a frame for every 320 samples or part of them, as S3PRL counts. The models have one
or two fewer; the last frame stands in for those, as S3PRL does it, but for each utterance its own,
so that a batch changes nothing.
"""

from __future__ import annotations

import s3prl.hub
import torch
import torch.nn.functional as F

from espnet_mtkd.data.wavheader import SAMPLE_RATE

STRIDE = 320  # samples a frame


def extend(states: torch.Tensor, valid: torch.Tensor, frames: int) -> torch.Tensor:
    """Repeat each utterance's last valid frame up to ``frames``.

    Args:
        states: (Batch, Time, D).
        valid: valid frames of each utterance (Batch,), at least 1.
        frames: number of frames of the result.
    """
    index = torch.arange(frames, device=states.device)[None, :].minimum(valid[:, None] - 1)
    return states.gather(1, index[:, :, None].expand(-1, -1, states.shape[-1]))


class _Upstream(torch.nn.Module):
    """What both have in common."""

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame."""
        return STRIDE

    def finish(
        self,
        hidden_states: tuple[torch.Tensor, ...],
        valid: torch.Tensor,
        wavs: list[torch.Tensor],
    ) -> dict[str, list[torch.Tensor]]:
        """Return the states with S3PRL's number of frames."""
        frames = -(-max(len(wav) for wav in wavs) // STRIDE)
        return {"hidden_states": [extend(h, valid, frames) for h in hidden_states]}


class WavLMUpstream(_Upstream):
    """WavLM of a local Hugging Face folder.

    Args:
        ckpt: the folder.
    """

    def __init__(self, ckpt: str) -> None:
        super().__init__()
        from transformers import Wav2Vec2FeatureExtractor, WavLMModel

        self.model = WavLMModel.from_pretrained(ckpt, dtype=torch.float32)
        self.do_normalize = Wav2Vec2FeatureExtractor.from_pretrained(ckpt).do_normalize
        # Group normalisation, of the base models, runs over time and sees the padding.
        self.padding_is_invisible = self.model.config.feat_extract_norm == "layer"

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Return the hidden states of waveforms (Samples,) at 16 kHz, (Batch, Frames, D) each."""
        if self.do_normalize:
            wavs = [(w - w.mean()) / (w.var(correction=0) + 1e-7).sqrt() for w in wavs]
        lengths = torch.tensor([len(wav) for wav in wavs], device=wavs[0].device)
        batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        mask = None
        # The base models were trained without a mask; among equal lengths there is nothing to mask.
        if self.padding_is_invisible and bool((lengths != lengths[0]).any()):
            mask = (torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]).long()
        states = self.model(batch, attention_mask=mask, output_hidden_states=True).hidden_states
        valid = self.model._get_feat_extract_output_lengths(lengths)
        return self.finish(states, valid, wavs)


class Wav2Vec2BertUpstream(_Upstream):
    """wav2vec2-BERT of a local Hugging Face folder; its input are filter banks.

    Args:
        ckpt: the folder.
    """

    padding_is_invisible = True

    def __init__(self, ckpt: str) -> None:
        super().__init__()
        from transformers import AutoFeatureExtractor, Wav2Vec2BertModel

        self.model = Wav2Vec2BertModel.from_pretrained(ckpt, dtype=torch.float32)
        self.extractor = AutoFeatureExtractor.from_pretrained(ckpt)

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Return the hidden states of waveforms (Samples,) at 16 kHz, (Batch, Frames, D) each."""
        device = wavs[0].device
        features = [
            self.extractor(
                wav.detach().cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt"
            )
            for wav in wavs
        ]
        # A frame counts if both of its halves are there.
        valid = torch.stack([f["attention_mask"][0].sum() for f in features]).to(device)
        inputs = [f["input_features"][0, :n] for f, n in zip(features, valid, strict=True)]
        longest = int(valid.max())
        batch = torch.stack([F.pad(x, (0, 0, 0, longest - len(x))) for x in inputs]).to(device)
        mask = (torch.arange(longest, device=device) < valid[:, None]).long()
        states = self.model(batch, attention_mask=mask, output_hidden_states=True).hidden_states
        return self.finish(states, valid, wavs)


def hf_wavlm_custom(ckpt: str, *args: object, **kwargs: object) -> WavLMUpstream:
    """S3PRL's entry point for a local folder with a WavLM model."""
    return WavLMUpstream(ckpt)


def hf_wav2vec2_bert_custom(ckpt: str, *args: object, **kwargs: object) -> Wav2Vec2BertUpstream:
    """S3PRL's entry point for a local folder with a wav2vec2-BERT model."""
    return Wav2Vec2BertUpstream(ckpt)


s3prl.hub.hf_wavlm_custom = hf_wavlm_custom
s3prl.hub.hf_wav2vec2_bert_custom = hf_wav2vec2_bert_custom

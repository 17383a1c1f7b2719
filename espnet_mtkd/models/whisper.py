"""The encoder of Whisper as an S3PRL upstream: every layer, and no padding to 30 seconds.

transformers' own encoder takes 30 s of input, whatever the length of the speech. Here an utterance
costs what its length costs, and attention does not see what was padded. Importing this module makes
``hf_whisper_custom`` known to S3PRL. Model: Radford et al. 2022, https://arxiv.org/abs/2212.04356
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import s3prl.hub
import torch
import torch.nn.functional as F

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError

STRIDE = 320  # samples a frame: a hop of 160, and the second convolution's stride of 2


class WhisperUpstream(torch.nn.Module):
    """Whisper encoder of a local Hugging Face folder, in the form that S3PRL expects.

    Args:
        ckpt: the folder. A whole Whisper model will do; only its encoder is kept in memory.
        keep_layers: keep the first of the encoder's layers, 0 for the convolutions alone; None
            (default): all.
        raw: of such a slice the last state is what it is in the whole encoder; default False: it
            is normalised, as the end of an encoder is.
        keep_channels: of the two convolutions (``keep_layers`` 0) keep so many filters, see
            :meth:`cut`; None (default): all.
    """

    padding_is_invisible = True

    def __init__(
        self,
        ckpt: str,
        keep_layers: int | None = None,
        raw: bool = False,
        keep_channels: Sequence[int] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__()
        from transformers import WhisperConfig, WhisperFeatureExtractor
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        architectures = WhisperConfig.from_pretrained(ckpt).architectures or []
        if "WhisperEncoder" in architectures:
            self.model = WhisperEncoder.from_pretrained(ckpt, dtype=torch.float32)
        else:
            from transformers import WhisperModel

            self.model = WhisperModel.from_pretrained(ckpt, dtype=torch.float32).encoder
        if keep_layers is not None:
            layers = self.model.layers
            if not 0 <= keep_layers <= len(layers):
                raise UserError(
                    f"frontend_conf: keep_layers {keep_layers}: {ckpt} has {len(layers)} layers"
                )
            self.model.layers = layers[:keep_layers]
            if raw:
                self.model.layer_norm = torch.nn.Identity()
        if keep_channels is not None:
            self.cut(keep_channels)
        extractor = WhisperFeatureExtractor.from_pretrained(ckpt)
        self.n_fft, self.hop = extractor.n_fft, extractor.hop_length
        filters = np.asarray(extractor.mel_filters, dtype=np.float32)
        self.register_buffer("mel_filters", torch.from_numpy(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    @torch.no_grad()
    def cut(self, channels: Sequence[int]) -> None:
        """Keep the filters of each convolution whose weights have the greatest L1 norm.

        Li et al. 2017, https://arxiv.org/abs/1608.08710. What is left has to be trained. It has no
        positions, which only layers need.

        Args:
            channels: how many of the first and of the second convolution.

        Raises:
            UserError: more than there are, or layers follow.
        """
        model, size = self.model, self.model.conv2.out_channels
        counts = channels if isinstance(channels, (list, tuple)) else []
        if len(counts) != 2 or not all(type(n) is int and 0 < n <= size for n in counts):
            raise UserError(
                f"frontend_conf: keep_channels {channels}: must be two numbers from 1 to {size}, "
                "of the first and the second convolution"
            )
        if len(model.layers):
            raise UserError("frontend_conf: keep_channels needs keep_layers: 0")
        inputs = torch.arange(model.conv1.in_channels)
        for name, count in zip(("conv1", "conv2"), channels, strict=True):
            whole = getattr(model, name)
            norms = whole.weight.abs().sum((1, 2))
            kept = norms.topk(count).indices.sort().values
            part = torch.nn.Conv1d(len(inputs), count, 3, whole.stride, 1)
            part.weight.copy_(whole.weight[kept][:, inputs])
            part.bias.copy_(whole.bias[kept])
            setattr(model, name, part)
            inputs = kept
        if isinstance(model.layer_norm, torch.nn.LayerNorm):
            model.layer_norm = torch.nn.LayerNorm(channels[1])
        model.embed_positions = None

    @property
    def cuttable_layers(self) -> torch.nn.ModuleList:
        """The layers, all of a size; ``keep_layers`` leaves the later ones away."""
        return self.model.layers

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame."""
        return STRIDE

    def log_mel(self, wav: torch.Tensor) -> torch.Tensor:
        """Return the log-mel spectrogram (Mels, Frames) of one waveform (Samples,)."""
        # A multiple of the stride, so that every sample lies in a frame.
        wav = F.pad(wav, (0, -len(wav) % STRIDE))
        spectrum = torch.stft(wav, self.n_fft, self.hop, window=self.window, return_complex=True)
        power = spectrum[:, :-1].abs() ** 2
        mel = (self.mel_filters.T @ power).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Return the hidden states of waveforms (Samples,) at 16 kHz, (Batch, Frames, D) each.

        The states are the input of the first layer, the output of every layer but the last, and
        the normalised output of the last, as transformers returns them.
        """
        model = self.model
        mels = [self.log_mel(wav) for wav in wavs]
        frames = torch.tensor([mel.shape[1] // 2 for mel in mels], device=wavs[0].device)
        longest = int(frames.max())
        if longest > model.max_source_positions:
            seconds = model.max_source_positions * STRIDE / SAMPLE_RATE
            raise UserError(f"Whisper takes at most {seconds:.0f} s of speech at a time")
        mel = torch.stack([F.pad(mel, (0, 2 * longest - mel.shape[1])) for mel in mels])
        # The last valid frame of the second convolution, with its stride of 2, sees no padding.
        states = F.gelu(model.conv2(F.gelu(model.conv1(mel)))).transpose(1, 2)
        if model.embed_positions is not None:
            states = states + model.embed_positions.weight[:longest]
        valid = torch.arange(longest, device=mel.device) < frames[:, None]
        mask = None
        if not bool(valid.all()):
            mask = torch.zeros(valid.shape, dtype=states.dtype, device=states.device)
            mask = mask.masked_fill(~valid, -math.inf)[:, None, None, :].expand(-1, 1, longest, -1)
        states = F.dropout(states, p=model.dropout, training=self.training)
        hidden = [states]
        for layer in model.layers:
            output = layer(states, mask)
            states = output[0] if isinstance(output, tuple) else output
            hidden.append(states)
        hidden[-1] = model.layer_norm(states)
        return {"hidden_states": hidden}


def hf_whisper_custom(ckpt: str, *args: object, **kwargs: Any) -> WhisperUpstream:
    """S3PRL's entry point for a local folder with a Whisper model."""
    return WhisperUpstream(ckpt, **kwargs)


s3prl.hub.hf_whisper_custom = hf_whisper_custom

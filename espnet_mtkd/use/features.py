"""Upstreams in plain torch, for recordings of equal length: what predicts and what is exported.

S3PRL, transformers and ESPnet take up to ten seconds to import and have control flow that cannot be
exported. The upstreams here give the same hidden states without them (``mtkd pack`` and ``mtkd
export`` check that); every other upstream is run by the model that was trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio
from torchaudio.compliance.kaldi import get_mel_banks

from espnet_mtkd.data.wavheader import SAMPLE_RATE

STRIDE = 320  # samples a frame of Whisper
_FRAME, _SHIFT, _FFT = 400, 160, 512  # of the filter banks: 25 ms, 10 ms


def repeat_last(states: torch.Tensor, frames: int) -> torch.Tensor:
    """Repeat the last frame of (Batch, Frames, D) up to ``frames``, as S3PRL does."""
    last = states[:, -1:].expand(-1, frames - states.shape[1], -1)
    return torch.cat([states, last], dim=1)


class FilterBanks(torch.nn.Module):
    """S3PRL's ``fbank``: 80 log mel filter banks as Kaldi has them, with two orders of deltas.

    Everything up to the power spectrum is linear (no offset, pre-emphasis, window, Fourier
    transform) and therefore one convolution.

    Args:
        normalize: give every dimension of a recording mean 0 and deviation 1 (``fbank``), or
            leave them as they are (``fbank_no_cmvn``).
    """

    max_seconds = None

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize
        frames = torch.eye(_FRAME, dtype=torch.float64)  # one sample is 1: the transform's rows
        frames = frames - frames.mean(1, keepdim=True)
        frames = frames - 0.97 * torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        frames = frames * torch.hann_window(_FRAME, False, dtype=torch.float64).pow(0.85)
        spectrum = torch.fft.rfft(frames, _FFT)
        kernel = torch.cat([spectrum.real, spectrum.imag], dim=1).T[:, None]
        self.register_buffer("kernel", kernel.float(), persistent=False)
        banks, _ = get_mel_banks(80, _FFT, 16000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
        banks = F.pad(banks, (0, _FFT // 2 + 1 - banks.shape[1]))
        self.register_buffer("banks", banks.T.contiguous(), persistent=False)
        slope = torch.arange(-2.0, 3.0).expand(80, 1, 5) / 10
        self.register_buffer("slope", slope.contiguous(), persistent=False)

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """Return the slope over five frames of (Batch, Frames, 80)."""
        x = F.pad(x.transpose(1, 2), (2, 2), mode="replicate")
        return F.conv1d(x, self.slope, groups=80).transpose(1, 2)

    def forward(self, speech: torch.Tensor) -> list[torch.Tensor]:
        """Return the features (Batch, Frames, 240) of (Batch, Samples) at 16 kHz."""
        real, imaginary = F.conv1d(speech[:, None], self.kernel, stride=_SHIFT).chunk(2, dim=1)
        power = (real.square() + imaginary.square()).transpose(1, 2)
        banks = (power @ self.banks).clamp(min=torch.finfo(torch.float32).eps).log()
        first = self.delta(banks)
        states = torch.cat([banks, first, self.delta(first)], dim=-1)
        if self.normalize:
            states = (states - states.mean(1, keepdim=True)) / (states.std(1, keepdim=True) + 1e-10)
        return [repeat_last(states, (speech.shape[1] + _SHIFT - 1) // _SHIFT)]


class WhisperLayer(torch.nn.Module):
    """A layer of Whisper's encoder, with the names that transformers gives its parameters."""

    def __init__(self, size: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = torch.nn.Module()
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            projection = torch.nn.Linear(size, size, bias=name != "k_proj")
            self.self_attn.add_module(name, projection)
        self.self_attn_layer_norm = torch.nn.LayerNorm(size)
        self.fc1 = torch.nn.Linear(size, hidden)
        self.fc2 = torch.nn.Linear(hidden, size)
        self.final_layer_norm = torch.nn.LayerNorm(size)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Pass on (Batch, Frames, D)."""
        attention, x = self.self_attn, self.self_attn_layer_norm(states)
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        states = states + attention.out_proj(x)
        x = self.fc2(F.gelu(self.fc1(self.final_layer_norm(states))))
        return states + x


class WhisperEncoder(torch.nn.Module):
    """Whisper's encoder, see :mod:`espnet_mtkd.models.whisper`.

    Args:
        config: ``config.json`` of the Hugging Face folder.
        preprocessor: ``preprocessor_config.json`` of the folder.
        raw: the last state is not normalised, a slice as it is in the whole. Default False.
        channels: of the convolutions, which then have no positions; None (default): all.
    """

    def __init__(
        self,
        config: dict[str, Any],
        preprocessor: dict[str, Any],
        raw: bool = False,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        first, size = channels or 2 * [config["d_model"]]
        mels, self.max_positions = config["num_mel_bins"], config["max_source_positions"]
        self.n_fft = preprocessor.get("n_fft", 400)
        self.hop = preprocessor.get("hop_length", 160)
        self.conv1 = torch.nn.Conv1d(mels, first, 3, padding=1)
        self.conv2 = torch.nn.Conv1d(first, size, 3, stride=2, padding=1)
        self.embed_positions = None
        if channels is None:
            self.embed_positions = torch.nn.Embedding(self.max_positions, size)
        heads, hidden = config["encoder_attention_heads"], config["encoder_ffn_dim"]
        layers = [WhisperLayer(size, heads, hidden) for _ in range(config["encoder_layers"])]
        self.layers = torch.nn.ModuleList(layers)
        self.layer_norm = torch.nn.Identity() if raw else torch.nn.LayerNorm(size)
        bins = self.n_fft // 2 + 1
        time = torch.arange(self.n_fft, dtype=torch.float64)
        window = torch.hann_window(self.n_fft, dtype=torch.float64)
        angle = 2 * math.pi / self.n_fft * torch.outer(torch.arange(bins).double(), time)
        kernel = torch.cat([angle.cos(), angle.sin()]) * window
        self.register_buffer("kernel", kernel[:, None].float(), persistent=False)
        filters = torchaudio.functional.melscale_fbanks(
            bins, 0.0, 8000.0, mels, 16000, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)

    @property
    def max_seconds(self) -> float:
        """Longest speech that there are positions for."""
        return self.max_positions * STRIDE / SAMPLE_RATE

    def log_mel(self, speech: torch.Tensor) -> torch.Tensor:
        """Return log-mel spectrograms (Batch, Mels, Frames), a frame for every 160 samples."""
        padding = -speech.shape[1] % STRIDE
        speech = F.pad(speech, (0, padding))
        framed = F.pad(speech[:, None], (self.n_fft // 2, self.n_fft // 2), mode="reflect")
        real, imaginary = F.conv1d(framed, self.kernel, stride=self.hop).chunk(2, dim=1)
        power = (real.square() + imaginary.square())[:, :, :-1]
        mel = (self.filters.T @ power).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    def forward(self, speech: torch.Tensor) -> list[torch.Tensor]:
        """Return all hidden states (Batch, Frames, D) of (Batch, Samples) at 16 kHz."""
        states = F.gelu(self.conv2(F.gelu(self.conv1(self.log_mel(speech))))).transpose(1, 2)
        if self.embed_positions is not None:
            states = states + self.embed_positions.weight[: states.shape[1]]
        hidden = [states]
        for layer in self.layers:
            states = layer(states)
            hidden.append(states)
        hidden[-1] = self.layer_norm(states)
        return hidden


def empty_whisper(
    folder: Path,
    num_layers: int | None = None,
    raw: bool = False,
    channels: Sequence[int] | None = None,
) -> WhisperEncoder:
    """Make the encoder that a Hugging Face folder describes, without its parameters.

    Args:
        folder: with ``config.json`` and ``preprocessor_config.json``.
        num_layers: default None: those of the folder.
        raw, channels: see :class:`WhisperEncoder`.
    """
    config, preprocessor = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("config", "preprocessor_config")
    )
    if num_layers is not None:
        config["encoder_layers"] = num_layers
    return WhisperEncoder(config, preprocessor, raw, channels)


def load_whisper(
    folder: Path,
    state: dict[str, torch.Tensor],
    keep_layers: int | None = None,
    raw: bool = False,
    channels: Sequence[int] | None = None,
) -> WhisperEncoder | None:
    """Load the encoder of a Hugging Face folder.

    Args:
        folder: with ``config.json`` and ``preprocessor_config.json``.
        state: its parameters where they were trained, else empty: they are in the folder.
        keep_layers: the first so many of its layers; None (default): all.
        raw, channels: see :class:`WhisperEncoder`.

    Returns:
        None if the folder has no ``model.safetensors``.
    """
    if not state:
        if not (folder / "model.safetensors").is_file():
            return None
        from safetensors.torch import load_file

        state = load_file(folder / "model.safetensors")
        mark = next((m for m in ("model.encoder.", "encoder.") if m + "conv1.bias" in state), "")
        state = {k.removeprefix(mark): v for k, v in state.items() if k.startswith(mark)}
    encoder = empty_whisper(folder, keep_layers, raw, channels)
    if keep_layers is not None:
        state = {key: state[key] for key in encoder.state_dict()}
    encoder.load_state_dict(state)
    return encoder

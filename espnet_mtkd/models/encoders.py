"""Encoders on log-mel filter banks that are trained from nothing: small students.

They have the interface of :class:`~espnet_mtkd.models.upstream.Upstream`. Outside of training an
utterance's states do not depend on the batch that it is in, nor on what it is padded with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder as ESPnetConformer
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.layers.log_mel import LogMel

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError

N_FFT, WINDOW, HOP = 512, 400, 160  # samples: windows of 25 ms, a frame every 10 ms
MELS = 80


class FrameNorm(torch.nn.Module):
    """Batch normalisation of frames: statistics of the valid frames of a batch, no others.

    Args:
        channels: C.
        momentum: share of a batch in the running statistics, which count in evaluation.
    """

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(channels))
        self.bias = torch.nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.momentum = momentum

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalise (Batch, C, Frames); what the mask (Batch, 1, Frames) has 0 for becomes 0."""
        mean, variance = self.mean, self.variance
        if self.training:
            x = x.to(self.mean)  # sums over a batch need it where the training is in half precision
            count = mask.sum()
            mean = (x * mask).sum((0, 2)) / count
            variance = ((x - mean[:, None]).square() * mask).sum((0, 2)) / count
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        scale = self.weight / (variance + 1e-5).sqrt()
        return (x * scale[:, None] + (self.bias - mean * scale)[:, None]) * mask


class ConvStack(torch.nn.Module):
    """Strided convolutions over time, each with normalisation and rectifier.

    A layer that changes neither channels nor length adds to its input (He et al. 2016).

    Args:
        input_size: channels of the input.
        channels: of the output of each layer.
        kernels: width of each layer in frames, odd.
        strides: of each layer.
        dropout: after each layer.
    """

    def __init__(
        self,
        input_size: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not len(channels) == len(kernels) == len(strides) > 0 or not all(
            k % 2 == 1 for k in kernels
        ):
            raise UserError(
                f"frontend_conf: channels {list(channels)}, kernels {list(kernels)}, strides "
                f"{list(strides)}: must have a value for each layer, kernels odd ones"
            )
        inputs = [input_size, *channels[:-1]]
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv1d(i, o, k, s, k // 2)
            for i, o, k, s in zip(inputs, channels, kernels, strides, strict=True)
        )
        self.norms = torch.nn.ModuleList(FrameNorm(o) for o in channels)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (Batch, C, Frames) and the valid frames for (Batch, input_size, Frames)."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = convolution(x)
            # The frames whose middle is valid: as many as there are without padding.
            lengths = (lengths - 1) // convolution.stride[0] + 1
            y = self.dropout(F.relu(norm(y, valid(lengths, y))))
            same = convolution.in_channels == convolution.out_channels
            x = x + y if same and convolution.stride[0] == 1 else y
        return x, lengths


def valid(lengths: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return 1 for valid frames of (Batch, C, Frames) and 0 for padding, (Batch, 1, Frames)."""
    frames = torch.arange(x.shape[-1], device=x.device)
    return (frames < lengths[:, None])[:, None].to(x.dtype)


class ConvEncoder(AbsFrontend):
    """Strided convolutions on 80 log-mel filter banks.

    Args:
        channels, kernels, strides, dropout: see :class:`ConvStack`; the defaults have 0.25 million
            parameters and a frame every 80 ms.
        specaug_conf: options of ESPnet's ``SpecAug``, which masks normalised filter banks in
            training; None (default): no masks.
    """

    mode = "own"  # trained from nothing, a part of the model
    num_layers = 1
    padding_is_invisible = True

    def __init__(
        self,
        channels: Sequence[int] = (96, 128, 128, 128),
        kernels: Sequence[int] = (5, 5, 5, 3),
        strides: Sequence[int] = (2, 2, 2, 1),
        dropout: float = 0.0,
        specaug_conf: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.log_mel = LogMel(SAMPLE_RATE, N_FFT, MELS)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.norm = FrameNorm(MELS)
        self.specaug = None if specaug_conf is None else SpecAug(**specaug_conf)
        self.stack = ConvStack(MELS, channels, kernels, strides, dropout)

    def output_size(self) -> int:
        """Size D of a frame."""
        return self.stack.convolutions[-1].out_channels

    @property
    def frame_shift(self) -> int:
        """Samples from a frame to the next."""
        return HOP * math.prod(layer.stride[0] for layer in self.stack.convolutions)

    def num_params(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    @torch.no_grad()
    def features(
        self, speech: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-mel filter banks (Batch, Frames, 80) and the valid frames."""
        # Not ESPnet's make_pad_mask, which makes a matrix of samples by samples.
        speech = speech * (torch.arange(speech.shape[1], device=speech.device) < lengths[:, None])
        # Around an utterance there is silence, whether it stands alone or not.
        speech = F.pad(speech, (N_FFT // 2, N_FFT // 2))
        spectrum = torch.stft(
            speech, N_FFT, HOP, WINDOW, self.window, center=False, return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return self.log_mel(power.transpose(1, 2))[0], lengths // HOP + 1

    def forward(
        self, input: torch.Tensor, input_lengths: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the only layer.

        Args:
            input: waveforms at 16 kHz (Batch, Samples), or what :meth:`features` makes of them.
            input_lengths: their lengths (Batch,), in samples, or in frames.

        Returns:
            The states (Batch, Frames, D) and the valid frames (Batch,), in lists of one.
        """
        x, lengths = input, input_lengths
        if x.dim() == 2:
            x, lengths = self.features(x, lengths)
        x = x.transpose(1, 2)
        x = self.norm(x, valid(lengths, x))
        if self.specaug is not None and self.training:
            x = self.specaug(x.transpose(1, 2), lengths)[0].transpose(1, 2)
        x, lengths = self.encode(x, lengths)
        return [x], [lengths]

    def encode(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return states (Batch, Frames, D) for filter banks (Batch, 80, Frames)."""
        x, lengths = self.stack(x, lengths)
        return x.transpose(1, 2), lengths


class ConformerEncoder(ConvEncoder):
    """Strided convolutions and ESPnet's Conformer (Gulati et al. 2020, arXiv 2005.08100) on top.

    Args:
        channels, kernels, strides, dropout, specaug_conf: see :class:`ConvEncoder`; the last of
            ``channels`` is the size of the Conformer.
        conformer_conf: options of ESPnet's ``ConformerEncoder`` beside sizes and input layer.
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 256, 256),
        kernels: Sequence[int] = (5, 5, 5),
        strides: Sequence[int] = (2, 2, 2),
        dropout: float = 0.0,
        specaug_conf: dict[str, Any] | None = None,
        conformer_conf: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(channels, kernels, strides, dropout, specaug_conf)
        conf = dict(rel_pos_type="latest", macaron_style=True, input_layer=None)
        try:
            self.conformer = ESPnetConformer(
                channels[-1], channels[-1], **{**conf, **(conformer_conf or {})}
            )
        except TypeError as error:
            raise UserError(f"frontend_conf: conformer_conf: {error}") from None

    def encode(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return states (Batch, Frames, D) for filter banks (Batch, 80, Frames)."""
        x, lengths = super().encode(x, lengths)
        x, lengths, _ = self.conformer(x, lengths)
        return x, lengths

"""Trained models as networks of operations that can be exported, for waveforms of equal length."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.adapters import MARK, hugging_face_model
from espnet_mtkd.models.encoders import HOP, N_FFT, WINDOW, ConformerEncoder, ConvEncoder
from espnet_mtkd.use.archive import ModelFiles
from espnet_mtkd.use.features import STRIDE, WhisperEncoder, empty_whisper, repeat_last
from espnet_mtkd.use.network import Network
from espnet_mtkd.use.torch_backend import TrainedModel, load_network

WHISPER = "hf_whisper_custom"
# Transformers' models that take waveforms and whose every operation can be exported.
HUGGING_FACE = ("hf_wav2vec2_custom", "hf_hubert_custom", "hf_wavlm_custom")


class HuggingFaceFeatures(torch.nn.Module):
    """The hidden states of a transformers model as S3PRL gives them, for recordings of one length.

    Args:
        model: the transformers model.
        normalize: give every recording mean 0 and variance 1.
    """

    max_seconds = None

    def __init__(self, model: torch.nn.Module, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize

    def forward(self, speech: torch.Tensor) -> list[torch.Tensor]:
        """Return all hidden states (Batch, Frames, D) of (Batch, Samples) at 16 kHz."""
        if self.normalize:
            centred = speech - speech.mean(1, keepdim=True)
            speech = centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()
        states = self.model(speech, output_hidden_states=True).hidden_states
        frames = (speech.shape[1] + STRIDE - 1) // STRIDE
        return [repeat_last(layer, frames) for layer in states]


class EncoderFeatures(torch.nn.Module):
    """An encoder of :mod:`espnet_mtkd.models.encoders`, for recordings of one length.

    Args:
        encoder: the trained one.
    """

    def __init__(self, encoder: ConvEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        # The Fourier transform as a convolution; complex numbers cannot be exported.
        window = F.pad(torch.hann_window(WINDOW, dtype=torch.float64), ((N_FFT - WINDOW) // 2,) * 2)
        spectrum = torch.fft.rfft(torch.diag(window))
        kernel = torch.cat([spectrum.real, spectrum.imag], dim=1).T[:, None]
        self.register_buffer("kernel", kernel.float(), persistent=False)

    @property
    def max_seconds(self) -> float | None:
        """What the table of positions of a Conformer reaches to; None for convolutions."""
        if not isinstance(self.encoder, ConformerEncoder):
            return None
        table = getattr(self.encoder.conformer.embed[-1], "pe", None)
        if table is None:
            return None
        samples = HOP
        for convolution in self.encoder.stack.convolutions:
            samples *= convolution.stride[0]
        frames = table.shape[1] // 2  # it counts from -frames to frames
        return frames * samples / SAMPLE_RATE

    def forward(self, speech: torch.Tensor) -> list[torch.Tensor]:
        """Return the only layer (Batch, Frames, D) of (Batch, Samples) at 16 kHz."""
        encoder = self.encoder
        speech = F.pad(speech, (N_FFT // 2, N_FFT // 2))
        real, imaginary = F.conv1d(speech[:, None], self.kernel, stride=HOP).chunk(2, dim=1)
        power = (real.square() + imaginary.square()).transpose(1, 2)
        x = encoder.log_mel(power)[0].transpose(1, 2)
        x = encoder.norm(x, torch.ones(1, 1, 1))
        x, lengths = encoder.stack(x, torch.full(x.shape[:1], x.shape[2]))
        x = x.transpose(1, 2)
        if isinstance(encoder, ConformerEncoder):
            padding = torch.zeros(x.shape[:2], dtype=torch.bool)
            x = encoder.conformer(x, lengths, masks=padding)[0]
        return [x]


def exportable(files: ModelFiles) -> Network:
    """Return the network of a model in a form that can be exported.

    Raises:
        UserError: its upstream has none.
    """
    if files.upstream not in (None, "fbank", "fbank_no_cmvn", WHISPER, *HUGGING_FACE):
        raise UserError(
            f"{files.name}: upstream {files.upstream} cannot be exported; those that can are "
            f"fbank, fbank_no_cmvn, {WHISPER}, {', '.join(HUGGING_FACE)}, and conv or conformer"
        )
    network = load_network(files)
    return network if isinstance(network, Network) else from_trained(network, files)


def from_trained(trained: TrainedModel, files: ModelFiles) -> Network:
    """Build the network around the encoder or upstream inside a trained model."""
    model = trained.model
    if files.upstream is None:
        features = EncoderFeatures(model.frontend)
    elif files.upstream == WHISPER:
        folder = files.config_file.parent / files.config["frontend_conf"]["path_or_url"]
        features = merged_whisper(model.frontend._module(), folder)
    else:
        upstream = model.frontend._module()
        inner = upstream.upstream
        extractor = getattr(inner, "extracter", None)
        normalize = inner.do_normalize if extractor is None else extractor.do_normalize
        features = HuggingFaceFeatures(hugging_face_model(upstream, "export"), normalize)
    network = Network(
        features,
        "stats" if type(model.pooling).__name__ == "StatsPooling" else "mean",
        model.normalize,
        model.layer_weighting,
        model.head,
        model.language_head,
        model.max_samples,
    )
    return network.eval()


def merged_whisper(upstream: torch.nn.Module, folder: Path) -> WhisperEncoder:
    """Return the encoder of Whisper with its adapters added to the weights that they adapt."""
    model = hugging_face_model(upstream, "export")
    for module in list(model.modules()):
        if hasattr(module, "lora_A"):
            module.merge()
    state = {
        key.replace("base_layer.", ""): value
        for key, value in model.state_dict().items()
        if MARK not in key
    }
    raw = isinstance(model.layer_norm, torch.nn.Identity)
    encoder = empty_whisper(folder, len(model.layers), raw)
    encoder.load_state_dict(state)
    return encoder

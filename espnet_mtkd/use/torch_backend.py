"""Trained models in torch, from their files to logits of waveforms of equal length."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.errors import UserError
from espnet_mtkd.use.archive import ModelFiles
from espnet_mtkd.use.features import STRIDE
from espnet_mtkd.use.network import Network, build_network

# What S3PRL, transformers and torch raise at files that do not fit each other.
BROKEN = (AssertionError, AttributeError, KeyError, TypeError, ValueError, RuntimeError)


class TrainedModel(torch.nn.Module):
    """The model as it was trained, for what :class:`~espnet_mtkd.use.network.Network` has not.

    Args:
        model: from :func:`~espnet_mtkd.tasks.inference.load_model`.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, speech: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits (Batch, C) and, with a language head, those of languages (Batch, L)."""
        lengths = torch.full((len(speech),), speech.shape[1], device=speech.device)
        embedding = self.model.embed(speech, lengths)
        logits = self.model.head(embedding)
        if self.model.language_head is None:
            return (logits,)
        return logits, self.model.language_head(embedding)

    @property
    def max_seconds(self) -> float | None:
        """Longest speech that is heard to its end at a time; None: any."""
        longest = [] if self.model.max_samples is None else [self.model.max_samples]
        upstream = getattr(self.model.frontend, "_module", torch.nn.Identity)()
        for module in upstream.modules():
            if hasattr(module, "max_source_positions"):  # Whisper
                longest.append(module.max_source_positions * STRIDE)
        return min(longest) / SAMPLE_RATE if longest else None


class TorchBackend:
    """A model that runs in torch.

    Args:
        files: of the model.
        device: as torch writes it.

    Raises:
        UserError: files that do not fit each other or are broken, or an unknown device.
    """

    def __init__(self, files: ModelFiles, device: str = "cpu") -> None:
        self.files = files
        self.emotions: list[str] = files.config["emotions"]
        self.temperature = files.temperature
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--device {device}: {_first_line(error)}") from None
        try:
            with no_pickle():
                self.network = load_network(files).to(self.device)
        except (*BROKEN, OSError) as error:
            raise UserError(f"{files.name}: {_first_line(error)}") from None
        except pickle.UnpicklingError:
            raise UserError(f"{files.name}: the parameters hold more than numbers") from None
        has_head = self.language_head is not None
        self.languages: list[str] | None = files.config["languages"] if has_head else None
        self.max_seconds = self.network.max_seconds

    @property
    def language_head(self) -> torch.nn.Module | None:
        """The part that tells the language."""
        network = self.network
        return (network if isinstance(network, Network) else network.model).language_head

    @torch.inference_mode()
    def __call__(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the logits (Batch, C) and those of the languages (Batch, L), or None.

        Args:
            speech: (Batch, Samples) float32 at 16 kHz.
        """
        outputs = self.network(torch.from_numpy(speech).to(self.device))
        logits, *language = (output.float().cpu().numpy() for output in outputs)
        return logits, language[0] if language else None


def load_network(files: ModelFiles) -> Network | TrainedModel:
    """Load a model; an upstream that is not known in plain torch takes seconds longer."""
    state = torch.load(files.parameters, map_location="cpu", weights_only=True)
    network = build_network(files.config, files.config_file.parent, state)
    return trained_model(files) if network is None else network


def trained_model(files: ModelFiles) -> TrainedModel:
    """Load the model as it was trained, with ESPnet and S3PRL."""
    from espnet_mtkd.tasks.inference import load_model

    model, _ = load_model(files.config_file, files.parameters)
    if model.frontend.mode == "frozen":
        model.frontend._module()  # now: the upstream's folder may be gone later
    return TrainedModel(model.requires_grad_(False)).eval()


def check_network(files: ModelFiles, trained: TrainedModel) -> float:
    """Compare what is loaded for prediction with the model as it was trained, on noise of 1 s.

    Returns:
        The largest difference of a logit.

    Raises:
        UserError: it is above 1e-3.
    """
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, SAMPLE_RATE))).float()
    network = load_network(files)
    with torch.inference_mode():
        pairs = zip(network(noise), trained(noise), strict=True)
        difference = max(float((a - b).abs().max()) for a, b in pairs)
    if not difference < 1e-3:
        raise UserError(f"{files.name}: its logits differ from the trained model's: {difference}")
    return difference


@contextmanager
def no_pickle() -> Iterator[None]:
    """Make every ``torch.load`` take numbers only, those inside of S3PRL and transformers too."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]

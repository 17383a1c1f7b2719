"""A trained model as one network from waveforms of equal length to logits, in plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.distill import without_training
from espnet_mtkd.models.head import LinearHead, MLPHead
from espnet_mtkd.models.layers import LayerWeighting, Standardize
from espnet_mtkd.use.features import FilterBanks, WhisperEncoder, load_whisper

HEADS = {"linear": LinearHead, "mlp": MLPHead}
_IN_CHECKPOINT = "frontend.upstream.upstream.model."  # where a trained Whisper is


class Network(torch.nn.Module):
    """From waveforms (Batch, Samples) of equal length to logits, and those of the language.

    Args:
        features: from (Batch, Samples) to the list of hidden states (Batch, Frames, D); its
            ``max_seconds`` is the longest speech that it takes, None: any.
        pooling: ``mean`` or ``stats``, see :mod:`espnet_mtkd.models.pooling`.
        normalize, layer_weighting, head, language_head: those of the model.
        max_samples: what comes later is not heard; None: all is.
    """

    def __init__(
        self,
        features: torch.nn.Module,
        pooling: str,
        normalize: torch.nn.Module | None,
        layer_weighting: LayerWeighting,
        head: torch.nn.Module,
        language_head: torch.nn.Module | None,
        max_samples: int | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.pooling = pooling
        self.normalize = normalize
        self.layer_weighting = layer_weighting
        self.head = head
        self.language_head = language_head
        self.max_samples = max_samples

    def pool(self, states: torch.Tensor) -> torch.Tensor:
        """Return (Batch, P) for the frames (Batch, Frames, D)."""
        mean = states.mean(1)
        if self.pooling == "mean":
            return mean
        variance = (states - mean[:, None]).square().mean(1)
        return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=-1)

    def forward(self, speech: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits (Batch, C) and, with a language head, those of languages (Batch, L)."""
        if self.max_samples is not None:
            speech = speech[:, : self.max_samples]
        pooled = torch.stack([self.pool(states) for states in self.features(speech)], dim=1)
        if self.normalize is not None:
            pooled = self.normalize(pooled)
        embedding = self.layer_weighting(pooled)
        logits = self.head(embedding)
        if self.language_head is None:
            return (logits,)
        return logits, self.language_head(embedding)

    @property
    def max_seconds(self) -> float | None:
        """Longest speech that is heard to its end at a time; None: any."""
        longest = [] if self.max_samples is None else [self.max_samples / SAMPLE_RATE]
        if self.features.max_seconds is not None:
            longest.append(self.features.max_seconds)
        return min(longest, default=None)


def build_network(
    config: dict[str, Any], folder: Path, state: dict[str, torch.Tensor]
) -> Network | None:
    """Build the network of a trained model.

    Args:
        config: of the training.
        folder: what a relative path of the upstream is relative to.
        state: the model's parameters.

    Returns:
        None for what is not known here: another upstream, pooling or head, or adapters.
    """
    if config.get("frontend", "s3prl") != "s3prl":
        return None
    features = _features(config["frontend_conf"], folder, state)
    if features is None or config["head"] not in HEADS:
        return None
    if config["pooling"] not in ("mean", "stats") or config["pooling_conf"]:
        return None
    options = config["model_conf"]
    size, num_layers = _shape(features)
    size *= 2 if config["pooling"] == "stats" else 1
    layers = config["layers"]
    normalize = Standardize((num_layers, size)) if config["normalize"] == "global_mvn" else None
    language_head = None
    if options.get("lid_lambda", 0) > 0:
        language_head = torch.nn.Linear(size, len(config["languages"]))
    duration = options.get("max_duration")
    network = Network(
        features,
        config["pooling"],
        normalize,
        LayerWeighting(num_layers, [layers] if isinstance(layers, int) else layers),
        HEADS[config["head"]](size, len(config["emotions"]), **config["head_conf"]),
        language_head,
        None if duration is None else round(duration * SAMPLE_RATE),
    )
    own = {k: v for k, v in without_training(state).items() if not k.startswith("frontend.")}
    missing, unexpected = network.load_state_dict(own, strict=False)
    missing = [key for key in missing if not key.startswith("features.")]
    if missing or unexpected:
        raise ValueError(f"parameters that do not fit: {[*missing, *unexpected][0]}")
    return network.eval()


def _features(
    conf: dict[str, Any], folder: Path, state: dict[str, torch.Tensor]
) -> torch.nn.Module | None:
    name, mode = conf.get("upstream", "fbank_no_cmvn"), conf.get("mode", "frozen")
    if name in ("fbank", "fbank_no_cmvn"):
        return FilterBanks(normalize=name == "fbank")
    if name == "hf_whisper_custom" and mode in ("frozen", "finetune"):
        trained = {
            key.removeprefix(_IN_CHECKPOINT): value
            for key, value in state.items()
            if key.startswith(_IN_CHECKPOINT)
        }
        cut = conf.get("keep_layers"), conf.get("raw", False), conf.get("keep_channels")
        return load_whisper(folder / conf["path_or_url"], trained, *cut)
    return None


def _shape(features: torch.nn.Module) -> tuple[int, int]:
    """Size of the hidden states, and number of layers."""
    if isinstance(features, WhisperEncoder):
        return features.conv2.out_channels, len(features.layers) + 1
    return 240, 1

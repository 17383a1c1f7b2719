"""The feature extractor: any S3PRL upstream with all its hidden layers, frozen or trained."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.adapters import add_lora, checkpoint_gradients, keep_adapters_only
from espnet_mtkd.models.packing import pack

MODES = ("frozen", "finetune", "lora")
# Hugging Face folders: the entry that reads a folder, by `model_type` in its config.json.
HF_MODEL_TYPES = {
    "hf_wav2vec2_custom": "wav2vec2",
    "hf_hubert_custom": "hubert",
    "hf_whisper_custom": "whisper",
    "hf_wavlm_custom": "wavlm",
    "hf_wav2vec2_bert_custom": "wav2vec2-bert",
}
# No checkpoint, nothing to download.
PARAMETER_FREE = ("fbank", "fbank_no_cmvn", "linear", "mel", "mfcc", "spectrogram")


def upstream_names() -> list[str]:
    """All names that may be given as an upstream: S3PRL's, and those that this project adds."""
    from s3prl.nn import S3PRLUpstream

    # Imported for their entries in S3PRL's list.
    import espnet_mtkd.models.hf_upstreams
    import espnet_mtkd.models.whisper  # noqa: F401

    return sorted(S3PRLUpstream.available_names())


def check_upstream(name: str, path_or_url: str | None) -> None:
    """Check that upstream ``name`` exists and that its checkpoint is what the name promises.

    Nothing is loaded or downloaded. S3PRL would take a wrong path for the name of a model on a
    hub, and would load a WavLM folder into a wav2vec2 model with random weights; both are errors
    here.

    Raises:
        UserError: unknown name, missing path, wrong kind of path, wrong ``model_type``.
    """
    names = upstream_names()
    if name not in names:
        close = [n for n in names if name.split("_")[0] in n]
        raise UserError(
            f"--upstream {name}: S3PRL has no such upstream; "
            f"{'did you mean ' + ', '.join(close[:6]) if close else 'see s3prl.nn.S3PRLUpstream'}"
        )
    if name in PARAMETER_FREE and path_or_url is not None:
        raise UserError(f"--upstream_path {path_or_url}: upstream {name} has no checkpoint")
    if name in HF_MODEL_TYPES:
        _check_hugging_face_folder(name, path_or_url)
    elif name.endswith("_local"):
        if path_or_url is None:
            raise UserError(f"--upstream {name} needs --upstream_path, a checkpoint file")
        if not Path(path_or_url).is_file():
            raise UserError(f"--upstream_path {path_or_url}: no such file (for upstream {name})")
    elif name.endswith(("_custom", "_url")) and path_or_url is None:
        raise UserError(f"--upstream {name} needs --upstream_path, a checkpoint or its address")


def _check_hugging_face_folder(name: str, path: str | None) -> None:
    if path is None:
        raise UserError(f"--upstream {name} needs --upstream_path, a Hugging Face model folder")
    config = Path(path) / "config.json"
    if not config.is_file():
        raise UserError(
            f"--upstream_path {path}: no folder with a config.json (upstream {name} reads a local "
            "Hugging Face folder; nothing is downloaded)"
        )
    if not (Path(path) / "preprocessor_config.json").is_file():
        # S3PRL would silently take the one of another model from the hub.
        raise UserError(f"--upstream_path {path}: no preprocessor_config.json in the folder")
    if not any(Path(path).glob("*.safetensors")) and not any(Path(path).glob("*.bin")):
        raise UserError(f"--upstream_path {path}: no *.safetensors or *.bin weights in the folder")
    try:
        model_type = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except json.JSONDecodeError as error:
        raise UserError(f"{config}:{error.lineno}: not valid JSON: {error.msg}") from None
    if model_type != HF_MODEL_TYPES[name]:
        right = [entry for entry, kind in HF_MODEL_TYPES.items() if kind == model_type]
        raise UserError(
            f"{config}: model_type is {model_type!r}, but upstream {name} reads "
            f"{HF_MODEL_TYPES[name]!r}; {f'use --upstream {right[0]}' if right else 'no upstream'}"
            f"{'' if right else ' here reads that type'}"
        )


def load_upstream(
    name: str, path_or_url: str | None, part: dict[str, Any] | None = None
) -> torch.nn.Module:
    """Load an S3PRL upstream, or a part of it, and switch off what current transformers break.

    Layer drop loses hidden states; SpecAugment inside the model refuses short clips; the mask
    embedding never gets a gradient, which distributed training takes for a fault; the last hidden
    state of layer-norm models comes before their final normalisation, which transformers 4 included
    and which would get no gradient either.
    """
    check_upstream(name, path_or_url)
    if part and name != "hf_whisper_custom":
        option = next(iter(part))
        raise UserError(f"frontend_conf: {option} is for hf_whisper_custom only, not for {name}")
    from s3prl.nn import S3PRLUpstream

    # S3PRL's loader asks a model for random numbers; the training's own stream stays untouched.
    with torch.random.fork_rng(devices=[]):
        upstream = S3PRLUpstream(name, path_or_url=path_or_url, extra_conf=part or {})
    for module in upstream.modules():
        config = getattr(module, "config", None)
        for option, value in (("layerdrop", 0.0), ("apply_spec_augment", False)):
            if hasattr(config, option):
                setattr(config, option, value)
        stable = getattr(config, "do_stable_layer_norm", False)
        if stable and not getattr(config, "add_adapter", False):
            config.tie_last_hidden_states = True
        if hasattr(module, "encoder_layerdrop"):
            module.encoder_layerdrop = 0.0
        for parameter in ("masked_spec_embed", "mask_emb"):
            if isinstance(getattr(module, parameter, None), torch.nn.Parameter):
                getattr(module, parameter).requires_grad_(False)
    return upstream


class Upstream(AbsFrontend):
    """All hidden layers of an S3PRL upstream.

    Args:
        upstream: name of an S3PRL upstream, e.g. ``wav2vec2_local``, ``hf_hubert_custom``.
        path_or_url: its checkpoint: a file, or a folder for ``hf_*_custom``.
        mode: ``frozen``: evaluation mode for good, no gradient, neither in the optimizer nor in
            the state dict; ``finetune``: a part of the model like any other; ``lora``: adapters
            are trained and stored, the rest is as it was.
        freeze_feature_encoder: in ``finetune``, keep the convolutional feature encoder as it is.
        gradient_checkpointing: train in less memory and more time.
        lora_conf: options of :func:`~espnet_mtkd.models.adapters.add_lora`.
        keep_layers: a slice of the upstream, its first layers; None (default): all of it.
        raw: the last state of a slice is what it is in the whole; default False: it is normalised,
            as the end of an encoder is.
        keep_channels: of a slice without layers, how many filters of the first and of the second
            convolution to keep, those with the greatest norms; in ``finetune`` only. None
            (default): all.
        num_layers, hidden_size, num_params: where they are known, a frozen upstream is loaded
            only when the first waveform arrives. Training from stored features never loads it.
        layer_params: parameters of each layer, for an upstream that may be cut after any; None
            (default): it may not, or this is not known.
        checkpoint: hash of the checkpoint's content, which features are stored with and a model
            remembers, so that it refuses those of another; None (default): not known.

    Raises:
        UserError: the checkpoint is not what the options say.
    """

    def __init__(
        self,
        upstream: str = "fbank_no_cmvn",
        path_or_url: str | None = None,
        mode: str = "frozen",
        freeze_feature_encoder: bool = True,
        gradient_checkpointing: bool = False,
        lora_conf: dict[str, Any] | None = None,
        keep_layers: int | None = None,
        raw: bool = False,
        keep_channels: Sequence[int] | None = None,
        num_layers: int | None = None,
        hidden_size: int | None = None,
        num_params: int | None = None,
        layer_params: int | None = None,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError(f"frontend_conf: mode {mode!r}: must be one of {', '.join(MODES)}")
        self.name = upstream
        self.path_or_url = path_or_url
        self.checkpoint = checkpoint
        self.mode = mode
        if keep_channels is not None and mode != "finetune":
            raise UserError(
                f"frontend_conf: keep_channels: what is left of the filters has to be trained, so "
                f"mode must be finetune, not {mode}"
            )
        cut = {"keep_layers": keep_layers, "keep_channels": keep_channels}
        self._part = {option: value for option, value in cut.items() if value is not None}
        if keep_layers is not None:
            self._part["raw"] = raw
        # A list hides a module from torch: no parameters, no state dict, no train mode.
        self._frozen: list[torch.nn.Module] = []
        if mode != "frozen":
            self.upstream = load_upstream(upstream, path_or_url, self._part)
            if mode == "lora":
                add_lora(self.upstream, **(lora_conf or {}))
                keep_adapters_only(self)
            elif freeze_feature_encoder:
                self._freeze_feature_encoder()
            if gradient_checkpointing:
                checkpoint_gradients(self.upstream)
        self._facts = (num_layers, hidden_size, num_params)
        self._layer_params = layer_params
        if None in self._facts:
            self._facts = self._facts_of(self._module())

    @property
    def padding_is_invisible(self) -> bool:
        """Whether an utterance's states do not depend on what it is padded with."""
        inner = getattr(self._module(), "upstream", None)
        return getattr(inner, "padding_is_invisible", False)

    def pack(self, bits: int = 32) -> None:
        """Load a frozen upstream now and make it faster on a CPU, see :func:`packing.pack`."""
        pack(self._module(), bits)

    def _module(self) -> torch.nn.Module:
        """Return the upstream, loading it at the first need if it is frozen."""
        if self.mode != "frozen":
            return self.upstream
        if not self._frozen:
            module = load_upstream(self.name, self.path_or_url, self._part)
            module.requires_grad_(False).eval()
            found = self._facts_of(module)
            if None not in self._facts and found != self._facts:
                raise UserError(
                    f"upstream {self.name} has {found} (layers, size, parameters), but the model "
                    f"was trained on {self._facts}: the checkpoint is another one"
                )
            self._frozen.append(module)
        return self._frozen[0]

    def _facts_of(self, module: torch.nn.Module) -> tuple[int, int, int]:
        sizes = set(module.hidden_sizes)
        if len(sizes) > 1:
            raise UserError(f"upstream {self.name}: its layers differ in size: {sorted(sizes)}")
        return module.num_layers, sizes.pop(), sum(p.numel() for p in module.parameters())

    def _freeze_feature_encoder(self) -> None:
        frozen = 0
        for module in self.upstream.modules():
            encoder = getattr(module, "feature_extractor", None)
            if isinstance(encoder, torch.nn.Module):
                for parameter in encoder.parameters():
                    parameter.requires_grad_(False)
                    frozen += 1
        logging.info("%d tensors of the convolutional feature encoder are frozen", frozen)

    @property
    def num_layers(self) -> int:
        """Number of hidden layers, the input to the first one included."""
        return self._facts[0]

    def output_size(self) -> int:
        """Size D of each layer."""
        return self._facts[1]

    @property
    def frame_shift(self) -> int:
        """Samples from a frame of the last layer to the next."""
        return self._module().downsample_rates[-1]

    def num_params(self, last: int | None = None) -> int:
        """Number of parameters of the upstream, frozen ones included.

        Args:
            last: of what hidden state ``last`` needs, where the upstream may be cut there; None
                (default): of all.
        """
        unused = 0 if last is None else self.num_layers - 1 - last
        return self._facts[2] - unused * (self._layer_params or 0)

    def layer_params(self) -> int | None:
        """Return parameters of each layer, if the upstream is one that may be cut."""
        layers = getattr(getattr(self._module(), "upstream", None), "cuttable_layers", None)
        return None if not layers else sum(p.numel() for p in layers[0].parameters())

    def forward(
        self, input: torch.Tensor, input_lengths: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the hidden states.

        Args:
            input: waveforms at 16 kHz (Batch, Samples).
            input_lengths: their lengths in samples (Batch,).

        Returns:
            For each layer the states (Batch, Frames, D) and the valid frames (Batch,).
        """
        module = self._module()
        frozen = self.mode == "frozen"
        if frozen:
            module.to(input.device)
        with torch.no_grad() if frozen else contextlib.nullcontext():
            # Models that normalise over time see padding. Where no gradient is wanted, running
            # one length at a time buys exactness.
            if (frozen or not self.training) and not self.padding_is_invisible:
                return _by_length(module, input, input_lengths)
            return module(input, input_lengths)


def _by_length(
    module: torch.nn.Module, wavs: torch.Tensor, lengths: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Run utterances of equal length together and no others; nothing is padded."""
    outputs: dict[int, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    for n in lengths.unique():
        rows = (lengths == n).nonzero().flatten()
        states, frames = module(wavs[rows, : int(n)], lengths[rows])
        for i, row in enumerate(rows.tolist()):
            own = [h[i, : int(valid[i])] for h, valid in zip(states, frames, strict=True)]
            outputs[row] = own, [valid[i] for valid in frames]
    order = [outputs[row] for row in range(len(wavs))]
    states = [
        torch.nn.utils.rnn.pad_sequence(layer, batch_first=True)
        for layer in zip(*(own for own, _ in order), strict=True)
    ]
    return states, [torch.stack(layer) for layer in zip(*(n for _, n in order), strict=True)]

"""Between frozen and fine-tuned: low-rank adapters, and fine-tuning in less memory.

LoRA (Hu et al. 2022, arXiv 2106.09685) adds to some linear layers W the product of two thin
matrices, which are all that is trained and stored. ``peft`` makes them; it is an extra of this
project (``lora``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from espnet_mtkd.errors import UserError

# Which linear layers get an adapter, by Hugging Face's `model_type`. WavLM hands the weights of its
# attention to a function of torch, past any adapter, so there it is the feed-forward layers.
TARGETS = {
    "wav2vec2": ("q_proj", "v_proj"),
    "hubert": ("q_proj", "v_proj"),
    "whisper": ("q_proj", "v_proj"),
    "wavlm": ("intermediate_dense", "output_dense"),
    "wav2vec2-bert": ("linear_q", "linear_v"),
}
MARK = "lora_"  # in the names of an adapter's parameters


def hugging_face_model(upstream: torch.nn.Module, purpose: str) -> torch.nn.Module:
    """Return the Hugging Face model inside an upstream.

    Raises:
        UserError: there is none, so that ``purpose`` is not possible.
    """
    from transformers import PreTrainedModel

    for module in upstream.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise UserError(f"frontend_conf: {purpose}: only with an upstream hf_*_custom")


def add_lora(
    upstream: torch.nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
) -> None:
    """Freeze an upstream and give it adapters.

    Args:
        upstream: holds a Hugging Face model.
        rank: of the adapters.
        alpha: their product is scaled by alpha / rank.
        dropout: on their input.
        targets: last parts of the names of the linear layers; default: by :data:`TARGETS`.

    Raises:
        UserError: ``peft`` is missing, the model is of a kind that is not known here and
            ``targets`` is not given, or no layer has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError(
            f"mode lora needs peft ({error}): pip install 'espnet-mtkd[lora]'"
        ) from None
    model = hugging_face_model(upstream, "mode lora")
    kind = model.config.model_type
    if targets is None and kind not in TARGETS:
        raise UserError(f"frontend_conf: lora_conf: targets: name linear layers of a {kind} model")
    chosen = list(targets or TARGETS[kind])
    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    for target in chosen:
        if not any(name.split(".")[-1] == target for name in names):
            raise UserError(
                f"frontend_conf: lora_conf: targets: {target}: the {kind} model has no such linear "
                f"layer; it has {', '.join(sorted({name.split('.')[-1] for name in names}))}"
            )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=chosen)
    inject_adapter_in_model(config, model)
    for name, parameter in upstream.named_parameters():
        parameter.requires_grad_(MARK in name)


def keep_adapters_only(frontend: torch.nn.Module) -> None:
    """Let the state dict of a module hold adapters only; what is frozen is the checkpoint's."""
    frozen = [key for key in frontend.state_dict() if MARK not in key]

    def drop(module: torch.nn.Module, state: dict, prefix: str, metadata: Any) -> None:
        for key in [k for k in state if k.startswith(prefix) and MARK not in k]:
            del state[key]

    def complete(
        module: torch.nn.Module, state: dict, prefix: str, metadata: Any, *lists: Any
    ) -> None:
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for key in frozen:
            state.setdefault(prefix + key, own[key])

    frontend.register_state_dict_post_hook(drop)
    frontend.register_load_state_dict_pre_hook(complete)


def checkpoint_gradients(upstream: torch.nn.Module) -> None:
    """Keep no activations inside the layers of an upstream: less memory, a third more time.

    Raises:
        UserError: the upstream is not a Hugging Face model, or one that cannot do it.
    """
    model = hugging_face_model(upstream, "gradient_checkpointing")
    if not model.supports_gradient_checkpointing:
        raise UserError(
            f"frontend_conf: gradient_checkpointing: {type(model).__name__} cannot do it"
        )
    model.gradient_checkpointing_enable({"use_reentrant": False})

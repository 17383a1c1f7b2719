"""LoRA and gradient checkpointing on every family of upstreams."""

from __future__ import annotations

import sys

import pytest
import torch

from espnet_mtkd.errors import UserError
from espnet_mtkd.models.adapters import MARK, TARGETS
from espnet_mtkd.models.upstream import Upstream

pytestmark = pytest.mark.usefixtures("no_network")

KINDS = {
    "wav2vec2_group": "hf_wav2vec2_custom",
    "wav2vec2_layer": "hf_wav2vec2_custom",
    "hubert": "hf_hubert_custom",
    "whisper": "hf_whisper_custom",
    "wavlm": "hf_wavlm_custom",
    "wav2vec2_bert": "hf_wav2vec2_bert_custom",
}


def speech() -> tuple[torch.Tensor, torch.Tensor]:
    wavs = 0.1 * torch.randn(2, 6400, generator=torch.Generator().manual_seed(0))
    return wavs, torch.tensor([6400, 6400])


def make(checkpoints, kind: str, **options) -> Upstream:
    torch.manual_seed(5)
    return Upstream(KINDS[kind], str(checkpoints[kind]), **options)


def loss_of(frontend: Upstream) -> torch.Tensor:
    states, _ = frontend(*speech())
    return sum(h.pow(2).mean() for h in states)


# ---- gradient checkpointing ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_recomputes_and_changes_nothing(checkpoints, kind):
    results = {}
    for on in (False, True):
        frontend = make(checkpoints, kind, mode="finetune", gradient_checkpointing=on)
        for module in frontend.modules():  # no dropout, but train mode, which checkpointing needs
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "attention_dropout", "activation_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        frontend.train()
        layer = next(m for n, m in frontend.named_modules() if n.endswith(".layers.0"))
        norm = next(m for m in layer.modules() if isinstance(m, torch.nn.LayerNorm))
        calls: list[int] = []
        norm.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        loss = loss_of(frontend)
        loss.backward()
        gradients = {n: p.grad for n, p in frontend.named_parameters() if p.grad is not None}
        results[on] = (loss.detach(), gradients, len(calls))
    assert results[True][2] == 2 * results[False][2]
    torch.testing.assert_close(results[True][0], results[False][0])
    assert results[True][1].keys() == results[False][1].keys()
    for name, gradient in results[True][1].items():
        torch.testing.assert_close(gradient, results[False][1][name])


def test_checkpointing_of_filter_banks():
    with pytest.raises(UserError, match="gradient_checkpointing: only with an upstream hf_"):
        Upstream("mfcc", mode="finetune", gradient_checkpointing=True)


# ---- LoRA ------------------------------------------------------------------------------------


def test_without_peft(checkpoints, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"mode lora needs peft .*espnet-mtkd\[lora\]"):
        make(checkpoints, "hubert", mode="lora")


@pytest.fixture
def peft():
    return pytest.importorskip("peft", reason="the extra 'lora' is not installed")


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_are_trained_and_all_of_them(checkpoints, kind, peft):
    frontend = make(checkpoints, kind, mode="lora").train()
    with torch.no_grad():
        for name, parameter in frontend.named_parameters():
            if f"{MARK}B" in name:  # zero at first, which would hide the other one's gradient
                parameter.copy_(torch.randn_like(parameter))
    loss_of(frontend).backward()
    used = {n for n, p in frontend.named_parameters() if p.grad is not None and p.grad.any()}
    # Each of them, or it would be one that the model never calls.
    assert used == {n for n, _ in frontend.named_parameters() if MARK in n}
    assert len(used) == 2 * 2 * 2  # layers, targets, matrices


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_new_adapter_changes_nothing(checkpoints, kind, peft):
    with_adapter = make(checkpoints, kind, mode="lora").eval()(*speech())[0]
    without = make(checkpoints, kind).eval()(*speech())[0]
    for a, b in zip(with_adapter, without, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_the_state_dict_holds_adapters_only(checkpoints, peft):
    first = make(checkpoints, "whisper", mode="lora")
    for name, parameter in first.named_parameters():
        if MARK in name:
            parameter.copy_(torch.randn_like(parameter))
    state = first.state_dict()
    assert state and all(MARK in key for key in state)
    second = make(checkpoints, "whisper", mode="lora")
    model = torch.nn.ModuleDict({"frontend": second})  # with a prefix, as in a whole model
    model.load_state_dict({f"frontend.{k}": v for k, v in state.items()})
    for a, b in zip(first.eval()(*speech())[0], second.eval()(*speech())[0], strict=True):
        assert torch.equal(a, b)
    broken = {f"frontend.{k}": v for k, v in list(state.items())[1:]}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(broken)


def test_rank_and_targets(checkpoints, peft):
    conf = {"rank": 2, "targets": ["out_proj"]}
    frontend = make(checkpoints, "hubert", mode="lora", lora_conf=conf)
    sizes = {tuple(p.shape) for p in frontend.parameters() if p.requires_grad}
    assert sizes == {(2, 16), (16, 2)}
    with pytest.raises(UserError, match="targets: q: the hubert model has no such linear layer"):
        make(checkpoints, "hubert", mode="lora", lora_conf={"targets": ["q"]})
    with pytest.raises(UserError, match="mode lora: only with an upstream hf_"):
        Upstream("mfcc", mode="lora")


def test_every_kind_of_folder_has_targets():
    from espnet_mtkd.models.upstream import HF_MODEL_TYPES

    assert set(HF_MODEL_TYPES.values()) == set(TARGETS)

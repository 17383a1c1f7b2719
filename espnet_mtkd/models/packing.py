"""Faster layers for a frozen upstream on x86 CPUs: weights in oneDNN's own order, or halved.

torch multiplies through MKL, which on AMD reaches three quarters of what oneDNN does. oneDNN has to
have the weights in blocks; doing that once is what torch.compile calls freezing. The ordinary
weights stay, for other devices and for modules that read them, so the packed ones come on top.
"""

from __future__ import annotations

import os
import platform

import torch

ROWS = 128  # frames at a time, for which the blocks are made; other numbers run as well


class PackedLinear(torch.nn.Linear):
    """A linear layer whose weight never changes."""

    packed: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As :class:`torch.nn.Linear`, up to the rounding of the weight's precision."""
        if input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        # Sums are made in float32 in any case; the bias is added to them in float32 as well.
        half = self.packed.dtype == torch.bfloat16
        bias = None if half else self.bias
        rows = input.to(self.packed.dtype)
        output = torch.ops.mkldnn._linear_pointwise(rows, self.packed, bias, "none", [], "")
        if not half:
            return output
        return output.float() if self.bias is None else output.float().add_(self.bias)


class HalfConv1d(torch.nn.Conv1d):
    """A convolution that multiplies in bfloat16 and whose weight never changes."""

    half_weight: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As :class:`torch.nn.Conv1d`, up to the rounding of bfloat16."""
        if input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        output = self._conv_forward(input.bfloat16(), self.half_weight, None).float()
        return output if self.bias is None else output.add_(self.bias[:, None])


def pack(module: torch.nn.Module, bits: int = 32) -> None:
    """Pack all linear layers of a frozen ``module``; where there is no oneDNN, do nothing.

    Args:
        module: what to pack, in place.
        bits: 32, or 16 to multiply in bfloat16, in convolutions over time as well: about twice as
            fast on processors that have instructions for it, and correct to three digits.
    """
    if not torch.backends.mkldnn.is_available() or platform.machine() not in ("x86_64", "AMD64"):
        return
    dtype = torch.bfloat16 if bits == 16 else torch.float32
    for layer in module.modules():
        # Only torch's own: another class may do more than multiply. Hooks are those of weight
        # normalisation, which makes the weight anew at every call.
        linear, convolution = type(layer) is torch.nn.Linear, type(layer) is torch.nn.Conv1d
        if not (linear or convolution) or layer._forward_pre_hooks:
            continue
        weight = layer.weight.detach()
        if weight.dtype != torch.float32:
            continue
        if linear:
            layer.__class__ = PackedLinear
            layer.packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), ROWS)
        elif bits == 16:
            layer.__class__ = HalfConv1d
            layer.half_weight = weight.bfloat16()


def limit_caches() -> None:
    """Keep less of what torch and oneDNN make for every shape; call it before a model runs.

    They keep it for the last 1024 shapes each. Utterances differ in length and a length needs about
    ten shapes, so that grows to gigabytes which are hardly ever used again. What the user has set
    in the environment stays.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")

"""Faster linear layers for a frozen upstream on x86 CPUs: weights in oneDNN's own order.

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
        """As :class:`torch.nn.Linear`, up to rounding."""
        if input.device.type != "cpu" or input.dtype != torch.float32:
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")


def pack_linear(module: torch.nn.Module) -> None:
    """Pack all linear layers of a frozen ``module``; where there is no oneDNN, do nothing."""
    if not torch.backends.mkldnn.is_available() or platform.machine() not in ("x86_64", "AMD64"):
        return
    for layer in module.modules():
        # Only torch's own: another class may do more than multiply.
        if type(layer) is torch.nn.Linear and layer.weight.dtype == torch.float32:
            weight = layer.weight.detach()
            layer.__class__ = PackedLinear
            layer.packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)


def limit_caches() -> None:
    """Keep less of what torch and oneDNN make for every shape; call it before a model runs.

    They keep it for the last 1024 shapes each. Utterances differ in length and a length needs about
    ten shapes, so that grows to gigabytes which are hardly ever used again. What the user has set
    in the environment stays.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")

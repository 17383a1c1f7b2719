"""From frames to one vector: pooling over the valid frames of every layer."""

from __future__ import annotations

import torch
from espnet2.legacy.nets.pytorch_backend.nets_utils import make_pad_mask


class AbsPooling(torch.nn.Module):
    """Pool the frames of one layer: (Batch, Frames, D) and valid frames (Batch,) to (Batch, P)."""

    def __init__(self) -> None:
        super().__init__()  # torch's own takes any argument, and so would pooling_conf

    def output_size(self, input_size: int) -> int:
        """Size P of the pooled vector for frames of size ``input_size``."""
        raise NotImplementedError

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Pool; what lies at and behind ``lengths`` has no influence."""
        raise NotImplementedError


def _masked(frames: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mask = make_pad_mask(lengths, frames, 1)
    return frames.masked_fill(mask, 0.0), lengths.to(frames).clamp(min=1)[:, None]


class MeanPooling(AbsPooling):
    """Mean over the valid frames; P = D."""

    def output_size(self, input_size: int) -> int:
        """P = D."""
        return input_size

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the means (Batch, D)."""
        masked, count = _masked(frames, lengths)
        return masked.sum(1) / count


class StatsPooling(AbsPooling):
    """Mean and standard deviation over the valid frames; P = 2 D.

    The deviation is the population's, zero for a single frame (Snyder et al. 2018, x-vectors).
    """

    def output_size(self, input_size: int) -> int:
        """P = 2 D."""
        return 2 * input_size

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return means and deviations (Batch, 2 D)."""
        masked, count = _masked(frames, lengths)
        mean = masked.sum(1) / count
        deviation = (frames - mean[:, None]).masked_fill(make_pad_mask(lengths, frames, 1), 0.0)
        # The floor keeps the gradient of the root finite where the variance is zero.
        variance = deviation.pow(2).sum(1) / count
        return torch.cat([mean, variance.clamp(min=1e-10).sqrt()], dim=-1)

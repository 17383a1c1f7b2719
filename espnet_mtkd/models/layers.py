"""Between pooling and head: standardisation and the weighted sum of the layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from espnet_mtkd.errors import UserError


class Standardize(torch.nn.Module):
    """Subtract the mean and divide by the deviation that the training set has per layer and size.

    As ESPnet's ``GlobalMVN``, but the statistics travel in the state dict, so a packed model needs
    no file beside it.

    Args:
        shape: (Layers, P) of the pooled features.
        stats_file: ``feats_stats.npz`` with ``count``, ``sum`` and ``sum_square``, the last two of
            size Layers * P. None (default): identity until a state dict is loaded.
    """

    def __init__(self, shape: tuple[int, int], stats_file: str | Path | None = None) -> None:
        super().__init__()
        mean, deviation = torch.zeros(shape), torch.ones(shape)
        if stats_file is not None:
            if not Path(stats_file).is_file():
                raise UserError(f"normalize_conf: stats_file {stats_file}: no such file")
            with np.load(stats_file) as stats:
                average = stats["sum"] / stats["count"]
                variance = stats["sum_square"] / stats["count"] - average**2
            if average.size != mean.numel():
                raise UserError(
                    f"{stats_file}: statistics of size {average.size}, but the features are {shape}"
                )
            # A dimension that never varies carries nothing; dividing by its zero would blow it up.
            variance = np.where(variance > 1e-8 * (average**2 + 1e-8), variance, 1.0)
            mean = torch.from_numpy(average).float().view(shape)
            deviation = torch.from_numpy(np.sqrt(variance)).float().view(shape)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Standardise pooled features (Batch, Layers, P)."""
        return (pooled - self.mean) / self.deviation


class LayerWeighting(torch.nn.Module):
    """Softmax-weighted sum of the layers, as in SUPERB (Yang et al. 2021, arXiv 2105.01051).

    Args:
        num_layers: number of layers L of the upstream.
        layers: the layers in use, counted from 0, negative ones from the end; None (default): all.
            With a single layer there is nothing to learn.
    """

    def __init__(self, num_layers: int, layers: list[int] | None = None) -> None:
        super().__init__()
        chosen = list(range(num_layers)) if layers is None else list(layers)
        wrong = [i for i in chosen if not -num_layers <= i < num_layers]
        if wrong or not chosen:
            raise UserError(f"layers {layers}: the upstream has layers 0 to {num_layers - 1}")
        self.chosen = sorted({i % num_layers for i in chosen})
        if len(self.chosen) > 1:
            self.weight = torch.nn.Parameter(torch.zeros(len(self.chosen)))

    def weights(self) -> torch.Tensor:
        """Weights (Layers in use,), which sum to one."""
        if len(self.chosen) == 1:
            return torch.ones(1)
        return self.weight.softmax(0)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Sum pooled features (Batch, L, P) to (Batch, P)."""
        if len(self.chosen) == 1:
            return pooled[:, self.chosen[0]]
        return torch.einsum("blp,l->bp", pooled[:, self.chosen], self.weights())

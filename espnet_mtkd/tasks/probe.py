"""A probe: standardisation, layer weighting and head, trained on stored features of one corpus.

The parts are those of :class:`~espnet_mtkd.models.ser_model.ESPnetSERModel`, and so is the rule of
selection; without ESPnet's trainer, which writes a checkpoint an epoch, a probe takes a second
instead of several, and a benchmark trains hundreds of them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.metrics import count_confusions, uar
from espnet_mtkd.models import FRAMES
from espnet_mtkd.models.layers import LayerWeighting, Standardize
from espnet_mtkd.tasks.ser import head_choices


@dataclasses.dataclass(frozen=True)
class ProbeOptions:
    """How a probe is made and trained.

    Attributes:
        head: ``linear`` or ``mlp`` on pooled layers, or ``frames``, :class:`FrameProbe`.
        head_conf: its options, such as ``hidden_size``.
        lr, weight_decay: of AdamW.
        batch_size: utterances in a batch.
        max_epoch: epochs; the one with the best UAR on the development set is kept, of equal ones
            the one with the lowest loss, and the last one where there is no development set.
        select: ``best`` as said, or ``last``: the last epoch in any case.
    """

    head: str = "mlp"
    head_conf: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lr: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 32
    max_epoch: int = 30
    select: str = "best"

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str) -> ProbeOptions:
        """Check options from a file.

        Raises:
            UserError: an option or a value is not what it may be.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in options.items():
            if name not in known:
                raise UserError(f"{where}: probe: unknown option {name}; use {', '.join(known)}")
            if name in ("lr", "weight_decay", "batch_size", "max_epoch") and not (
                isinstance(value, (int, float)) and value >= 0
            ):
                raise UserError(f"{where}: probe: {name} {value!r}: must be a number, as in 0.001")
        probe = cls(**options)
        if probe.head not in ("linear", "mlp", "frames"):
            raise UserError(f"{where}: probe: head {probe.head!r}: must be linear, mlp or frames")
        if probe.select not in ("best", "last"):
            raise UserError(f"{where}: probe: select {probe.select!r}: must be best or last")
        try:
            make_head(probe, 2, 2)
        except TypeError as error:
            raise UserError(f"{where}: probe: head_conf: {error}") from None
        return probe

    def check_pooling(self, pooling: str, where: str) -> None:
        """Check that the head can read what was stored.

        Raises:
            UserError: frames for a head that wants pooled layers, or the other way round.
        """
        if (self.head == "frames") != (pooling == FRAMES):
            raise UserError(
                f"{where}: pooling {pooling} does not go with the probe's head {self.head}: the "
                f"head frames reads {FRAMES}, the others mean or stats"
            )


def make_head(options: ProbeOptions, size: int, num_classes: int) -> torch.nn.Module:
    """Make a head for features of ``size``."""
    kind = FrameProbe if options.head == "frames" else head_choices.get_class(options.head)
    return kind(size, num_classes, **options.head_conf)


@dataclasses.dataclass
class Examples:
    """Features, (N, Layers, P) or N times (Frames, D), and indices of the emotions (N,)."""

    features: torch.Tensor | list[torch.Tensor]
    emotions: torch.Tensor

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.emotions)

    def take(self, rows: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return the features of some utterances."""
        if isinstance(self.features, list):
            return [self.features[row] for row in rows.tolist()]
        return self.features[rows]


class FrameProbe(torch.nn.Module):
    """EmoBox's probe: linear, rectifier, mean over time, linear, on frames as they are.

    The rectifier acts on every frame, so no mean that was taken before can replace it.

    Args:
        size: size D of a frame.
        num_classes: number of emotions C.
        hidden_size: default 128, EmoBox's.
    """

    def __init__(self, size: int, num_classes: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(size, hidden_size)
        self.output = torch.nn.Linear(hidden_size, num_classes)

    def forward(self, frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits (Batch, C) of frames (Frames, D) of each utterance, unpadded."""
        if not frames:
            return self.output.bias.new_zeros(0, self.output.out_features)
        lengths = torch.tensor([len(matrix) for matrix in frames])
        hidden = self.hidden(torch.cat(list(frames))).relu()
        owner = torch.arange(len(frames)).repeat_interleave(lengths)
        total = hidden.new_zeros(len(frames), hidden.shape[1]).index_add(0, owner, hidden)
        return self.output(total / lengths[:, None])


class Probe(torch.nn.Module):
    """From pooled layers (Batch, Layers, P) to logits (Batch, C)."""

    def __init__(
        self,
        train: torch.Tensor,
        num_classes: int,
        options: ProbeOptions,
        layers: list[int] | None = None,
    ) -> None:
        super().__init__()
        _, num_layers, size = train.shape
        self.normalize = Standardize((num_layers, size))
        mean, variance = train.mean(0), train.var(0, correction=0)
        # As Standardize does: what never varies carries nothing.
        variance = torch.where(variance > 1e-8 * (mean**2 + 1e-8), variance, 1.0)
        self.normalize.mean.copy_(mean)
        self.normalize.deviation.copy_(variance.sqrt())
        self.layer_weighting = LayerWeighting(num_layers, layers)
        self.head = make_head(options, size, num_classes)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.head(self.layer_weighting(self.normalize(pooled)))


def train_probe(
    train: Examples,
    dev: Examples,
    num_classes: int,
    options: ProbeOptions,
    seed: int,
    layers: list[int] | None = None,
) -> tuple[Probe | FrameProbe, dict[str, Any]]:
    """Train a probe and return it with what to know of its training.

    Args:
        train, dev: ``dev`` may be empty.
        num_classes: number of emotions C.
        options: of head and training.
        seed: of the parameters and the order of the utterances.
        layers: layers in use; default: all, weighted.

    Returns:
        The probe in evaluation mode, and ``best_epoch``, ``dev_uar``, ``num_trainable``,
        ``layer_weights`` (of the layers in use).
    """
    torch.manual_seed(seed)
    if isinstance(train.features, list):
        probe = make_head(options, train.features[0].shape[1], num_classes)
        chosen = [-1]
    else:
        probe = Probe(train.features, num_classes, options, layers)
        chosen = probe.layer_weighting.chosen
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    best: tuple[float, float] = (-1.0, 0.0)
    state, best_epoch = copy.deepcopy(probe.state_dict()), 0
    select = options.select == "best" and len(dev) > 0
    for epoch in range(1, options.max_epoch + 1):
        probe.train()
        for rows in torch.randperm(len(train)).split(options.batch_size):
            optimizer.zero_grad(set_to_none=True)
            logits = probe(train.take(rows))
            F.cross_entropy(logits, train.emotions[rows]).backward()
            optimizer.step()
        if not select:
            continue
        logits = logits_of_probe(probe, dev.features)
        score = unweighted_recall(logits, dev.emotions)
        loss = float(F.cross_entropy(logits, dev.emotions))
        if (score, -loss) > best:
            best, best_epoch = (score, -loss), epoch
            state = copy.deepcopy(probe.state_dict())
    if select:
        probe.load_state_dict(state)
    probe.eval()
    weights = probe.layer_weighting.weights() if isinstance(probe, Probe) else torch.ones(1)
    return probe, {
        "best_epoch": best_epoch if select else options.max_epoch,
        "dev_uar": best[0] if select else None,
        "num_trainable": sum(p.numel() for p in probe.parameters()),
        "layers": chosen,
        "layer_weights": weights.tolist(),
    }


@torch.no_grad()
def logits_of_probe(
    probe: torch.nn.Module, features: torch.Tensor | list[torch.Tensor]
) -> torch.Tensor:
    """Return the logits (N, C) of features as in :class:`Examples` in evaluation mode."""
    return probe.eval()(features)


def unweighted_recall(logits: torch.Tensor, emotions: torch.Tensor) -> float:
    """UAR of logits (N, C), over the emotions that occur."""
    ref, hyp = emotions.numpy(), logits.argmax(-1).numpy()
    group = np.zeros(len(ref), dtype=np.int64)
    return float(uar(count_confusions(ref, hyp, group, 1, logits.shape[-1])[0]))

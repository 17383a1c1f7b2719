"""A small gate that learns whom to trust, for the weighting ``learned``.

It is fitted on speakers that neither teachers nor student have been trained on: on its training
data every teacher is right, and the gate would learn nothing of how far it can be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from espnet_mtkd.distill.opinions import abstain
from espnet_mtkd.errors import UserError

L2 = 1e-2  # on the sum of the squared parameters, beside a mean over utterances


@dataclass(frozen=True)
class Gate:
    """softmax over k of table[language of b, k] + outputs . (confidence, agreement)[b, k].

    Attributes:
        teachers: names of the K teachers.
        languages: names of the languages in the table.
        table: (Languages, K).
        outputs: how much confidence and agreement of a teacher count, see :func:`evidence`.
        cross_entropy: of the mixture on the utterances that the gate was fitted on.
        cross_entropy_uniform: of the teachers in equal parts, there.
    """

    teachers: list[str]
    languages: list[str]
    table: list[list[float]]
    outputs: list[float]
    cross_entropy: float
    cross_entropy_uniform: float

    def to_json(self) -> str:
        """Return the gate as text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @staticmethod
    def read(path: str | Path) -> Gate:
        """Read a gate."""
        if not Path(path).is_file():
            raise UserError(f"weighting_conf: gate {path}: no such file; stage 6 writes it")
        try:
            return Gate(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"weighting_conf: gate {path}: not a gate: {error}") from None


def posteriors(logits: torch.Tensor) -> torch.Tensor:
    """Return probabilities (..., K, C); 0 for a class that a teacher does not know."""
    return logits.masked_fill(logits.isnan(), -torch.inf).softmax(-1)


def evidence(logits: torch.Tensor) -> torch.Tensor:
    """Return what the teachers' outputs tell about each of them (Batch, K, 2).

    The first number is the teacher's confidence, its largest probability. The second is how far it
    agrees with the others: one minus half the sum of the absolute differences (the total variation)
    from the mean of their probabilities, 1 for a teacher without others.

    Args:
        logits: (Batch, K, C).
    """
    p = posteriors(logits)
    others = (p.sum(1, keepdim=True) - p) / max(p.shape[1] - 1, 1)
    if p.shape[1] == 1:
        others = p
    agreement = 1 - (p - others).abs().sum(-1) / 2
    return torch.stack([p.amax(-1), agreement], dim=-1)


def weigh(
    table: torch.Tensor, outputs: torch.Tensor, language: torch.Tensor, logits: torch.Tensor
) -> torch.Tensor:
    """Return the weights (Batch, K) of a gate.

    Args:
        table: (Languages, K).
        outputs: (2,).
        language: index (Batch,) into the table.
        logits: (Batch, K, C).
    """
    return (table[language] + evidence(logits) @ outputs).softmax(-1)


def fit_gate(
    teachers: Sequence[str], logits: np.ndarray, gold: Sequence[int], languages: Sequence[str]
) -> Gate:
    """Fit a gate: the least cross-entropy of the mixture of the teachers' probabilities.

    Teachers that do not know the gold label abstain, as in the loss of a student; utterances whose
    label nobody knows have no part. Deterministic.

    Args:
        teachers: names of the K teachers.
        logits: (Utterances, K, C), NaN for classes that a teacher does not know.
        gold: index of the emotion of each utterance.
        languages: language of each utterance.
    """
    names = sorted(set(languages))
    index = torch.tensor([names.index(language) for language in languages])
    said = torch.from_numpy(np.asarray(logits, dtype=np.float64))
    label = torch.tensor(gold)
    targets = F.one_hot(label, said.shape[-1])
    right = posteriors(said).gather(-1, label[:, None, None].expand(-1, len(teachers), 1))[..., 0]
    table = torch.zeros(len(names), len(teachers), dtype=said.dtype, requires_grad=True)
    outputs = torch.zeros(2, dtype=said.dtype, requires_grad=True)

    def cross_entropy() -> torch.Tensor:
        weights = abstain(weigh(table, outputs, index, said), said, targets)
        known = weights.sum(-1) > 0
        mixture = (weights * right).sum(-1)[known]
        return -mixture.clamp(min=1e-12).log().sum() / known.sum().clamp(min=1)

    optimizer = torch.optim.LBFGS(
        [table, outputs], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy() + L2 * (table.square().sum() + outputs.square().sum())
        loss.backward()
        return loss

    with torch.no_grad():
        uniform = cross_entropy().item()
    optimizer.step(closure)
    with torch.no_grad():
        fitted = cross_entropy().item()
    return Gate(list(teachers), names, table.tolist(), outputs.tolist(), fitted, uniform)

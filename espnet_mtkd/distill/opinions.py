"""What weightings and losses are given, and what of it counts where label sets differ.

In logits (Batch, K, C) of teachers NaN stands in the columns of the classes that a teacher does not
know. Nothing outside of this module has to know how such columns are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from espnet_mtkd.errors import UserError

# From logits of the student (Batch, 1, c) and of k teachers (Batch, k, c), and the indices of these
# teachers, to numbers (Batch, k).
Measure = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | slice], torch.Tensor]


class Opinions(NamedTuple):
    """What is known of a batch when teachers are weighted.

    Attributes:
        student: logits (Batch, C), detached.
        teachers: logits (Batch, K, C), NaN for classes that a teacher does not know.
        emotion: gold label (Batch,), -1 where it is not known.
        language: index of the utterance's language (Batch,).
        language_posterior: what the student takes the language for (Batch, L), detached; None for
            a student without a language head.
    """

    student: torch.Tensor
    teachers: torch.Tensor
    emotion: torch.Tensor
    language: torch.Tensor
    language_posterior: torch.Tensor | None = None


def align(
    logits: torch.Tensor, own: Sequence[str], wanted: Sequence[str], teacher: str
) -> torch.Tensor:
    """Bring a teacher's logits into the order of the student's emotions, by name.

    Args:
        logits: (..., len(own)).
        own: the emotions of the teacher; those that the student lacks are dropped.
        wanted: the emotions of the student; those that the teacher lacks become NaN.
        teacher: its name, for the error.

    Raises:
        UserError: they share fewer than two emotions.
    """
    shared = [emotion for emotion in wanted if emotion in own]
    if len(shared) < 2:
        raise UserError(
            f"teacher {teacher} knows {', '.join(own)}, the student {', '.join(wanted)}; at least "
            "two emotions must be the same"
        )
    aligned = logits.new_full((*logits.shape[:-1], len(wanted)), torch.nan)
    columns = [list(wanted).index(emotion) for emotion in shared]
    aligned[..., columns] = logits[..., [list(own).index(emotion) for emotion in shared]]
    return aligned


def over_known(measure: Measure, student: torch.Tensor, teachers: torch.Tensor) -> torch.Tensor:
    """Measure every teacher against the student over the classes that the teacher knows.

    Teachers that know the same classes are measured together.

    Args:
        measure: what is computed.
        student: logits (Batch, C).
        teachers: logits (Batch, K, C).

    Returns:
        (Batch, K).
    """
    student = student[:, None]
    known = ~teachers.isnan().any(0)  # (K, C)
    if known.all():
        return measure(student, teachers, slice(None))
    patterns, group = known.unique(dim=0, return_inverse=True)
    members = [(group == i).nonzero()[:, 0] for i in range(len(patterns))]
    parts = [
        measure(student[..., classes], teachers[:, index][..., classes], index)
        for classes, index in zip(patterns, members, strict=True)
    ]
    return torch.cat(parts, dim=1)[:, torch.cat(members).argsort()]


def abstain(weights: torch.Tensor, teachers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Take the weight from teachers that do not know what an utterance is labelled with.

    Args:
        weights: (Batch, K), rows that sum to one.
        teachers: logits (Batch, K, C).
        targets: probabilities of the emotions (Batch, C), zeros without a label.

    Returns:
        (Batch, K), rows that sum to one, or to zero where no teacher knows the label.
    """
    lost = (teachers.isnan() & (targets > 0)[:, None]).any(-1)
    if not lost.any():
        return weights
    weights = weights.masked_fill(lost, 0.0)
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

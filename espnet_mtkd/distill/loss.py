"""The distillation loss of several teachers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from espnet_mtkd.distill.opinions import over_known
from espnet_mtkd.errors import UserError
from espnet_mtkd.yaml_numbers import check_number


def standardize_logits(logits: torch.Tensor) -> torch.Tensor:
    """Give logits (..., C) mean zero and deviation one over the classes.

    Teachers then differ in what they say, not in how loud they say it
    (Sun et al. 2024, https://arxiv.org/abs/2403.01643).
    """
    deviation = logits.std(-1, keepdim=True, correction=0)
    return (logits - logits.mean(-1, keepdim=True)) / (deviation + 1e-7)


class MultiTeacherLoss(torch.nn.Module):
    """Weighted Kullback-Leibler divergence of the student from its teachers.

    With p_k = softmax(t_k / T) and q = softmax(z / T):
    mean over the batch of sum_k w[b, k] * T^2 * KL(p_k[b] || q[b])
    (Hinton et al. 2015, arXiv 1503.02531; several teachers: arXiv 2506.08717).

    Args:
        temperature: T, default 2; or a list with one for each teacher. The student is softened
            with the temperature of the teacher that it is compared with.
        standardize: standardise all logits over the classes first; default True.
        reduction: ``batchmean`` (default), the definition above; ``mean`` divides by the number of
            classes as well, as the paper's official code does.
    """

    def __init__(
        self,
        temperature: float | Sequence[float] = 2.0,
        standardize: bool = True,
        reduction: str = "batchmean",
    ) -> None:
        super().__init__()
        many = isinstance(temperature, Sequence) and not isinstance(temperature, str)
        for value in temperature if many else [temperature]:
            check_number("distill_conf: temperature", value)
        values = torch.tensor(temperature, dtype=torch.float)
        if not (values > 0).all():
            raise UserError(f"distill_conf: temperature {temperature}: must be above 0")
        if reduction not in ("batchmean", "mean"):
            raise UserError(f"distill_conf: reduction {reduction!r}: must be batchmean or mean")
        self.register_buffer("temperature", values, persistent=False)
        self.standardize = standardize
        self.reduction = reduction

    def forward(
        self, student: torch.Tensor, teachers: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            student: logits z (Batch, C).
            teachers: logits t (Batch, K, C), without gradient. Where a teacher has NaN, it does
                not know the class; it is compared with the student over the others.
            weights: w (Batch, K), rows that sum to one.
        """
        if self.temperature.dim() and len(self.temperature) != teachers.shape[1]:
            raise UserError(
                f"distill_conf: temperature: {len(self.temperature)} values for "
                f"{teachers.shape[1]} teachers"
            )
        divergence = over_known(self.divergence, student, teachers)
        loss = (weights * divergence).sum(-1).mean()
        return loss / student.shape[-1] if self.reduction == "mean" else loss

    def divergence(
        self, student: torch.Tensor, teachers: torch.Tensor, index: torch.Tensor | slice
    ) -> torch.Tensor:
        """Return T^2 KL(p_k || q) of teachers by ``index``, see :func:`over_known`."""
        if self.standardize:
            student, teachers = standardize_logits(student), standardize_logits(teachers)
        temperature = self.temperature.view(-1, 1)  # (K or 1, 1)
        if len(temperature) > 1:
            temperature = temperature[index]
        log_q = F.log_softmax(student / temperature, dim=-1)
        log_p = F.log_softmax(teachers / temperature, dim=-1)
        return temperature[:, 0] ** 2 * (log_p.exp() * (log_p - log_q)).sum(-1)

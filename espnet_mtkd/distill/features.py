"""Distillation of features: the student's vector is to tell what its teachers' vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from espnet_mtkd.errors import UserError


def check_kind(kind: str) -> str:
    """Return the name of a distance of features if there is one of that name."""
    if kind not in ("cosine", "mse"):
        raise UserError(f"distill_conf: feature_loss {kind!r}: must be cosine or mse")
    return kind


class FeatureLoss(torch.nn.Module):
    """Weighted distance of the projected student's vector from the vectors of its teachers.

    mean over the batch of sum_k w[b, k] * d(P_k x[b], e_k[b]), where x is what the student's head
    sees, e_k what teacher k's head sees, and P_k an affine projector of its own, learned with the
    student (Romero et al. 2015, arXiv 1412.6550; pooled features: arXiv 1910.10699).

    Args:
        student_size: size P of the student's vector.
        teacher_sizes: size of each teacher's vector.
        kind: ``cosine`` (default): one minus the cosine, 0 to 2. ``mse``: mean square of the
            difference from e_k after that has got mean 0 and deviation 1 over its numbers, so that
            a loud teacher counts no more than others; 0 if all of e_k is known, 1 if nothing.
    """

    def __init__(
        self, student_size: int, teacher_sizes: Sequence[int], kind: str = "cosine"
    ) -> None:
        super().__init__()
        self.kind = check_kind(kind)
        self.projectors = torch.nn.ModuleList(
            torch.nn.Linear(student_size, size) for size in teacher_sizes
        )

    def forward(
        self, student: torch.Tensor, teachers: Sequence[torch.Tensor], weights: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            student: (Batch, P).
            teachers: (Batch, P_k) for each teacher, without gradient.
            weights: w (Batch, K).
        """
        distances = [
            self.distance(project(student), teacher)
            for project, teacher in zip(self.projectors, teachers, strict=True)
        ]
        return (weights * torch.stack(distances, dim=1)).sum(-1).mean()

    def distance(self, guess: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return d (Batch,) of vectors (Batch, P_k)."""
        if self.kind == "cosine":
            return 1 - F.cosine_similarity(guess, teacher, dim=-1)
        return (guess - F.layer_norm(teacher, teacher.shape[-1:])).square().mean(-1)

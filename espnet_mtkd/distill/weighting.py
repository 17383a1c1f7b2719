"""How much each teacher counts for each utterance.

A weighting is one small class; :data:`WEIGHTINGS` is the registry that ``--weighting`` reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from espnet_mtkd.errors import UserError


class AbsWeighting(torch.nn.Module):
    """Mix K teachers.

    Args:
        teacher_languages: for every teacher the index of its language, -1 for one of all languages.
    """

    def __init__(self, teacher_languages: Sequence[int]) -> None:
        super().__init__()
        languages = torch.tensor(list(teacher_languages), dtype=torch.long)
        self.register_buffer("teacher_languages", languages, persistent=False)

    def forward(
        self,
        student: torch.Tensor,
        teachers: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weights (Batch, K); every row sums to one.

        Args:
            student: logits (Batch, C), detached.
            teachers: logits (Batch, K, C).
            emotion: gold label (Batch,), -1 where it is not known.
            language: index of the utterance's language (Batch,).
        """
        raise NotImplementedError


class _Tempered(AbsWeighting):
    """A softmax over the teachers with a temperature.

    Args:
        tau: the smaller, the nearer to choosing one teacher; default 0.25, the paper's.
    """

    def __init__(self, teacher_languages: Sequence[int], tau: float = 0.25) -> None:
        super().__init__(teacher_languages)
        if tau <= 0:
            raise UserError(f"weighting_conf: tau {tau}: must be above 0")
        self.tau = tau


class Uniform(AbsWeighting):
    """1 / K for every teacher."""

    def forward(
        self,
        student: torch.Tensor,
        teachers: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
    ) -> torch.Tensor:
        """Return equal weights."""
        return teachers.new_full(teachers.shape[:2], 1.0 / teachers.shape[1])


class Cosine(_Tempered):
    """softmax over k of cos(z[b], t_k[b]) / tau: trust the teacher that agrees with the student."""

    def forward(
        self,
        student: torch.Tensor,
        teachers: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
    ) -> torch.Tensor:
        """Return one row per utterance."""
        similarity = F.cosine_similarity(student[:, None], teachers, dim=-1)
        return (similarity / self.tau).softmax(-1)


class CosineBatch(_Tempered):
    """softmax over k of mean_b cos(z[b], t_k[b]) / tau: one vector for the batch, as the paper."""

    def forward(
        self,
        student: torch.Tensor,
        teachers: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
    ) -> torch.Tensor:
        """Return the same row for every utterance of the batch."""
        similarity = F.cosine_similarity(student[:, None], teachers, dim=-1).mean(0)
        return (similarity / self.tau).softmax(-1).expand(len(student), -1)


class Language(AbsWeighting):
    """The teachers of the utterance's language in equal parts; all of them if it has none."""

    def forward(
        self,
        student: torch.Tensor,
        teachers: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
    ) -> torch.Tensor:
        """Return one row per utterance, the same for all of a language."""
        own = (self.teacher_languages[None] == language[:, None]).to(teachers.dtype)
        own = torch.where(own.sum(-1, keepdim=True) > 0, own, torch.ones_like(own))
        return own / own.sum(-1, keepdim=True)


class Label(_Tempered):
    """softmax over k of -CE(t_k[b], y[b]) / tau: trust the teacher that is right.

    Without a label all teachers count the same.
    """

    def forward(
        self,
        student: torch.Tensor,
        teachers: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
    ) -> torch.Tensor:
        """Return one row per utterance."""
        gold = emotion.clamp(min=0)[:, None, None].expand(-1, teachers.shape[1], 1)
        log_likelihood = teachers.log_softmax(-1).gather(-1, gold).squeeze(-1)
        log_likelihood = log_likelihood.masked_fill(emotion[:, None] < 0, 0.0)
        return (log_likelihood / self.tau).softmax(-1)


WEIGHTINGS: dict[str, type[AbsWeighting]] = {
    "uniform": Uniform,
    "cosine_batch": CosineBatch,
    "cosine": Cosine,
    "language": Language,
    "label": Label,
}

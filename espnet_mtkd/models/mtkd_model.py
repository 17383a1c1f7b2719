"""The student: the same classifier, taught by several teachers, cached or live."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.weighting import AbsWeighting
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.ser_model import ESPnetSERModel

# lambda over the training, as a share of its first value, by progress from 0 to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2.0,
}


class ESPnetMTKDModel(ESPnetSERModel):
    """A student of several teachers.

    loss = (1 - lambda) * CE(z, y) + lambda * L_teachers, see
    :class:`~espnet_mtkd.distill.loss.MultiTeacherLoss`.

    Args:
        teachers: names of the K teachers, in the order of ``teacher_logits``.
        live_teachers: the teachers themselves, who then see what the student sees, mixed or
            augmented; None (default): their logits are in the batch. They stay in evaluation
            mode and outside the student's parameters and state dict.
        weighting: how the teachers are mixed.
        distill_loss: the loss of the teachers.
        kd_lambda: lambda, between 0 (no teacher) and 1 (no labels); default 0.5.
        lambda_schedule: ``constant`` (default), or ``linear`` or ``cosine``, down to 0 at the end.
        **classifier: see :class:`~espnet_mtkd.models.ser_model.ESPnetSERModel`.
    """

    def __init__(
        self,
        teachers: Sequence[str],
        weighting: AbsWeighting,
        distill_loss: MultiTeacherLoss,
        kd_lambda: float = 0.5,
        lambda_schedule: str = "constant",
        live_teachers: Sequence[ESPnetSERModel] | None = None,
        **classifier: Any,
    ) -> None:
        super().__init__(**classifier)
        if not 0 <= kd_lambda <= 1:
            raise UserError(f"distill_conf: kd_lambda {kd_lambda}: must be between 0 and 1")
        self.teachers = list(teachers)
        self.weighting = weighting
        self.distill_loss = distill_loss
        if lambda_schedule not in SCHEDULES:
            raise UserError(
                f"distill_conf: lambda_schedule {lambda_schedule!r}: must be one of "
                f"{', '.join(SCHEDULES)}"
            )
        self.kd_lambda = kd_lambda
        self.schedule = SCHEDULES[lambda_schedule]
        self.current_lambda = kd_lambda * self.schedule(0.0)
        # A tuple hides modules from torch.
        self._live_teachers = tuple(t.requires_grad_(False).eval() for t in live_teachers or ())
        if self.mixup > 0 and not self._live_teachers:
            raise UserError(
                "model_conf: mixup needs live teachers (teaching: live): cached logits are those "
                "of the unmixed utterances"
            )
        # Sums of an epoch: weight of each teacher by language, and utterances of each language.
        size = (len(self.languages), len(self.teachers) + 1)
        self.register_buffer("weight_sums", torch.zeros(size), persistent=False)

    @torch.no_grad()
    def ask_teachers(self, speech: torch.Tensor, speech_lengths: torch.Tensor) -> torch.Tensor:
        """Return the live teachers' logits (Batch, K, C)."""
        opinions = [t.to(speech.device).logits(speech, speech_lengths) for t in self._live_teachers]
        return torch.stack(opinions, dim=1)

    def losses(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        teacher_logits: torch.Tensor | None = None,
        **batch: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss with the teachers' part, and both parts to report.

        Args:
            teacher_logits: (Batch, K, C) in the order of ``teachers``. Without them, as on a
                development set, the loss is the cross-entropy.
        """
        loss_ce, stats = super().losses(logits, targets)
        if self._live_teachers and self.training:
            teacher_logits = self.ask_teachers(batch["speech"], batch["speech_lengths"])
        if teacher_logits is None:
            return loss_ce, stats
        if teacher_logits.shape[1:] != (len(self.teachers), logits.shape[-1]):
            raise UserError(
                f"teacher_logits are {tuple(teacher_logits.shape[1:])} for each utterance, but "
                f"{len(self.teachers)} teachers of {logits.shape[-1]} emotions are expected"
            )
        language = batch["language"]
        weights = self.weighting(
            logits.detach(),
            teacher_logits,
            batch["emotion"],
            language,
            batch.get("language_posterior"),
        )
        with torch.no_grad():
            counts = torch.cat([weights, weights.new_ones(len(weights), 1)], dim=-1)
            self.weight_sums.index_add_(0, language, counts)
        loss_kd = self.distill_loss(logits, teacher_logits, weights)
        loss = (1 - self.current_lambda) * loss_ce + self.current_lambda * loss_kd
        return loss, {
            "loss": loss.detach(),
            "loss_ce": loss_ce.detach(),
            "loss_kd": loss_kd.detach(),
        }

    def begin_epoch(self, progress: float = 0.0) -> None:
        """Forget the counts of the epoch before, and set lambda."""
        super().begin_epoch(progress)
        self.current_lambda = self.kd_lambda * self.schedule(progress)
        self.weight_sums.zero_()

    def end_epoch(self) -> dict[str, float]:
        """Add the mean weight that each teacher had for each language."""
        stats = super().end_epoch()
        sums = self.epoch_sum(self.weight_sums)
        for language, row in zip(self.languages, sums, strict=True):
            if row[-1] > 0:
                for teacher, weight in zip(self.teachers, row[:-1] / row[-1], strict=True):
                    stats[f"weight_{language}_{teacher}"] = float(weight)
        return stats

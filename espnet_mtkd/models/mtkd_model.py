"""The student: the same classifier, taught by several teachers, cached or live."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from espnet_mtkd.distill import MEMBER
from espnet_mtkd.distill.features import FeatureLoss
from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.opinions import Opinions, abstain, align
from espnet_mtkd.distill.weighting import AbsWeighting
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.ser_model import ESPnetSERModel
from espnet_mtkd.yaml_numbers import check_number

# lambda over the training, as a share of its first value, by progress from 0 to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2.0,
}


class ESPnetMTKDModel(ESPnetSERModel):
    """A student of several teachers.

    loss = (1 - lambda) * CE(z, y) + lambda * L_teachers + feature_lambda * L_features, see
    :class:`~espnet_mtkd.distill.loss.MultiTeacherLoss` and
    :class:`~espnet_mtkd.distill.features.FeatureLoss`. A teacher that does not know the label of an
    utterance abstains: the others have its weight.

    Args:
        teachers: names of the K teachers, in the order of ``teacher_logits``.
        feature_loss: compares the student's vector with those of its teachers; None (default): no
            such part.
        feature_lambda: its weight; the schedule applies to it as well.
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
        feature_loss: FeatureLoss | None = None,
        feature_lambda: float = 0.0,
        **classifier: Any,
    ) -> None:
        super().__init__(**classifier)
        if not 0 <= check_number("distill_conf: kd_lambda", kd_lambda) <= 1:
            raise UserError(f"distill_conf: kd_lambda {kd_lambda}: must be between 0 and 1")
        if check_number("distill_conf: feature_lambda", feature_lambda) < 0:
            raise UserError(f"distill_conf: feature_lambda {feature_lambda}: must not be below 0")
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
        self.share = self.schedule(0.0)
        self.feature_loss = feature_loss
        self.feature_lambda = feature_lambda
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
        # Cross-entropy and number of the labelled utterances of an epoch.
        self.register_buffer("ce_sums", torch.zeros(2), persistent=False)

    @torch.no_grad()
    def ask_teachers(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return what the live teachers say and see.

        Returns:
            Logits (Batch, K, C) in the order of the student's emotions, NaN for those that a
            teacher does not know, and the vectors (Batch, P_k) of each teacher.
        """
        logits, embeddings = [], []
        for name, teacher in zip(self.teachers, self._live_teachers, strict=True):
            embedding = teacher.to(speech.device).embed(speech, speech_lengths)
            said = teacher.head(embedding).to(speech.dtype)
            logits.append(align(said, teacher.emotions, self.emotions, name))
            embeddings.append(embedding)
        return torch.stack(logits, dim=1), embeddings

    def losses(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        teacher_logits: torch.Tensor | None = None,
        teacher_embeddings: torch.Tensor | Sequence[torch.Tensor] | None = None,
        **batch: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss with the teachers' part, and the parts to report.

        Args:
            teacher_logits: (Batch, K, C) in the order of ``teachers``; NaN where a teacher does
                not know the emotion. Without them, as on a development set, the loss is the
                cross-entropy.
            teacher_embeddings: (Batch, K, P_t), the vectors that the teachers' heads see. Without
                them there is no loss of features.
        """
        loss_ce, stats = super().losses(logits, targets)
        if self._live_teachers and self.training:
            asked = self.ask_teachers(batch["speech"], batch["speech_lengths"])
            teacher_logits, teacher_embeddings = asked
        elif teacher_embeddings is not None:
            teacher_embeddings = teacher_embeddings.unbind(1)
        if teacher_logits is None:
            return loss_ce, stats
        if teacher_logits.shape[1:] != (len(self.teachers), logits.shape[-1]):
            raise UserError(
                f"teacher_logits are {tuple(teacher_logits.shape[1:])} for each utterance, but "
                f"{len(self.teachers)} teachers of {logits.shape[-1]} emotions are expected"
            )
        language = batch["language"]
        opinions = Opinions(
            student=logits.detach(),
            teachers=teacher_logits,
            emotion=batch["emotion"],
            language=language,
            language_posterior=batch.get("language_posterior"),
        )
        weights = abstain(self.weighting(opinions).to(self.weight_sums), teacher_logits, targets)
        with torch.no_grad():
            counts = torch.cat([weights, weights.new_ones(len(weights), 1)], dim=-1)
            self.weight_sums.index_add_(0, language, counts)
            labelled = self.labelled(targets).sum()
            self.ce_sums += torch.stack([loss_ce * labelled, labelled.to(loss_ce)])
        loss_kd = self.distill_loss(logits, teacher_logits, weights)
        part = self.kd_lambda * self.share
        loss = (1 - part) * loss_ce + part * loss_kd
        stats["loss_kd"] = loss_kd.detach()
        if self.feature_loss is not None and teacher_embeddings is not None:
            loss_feature = self.feature_loss(batch["embedding"], teacher_embeddings, weights)
            loss = loss + self.feature_lambda * self.share * loss_feature
            stats["loss_feature"] = loss_feature.detach()
        stats["loss"] = loss.detach()
        return loss, stats

    def begin_epoch(self, progress: float = 0.0) -> None:
        """Forget the counts of the epoch before, and follow the schedule of lambda."""
        super().begin_epoch(progress)
        self.share = self.schedule(progress)
        self.weight_sums.zero_()
        self.ce_sums.zero_()

    def end_epoch(self) -> dict[str, float]:
        """Add the cross-entropy, and the mean weight of each teacher for each language.

        Members of an ensemble, ``NAME.SEED``, count as one teacher ``NAME``: the sum of theirs.
        """
        stats = super().end_epoch()
        cross_entropy, labelled = self.epoch_sum(self.ce_sums)
        if labelled > 0:
            stats["loss_ce"] = float(cross_entropy / labelled)
        sums = self.epoch_sum(self.weight_sums)
        for language, row in zip(self.languages, sums.tolist(), strict=True):
            if row[-1] > 0:
                for teacher, weight in zip(self.teachers, row, strict=False):  # the last: a count
                    name = f"weight_{language}_{MEMBER.sub('', teacher)}"
                    stats[name] = stats.get(name, 0.0) + weight / row[-1]
        return stats

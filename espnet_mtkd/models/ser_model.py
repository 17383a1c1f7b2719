"""The classifier: upstream, pooling, standardisation, layer weighting, head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_mtkd.data.wavheader import SAMPLE_RATE
from espnet_mtkd.distill import TRAINING_ONLY
from espnet_mtkd.distill.hints import HintLoss
from espnet_mtkd.errors import UserError
from espnet_mtkd.models.layers import LayerWeighting
from espnet_mtkd.models.mixup import mixup
from espnet_mtkd.models.pooling import AbsPooling
from espnet_mtkd.yaml_numbers import check_number

# Hidden states (Batch, Frames, H) of each layer, and their lengths (Batch,).
Heard = tuple[list[torch.Tensor], list[torch.Tensor]]


def max_samples(max_duration: float | None) -> int | None:
    """Return the samples of ``max_duration`` seconds; None: no end."""
    if max_duration is None:
        return None
    if max_duration <= 0:
        raise UserError(f"model_conf: max_duration {max_duration}: must be above 0")
    return round(max_duration * SAMPLE_RATE)


def hear(
    frontend: AbsFrontend,
    speech: torch.Tensor,
    speech_lengths: torch.Tensor,
    max_samples: int | None,
) -> Heard:
    """Return the hidden states of waveforms, of their first ``max_samples`` only.

    Filter banks (Batch, Frames, 80) are as long as they shall be.
    """
    if max_samples is not None and speech.dim() == 2:
        speech_lengths = speech_lengths.clamp(max=max_samples)
    return frontend(speech[:, : int(speech_lengths.max())], speech_lengths)


class ESPnetSERModel(AbsESPnetModel):
    """Speech emotion classifier of one or many languages.

    Every layer is pooled over time first and weighted afterwards. For the mean the order makes no
    difference, and the pooled layers of a frozen upstream can be stored: ``speech`` is then
    (Batch, Layers, P) instead of a waveform, and the result is the same.

    Args:
        emotions: names of the C classes, in the order of the logits.
        languages: names of the languages that ``language`` counts.
        label_smoothing: of the cross-entropy; default 0.
        lid_lambda: weight of the cross-entropy of a language head, which lets the model tell the
            language as well; default 0, no such head.
        max_duration: what comes later in a waveform is not heard, seconds; default None, all of it.
        mixup: parameter of :func:`~espnet_mtkd.models.mixup.mixup`; default 0, no mixing.
        hint_lambda: weight of ``hint_loss``; default 0.
        hint_loss: compares the frames of an encoder of the model's own with those of an upstream,
            which a training set has beside the speech; None (default): no such part.
    """

    def __init__(
        self,
        emotions: Sequence[str],
        languages: Sequence[str],
        frontend: AbsFrontend,
        pooling: AbsPooling,
        normalize: torch.nn.Module | None,
        layer_weighting: LayerWeighting,
        head: torch.nn.Module,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        lid_lambda: float = 0.0,
        max_duration: float | None = None,
        hint_lambda: float = 0.0,
        hint_loss: HintLoss | None = None,
    ) -> None:
        super().__init__()
        self.emotions = list(emotions)
        self.languages = list(languages)
        self.frontend = frontend
        self.pooling = pooling
        self.normalize = normalize
        self.layer_weighting = layer_weighting
        self.head = head
        weights = dict(mixup=mixup, lid_lambda=lid_lambda, hint_lambda=hint_lambda)
        for name, value in weights.items():
            if check_number(f"model_conf: {name}", value) < 0:
                raise UserError(f"model_conf: {name} {value}: must not be below 0")
        if not 0 <= check_number("model_conf: label_smoothing", label_smoothing) < 1:
            raise UserError(f"model_conf: label_smoothing {label_smoothing}: must be in [0, 1)")
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.lid_lambda = lid_lambda
        self.max_samples = max_samples(max_duration)
        self.hint_lambda = hint_lambda
        self.hint_loss = hint_loss
        if mixup > 0 and hint_loss is not None:
            raise UserError("model_conf: mixup with hint_lambda: hints are of unmixed utterances")
        self.language_head = None
        if lid_lambda > 0:
            self.language_head = torch.nn.Linear(self.embedding_size, len(self.languages))
        # Counts of an epoch, by language, reference and hypothesis; not part of the model.
        size = (len(self.languages), len(self.emotions), len(self.emotions))
        self.register_buffer("confusion", torch.zeros(size), persistent=False)

    @property
    def embedding_size(self) -> int:
        """Size P of the vector that the head sees."""
        return self.pooling.output_size(self.frontend.output_size())

    def pool(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, heard: Heard | None = None
    ) -> torch.Tensor:
        """Return the pooled layers (Batch, Layers, P) of waveforms (Batch, Samples) at 16 kHz.

        Pooled layers that come from a store pass through. An encoder of the model's own takes
        filter banks (Batch, Frames, 80) as well.

        Args:
            heard: the hidden states of the speech, if they are known.
        """
        if speech.dim() == 3 and self.frontend.mode != "own":
            return speech
        heard = heard or hear(self.frontend, speech, speech_lengths, self.max_samples)
        states, lengths = heard
        pooled = [self.pooling(h, n) for h, n in zip(states, lengths, strict=True)]
        return torch.stack(pooled, dim=1)

    def embed(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, heard: Heard | None = None
    ) -> torch.Tensor:
        """Return one vector (Batch, P) per utterance: standardised, layers summed."""
        pooled = self.pool(speech, speech_lengths, heard)
        if self.normalize is not None:
            pooled = self.normalize(pooled)
        return self.layer_weighting(pooled)

    def logits(self, speech: torch.Tensor, speech_lengths: torch.Tensor) -> torch.Tensor:
        """Return the logits (Batch, C) of waveforms or of stored pooled layers."""
        return self.head(self.embed(speech, speech_lengths))

    @staticmethod
    def labelled(targets: torch.Tensor) -> torch.Tensor:
        """Return which rows (Batch,) of targets (Batch, C) have a label.

        What is mixed with an unlabelled utterance has none.
        """
        return targets.sum(-1) > 0.999

    def losses(
        self, logits: torch.Tensor, targets: torch.Tensor, **batch: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss and what to report of it; students add to it here.

        Args:
            logits: (Batch, C).
            targets: probabilities of the emotions (Batch, C); a row of zeros has no label and no
                part in the loss.
            batch: what else a batch holds.
        """
        labelled = self.labelled(targets)
        loss = F.cross_entropy(
            logits, targets, label_smoothing=self.label_smoothing, reduction="none"
        )
        loss = (loss * labelled).sum() / labelled.sum().clamp(min=1)
        return loss, {"loss": loss.detach()}

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        emotion: torch.Tensor,
        language: torch.Tensor,
        **batch: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and weight of a batch.

        Args:
            speech: (Batch, Samples), or stored (Batch, Layers, P).
            speech_lengths: (Batch,).
            emotion: index of the emotion (Batch, 1), -1 where the label is not known.
            language: index of the language (Batch, 1).
            batch: what else there is, such as ``hint``, see
                :class:`~espnet_mtkd.distill.hints.HintLoss`.
        """
        emotion, language = emotion.flatten(), language.flatten()
        known = emotion >= 0
        targets = F.one_hot(emotion.clamp(min=0), len(self.emotions)) * known[:, None]
        targets = targets.to(speech.dtype)
        if self.training and self.mixup > 0:
            speech, speech_lengths, targets = mixup(speech, speech_lengths, targets, self.mixup)
        states = None
        if self.hint_loss is not None:
            states = hear(self.frontend, speech, speech_lengths, self.max_samples)
        embedding = self.embed(speech, speech_lengths, heard=states)
        logits = self.head(embedding)
        batch.update(
            emotion=emotion,
            language=language,
            speech=speech,
            speech_lengths=speech_lengths,
            embedding=embedding,
        )
        heard = None
        if self.language_head is not None:
            heard = self.language_head(embedding)
            batch["language_posterior"] = heard.detach().softmax(-1)
        loss, stats = self.losses(logits, targets=targets, **batch)
        if heard is not None:
            loss_lid = F.cross_entropy(heard, language)
            loss = loss + self.lid_lambda * loss_lid
            stats.update(loss=loss.detach(), loss_lid=loss_lid.detach())
            stats["lid_acc"] = (heard.argmax(-1) == language).float().mean()
        if states is not None and "hint" in batch:
            (frames, *_), (lengths, *_) = states
            loss_hint = self.hint_loss(frames, lengths, batch["hint"], batch["hint_lengths"])
            loss = loss + self.hint_lambda * loss_hint
            stats.update(loss=loss.detach(), loss_hint=loss_hint.detach())
        hypothesis = logits.argmax(-1)
        index = (language[known], emotion[known], hypothesis[known])
        ones = torch.ones_like(emotion[known], dtype=self.confusion.dtype)
        self.confusion.index_put_(index, ones, accumulate=True)
        return force_gatherable((loss, stats, len(emotion)), loss.device)

    def count_params(self) -> dict[str, int]:
        """Return ``num_params``, with what is used of a frozen upstream, and ``num_trainable``.

        What only the training has does not count.
        """
        parts = [m for name, m in self.named_children() if name not in TRAINING_ONLY]
        own = sum(p.numel() for part in parts for p in part.parameters())
        last = self.layer_weighting.chosen[-1]
        held = self.frontend.num_params(last) if self.frontend.mode == "frozen" else 0
        trainable = sum(p.numel() for m in parts for p in m.parameters() if p.requires_grad)
        return {"num_params": own + held, "num_trainable": trainable}

    def begin_epoch(self, progress: float = 0.0) -> None:
        """Forget the counts of the epoch before.

        Args:
            progress: of the training, 0 in the first epoch, 1 in the last.
        """
        self.confusion.zero_()

    def end_epoch(self) -> dict[str, float]:
        """Return what can only be said of a whole epoch: accuracy and UAR, the latter per language.

        UAR is the mean recall over the emotions that occur in the references (Schuller et al.
        2009); ``uar`` is the unweighted mean over the languages. Utterances without a label have
        no part in either.
        """
        confusion = self.epoch_sum(self.confusion)
        total = confusion.sum(-1)
        recall = confusion.diagonal(dim1=-2, dim2=-1) / total  # NaN for an absent emotion
        by_language = recall.nanmean(-1)
        stats = {
            f"uar_{name}": float(value)
            for name, value in zip(self.languages, by_language, strict=True)
            if not value.isnan()
        }
        correct = confusion.diagonal(dim1=-2, dim2=-1).sum()
        stats["acc"] = float(correct / confusion.sum())
        return {"uar": float(by_language.nanmean()), **stats}

    @staticmethod
    def epoch_sum(counts: torch.Tensor) -> torch.Tensor:
        """Sum counts over all processes of a distributed training."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            counts = counts.clone()
            torch.distributed.all_reduce(counts)
        return counts

    def collect_feats(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Nothing to collect: stage 4 of the recipe writes the statistics."""
        return {}

"""A small student's first lesson: to tell, frame by frame, what its teachers' upstream hears."""

from __future__ import annotations

import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_mtkd.distill.hints import HintLoss
from espnet_mtkd.models.encoders import ConvEncoder
from espnet_mtkd.models.ser_model import hear, max_samples


class ESPnetHintModel(AbsESPnetModel):
    """An encoder that learns hints, see :class:`~espnet_mtkd.distill.hints.HintLoss`.

    This is the first of the two stages of FitNets (Romero et al. 2015, arXiv 1412.6550); the second
    is the training of the student.

    Args:
        frontend: the encoder.
        hint_loss: compares its frames with those of an upstream.
        max_duration: as for :class:`~espnet_mtkd.models.ser_model.ESPnetSERModel`.
    """

    def __init__(
        self, frontend: ConvEncoder, hint_loss: HintLoss, max_duration: float | None = None
    ) -> None:
        super().__init__()
        self.frontend = frontend
        self.hint_loss = hint_loss
        self.max_samples = max_samples(max_duration)

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        hint: torch.Tensor,
        hint_lengths: torch.Tensor,
        **batch: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and weight of a batch.

        Args:
            speech: (Batch, Samples), or filter banks (Batch, Frames, 80).
            speech_lengths: (Batch,).
            hint: (Batch, Hints, H), a hint for each of the encoder's frames; what the encoder
                hears no more (``max_duration``) is left out.
            hint_lengths: (Batch,).
        """
        states, lengths = hear(self.frontend, speech, speech_lengths, self.max_samples)
        loss = self.hint_loss(states[0], lengths[0], hint, hint_lengths)
        return force_gatherable((loss, {"loss": loss.detach()}, len(speech)), loss.device)

    def count_params(self) -> dict[str, int]:
        """Return ``num_params`` of the encoder, and ``num_trainable``."""
        own = sum(p.numel() for p in self.frontend.parameters())
        return {"num_params": own, "num_trainable": own}

    def begin_epoch(self, progress: float = 0.0) -> None:
        """Nothing is counted."""

    def end_epoch(self) -> dict[str, float]:
        """Nothing more to report."""
        return {}

    def collect_feats(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Nothing to collect."""
        return {}

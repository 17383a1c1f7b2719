"""A small student's first lesson: to tell, frame by frame, what its teachers' upstream hears."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_mtkd.models.encoders import ConvEncoder, FrameNorm, valid
from espnet_mtkd.models.ser_model import hear, max_samples


class ESPnetHintModel(AbsESPnetModel):
    """An encoder that learns hints: frames of the last layer of an upstream, through a projector.

    loss = mean over the valid frames n of |P h[n] - LN(BN(t[n]))|^2 / H, where h are the encoder's
    frames, t the upstream's, P an affine projector that is thrown away, BN the standardisation of
    each of the H numbers over the frames of a batch and LN that of each frame over its numbers: 1
    if nothing is known, 0 if all is. No label is needed. This is the first of the two stages of
    FitNets (Romero et al. 2015, arXiv 1412.6550); the second is the training of the student.

    Args:
        frontend: the encoder.
        hint_size: size H of a frame of the upstream.
        max_duration: as for :class:`~espnet_mtkd.models.ser_model.ESPnetSERModel`.
    """

    def __init__(
        self, frontend: ConvEncoder, hint_size: int, max_duration: float | None = None
    ) -> None:
        super().__init__()
        self.frontend = frontend
        self.projector = torch.nn.Linear(frontend.output_size(), hint_size)
        self.norm = FrameNorm(hint_size).requires_grad_(False)
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
        guess = self.projector(states[0])
        both = min(guess.shape[1], hint.shape[1])
        guess, hint = guess[:, :both], hint[:, :both].transpose(1, 2)
        mask = valid(torch.minimum(lengths[0], hint_lengths), hint)
        wanted = self.norm(hint, mask).transpose(1, 2)
        distance = (guess - F.layer_norm(wanted, wanted.shape[-1:])).square().mean(-1)
        loss = (distance * mask[:, 0]).sum() / mask.sum()
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

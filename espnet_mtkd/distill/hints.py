"""Hints: a student's encoder is to tell, frame by frame, what its teachers' upstream hears."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from espnet_mtkd.models.encoders import FrameNorm, valid


class HintLoss(torch.nn.Module):
    """Distance of an encoder's projected frames from those of the last layer of an upstream.

    mean over the valid frames n of |P h[n] - LN(BN(t[n]))|^2 / H, where h are the encoder's
    frames, t the upstream's, P an affine projector that is thrown away, BN the standardisation of
    each of the H numbers over the frames of a batch and LN that of each frame over its numbers: 1
    if nothing is known, 0 if all is. No label is needed (Romero et al. 2015, arXiv 1412.6550).

    Args:
        student_size: size of a frame of the encoder.
        hint_size: size H of a frame of the upstream.
    """

    def __init__(self, student_size: int, hint_size: int) -> None:
        super().__init__()
        self.projector = torch.nn.Linear(student_size, hint_size)
        self.norm = FrameNorm(hint_size).requires_grad_(False)

    def forward(
        self,
        states: torch.Tensor,
        lengths: torch.Tensor,
        hint: torch.Tensor,
        hint_lengths: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            states: the encoder's frames (Batch, Frames, S).
            lengths: (Batch,).
            hint: (Batch, Hints, H), a hint for each of the encoder's frames; frames without a hint
                and hints without a frame are left out.
            hint_lengths: (Batch,).
        """
        both = min(states.shape[1], hint.shape[1])
        guess, hint = self.projector(states[:, :both]), hint[:, :both].transpose(1, 2)
        mask = valid(torch.minimum(lengths, hint_lengths), hint)
        wanted = self.norm(hint, mask).transpose(1, 2)
        distance = (guess - F.layer_norm(wanted, wanted.shape[-1:])).square().mean(-1)
        return (distance * mask[:, 0]).sum() / mask.sum()

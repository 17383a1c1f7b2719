"""Mixing utterances: more views of the training data than there are recordings."""

from __future__ import annotations

import torch


def mixup(
    speech: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix every utterance of a batch with another one of it (Zhang et al. 2018, arXiv 1710.09412).

    Labelled utterances are mixed with labelled ones and the others with each other: a mixture has a
    label only if both have.

    The share of each utterance in its own mixture is at least a half, so that what else is known
    of it, such as its language, still says most.

    Args:
        speech: waveforms (Batch, Samples), or stored pooled layers (Batch, Layers, P).
        lengths: (Batch,).
        targets: probabilities of the emotions (Batch, C); a row of zeros has no label.
        alpha: the share is drawn from Beta(alpha, alpha); small values mix little.

    Returns:
        Mixed speech, the longer of both lengths, mixed targets.
    """
    partner = torch.empty(len(speech), dtype=torch.long, device=speech.device)
    labelled = targets.sum(-1) > 0
    for group in (labelled.nonzero()[:, 0], (~labelled).nonzero()[:, 0]):
        partner[group] = group[torch.randperm(len(group), device=speech.device)]
    share = torch.distributions.Beta(alpha, alpha).sample((len(speech),)).to(speech)
    share = torch.maximum(share, 1 - share)

    def mix(x: torch.Tensor) -> torch.Tensor:
        own = share.view(-1, *[1] * (x.dim() - 1))
        return own * x + (1 - own) * x[partner]

    return mix(speech), torch.maximum(lengths, lengths[partner]), mix(targets)

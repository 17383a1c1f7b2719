"""What besides the emotion could give the emotion away: speaker, recording rate, duration."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from espnet_mtkd.data.datadir import DataDir

SUSPICIOUS = 0.1  # adjusted mutual information from which on a property is called a confound
_BINS = 10  # of duration


def confounds(data: DataDir) -> dict[str, dict[str, Any]]:
    """How much speaker, recording rate and duration say about the emotion.

    Args:
        data: One corpus with mapped labels; needs ``utt2dur`` and ``utt2rate``.

    Returns:
        By property: ``values`` (how many there are; durations are cut into ten parts of equal
        size), ``nmi``, the normalised mutual information with the emotion (0: nothing, 1: the one
        determines the other), ``ami``, the same with what chance would give taken off (many
        speakers with few utterances each have a high ``nmi`` by chance), and ``suspicious``.
    """
    utts = data.utterances
    emotions = [data.utt2emotion[utt] for utt in utts]
    seconds = np.array([float(data.utt2dur[utt]) for utt in utts])
    inner = np.unique(np.quantile(seconds, np.arange(1, _BINS) / _BINS))
    properties = {
        "speaker": [data.utt2spk[utt] for utt in utts],
        "recording rate": [data.utt2rate[utt] for utt in utts],
        "duration": np.searchsorted(inner, seconds, side="right").tolist(),
    }
    found = {}
    for name, values in properties.items():
        varied = len(set(values)) > 1 and len(set(emotions)) > 1
        nmi = float(normalized_mutual_info_score(emotions, values)) if varied else 0.0
        ami = float(adjusted_mutual_info_score(emotions, values)) if varied else 0.0
        found[name] = {
            "values": len(set(values)),
            "nmi": round(nmi, 4) + 0.0,
            "ami": round(ami, 4) + 0.0,
            "suspicious": ami >= SUSPICIOUS,
        }
    return found

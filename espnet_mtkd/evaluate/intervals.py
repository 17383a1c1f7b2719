"""Confidence intervals and paired significance by a bootstrap over speakers.

Utterances of one speaker are not independent of each other, so speakers are what is resampled, not
utterances: the blockwise bootstrap of Bisani & Ney (ICASSP 2004), the conditions of Ferrer &
Riera's toolkit (github.com/luferrer/ConfidenceIntervals). A resample draws, within each language,
as many speakers as there are, with replacement. A confusion matrix is a sum over speakers, so a
resample is a vector of speaker counts and its matrix a weighted sum of the speakers' matrices:
all resamples of a system are one product of two arrays.

Several runs (seeds) of a system are pooled: each resample takes the same speakers in every run and
the metric is averaged over the runs. The interval therefore says how the result would move with
other speakers; it does not hold the spread over seeds, which is reported beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray], np.ndarray]


def speaker_weights(num_speakers: int, num_resamples: int, seed: int, language: str) -> np.ndarray:
    """How often each resample draws each speaker: (B, S), rows sum to S.

    The draw depends on seed, language and number of speakers only. Every system gets the same one,
    which is what makes differences paired, and a further system or language moves no interval.
    """
    rng = np.random.default_rng([seed, zlib.crc32(language.encode())])
    share = np.full(num_speakers, 1.0 / num_speakers)
    return rng.multinomial(num_speakers, share, size=num_resamples)


def observed(counts: np.ndarray, metric: Metric) -> float:
    """Value of ``metric`` averaged over runs, from per-speaker matrices (R, S, C, C)."""
    return float(metric(counts.sum(axis=1)).mean())


def resampled(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Confusion matrices (B, R, C, C) of every resample and run.

    Args:
        counts: Per-speaker confusion matrices (R, S, C, C) of R runs and S speakers.
        weights: How often each resample draws each speaker (B, S).
    """
    # In floats, because only they are multiplied by BLAS; counts stay exact below 2**53.
    return np.einsum(
        "bs,rsij->brij", weights.astype(np.float64), counts.astype(np.float64), optimize=True
    )


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values (B,) (Efron & Tibshirani 1993, chapter 13)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided bootstrap p-value of "no difference", from paired differences (B,).

    Twice the share of resamples in which the difference is not on its side of zero: the level at
    which the percentile interval of the difference just touches zero (Efron & Tibshirani 1993,
    chapter 15 and 16). One is added to both counts, so that B resamples never claim less than
    2 / (B + 1) (Davison & Hinkley 1997, section 4.2). At most 1.

    >>> p_value(np.array([0.1, 0.2, 0.3]))
    0.5
    >>> p_value(np.zeros(3))
    1.0
    """
    # Equal metrics of different matrices may differ in the last bit: that is a tie.
    differences = np.round(differences, 12)
    one_sided = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2.0 * (one_sided + 1) / (len(differences) + 1)))


def plain(value: float) -> float | None:
    """A number as JSON holds it: rounded, None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)


def estimate(value: float, draws: np.ndarray, level: float) -> dict[str, float | None]:
    """A value with the interval of its bootstrap values (B,)."""
    low, high = percentile_interval(draws, level)
    return {"value": plain(value), "low": plain(low), "high": plain(high)}

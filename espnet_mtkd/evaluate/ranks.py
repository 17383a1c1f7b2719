"""Mean ranks over data sets and how far apart they must be (Demsar 2006, JMLR 7, 1-30)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank (K,) of K systems from scores (N, K) on N data sets; 1 is the highest score.

    Equal scores share the mean of their ranks.

    >>> mean_ranks(np.array([[0.9, 0.5, 0.7], [0.8, 0.8, 0.1]])).tolist()
    [1.25, 2.25, 2.5]
    """
    return stats.rankdata(-np.round(scores, 12), axis=1).mean(axis=0)


def critical_difference(num_systems: int, num_sets: int, alpha: float = 0.05) -> float:
    """Difference of mean ranks that is significant by the Nemenyi test.

    q * sqrt(K (K + 1) / (6 N)), with q the quantile of the studentised range for K groups and
    infinite degrees of freedom, divided by sqrt(2).

    >>> round(critical_difference(5, 30), 3)  # q = 2.728 in Demsar's table 5
    1.114
    """
    q = float(stats.studentized_range.ppf(1 - alpha, num_systems, math.inf)) / math.sqrt(2)
    return q * math.sqrt(num_systems * (num_systems + 1) / (6 * num_sets))


def compare(names: Sequence[str], scores: np.ndarray, alpha: float = 0.05) -> dict[str, Any]:
    """Compare systems by rank.

    Args:
        names: of the K systems.
        scores: on N data sets (N, K), higher is better.
        alpha: level of the tests.

    Returns:
        ``ranks`` by name; ``friedman_p`` and ``critical_difference``, None where they make no
        sense (fewer than three systems or two data sets); ``groups``: the largest sets of systems
        whose ranks are not further apart than the critical difference.
    """
    ranks = mean_ranks(scores)
    result: dict[str, Any] = {
        "ranks": {name: float(rank) for name, rank in zip(names, ranks, strict=True)},
        "friedman_p": None,
        "critical_difference": None,
        "groups": [],
        "alpha": alpha,
    }
    if scores.shape[1] < 3 or scores.shape[0] < 2:
        return result
    equal = bool((ranks == ranks[0]).all())  # the statistic may be 0 / 0
    p = math.nan if equal else float(stats.friedmanchisquare(*scores.T).pvalue)
    difference = critical_difference(scores.shape[1], scores.shape[0], alpha)
    result["friedman_p"] = None if math.isnan(p) else p
    result["critical_difference"] = difference
    order = sorted(range(len(names)), key=lambda i: (ranks[i], names[i]))
    end_before = 0
    for start, first in enumerate(order):
        end = max(
            i for i in range(start, len(order)) if ranks[order[i]] - ranks[first] < difference
        )
        if end > max(start, end_before):
            result["groups"].append([names[i] for i in order[start : end + 1]])
            end_before = end
    return result

"""Cutting speakers into groups that are as like as speakers allow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from espnet_mtkd.data.datadir import DataDir

_STARTS = 8  # of the local search
_MISSING = 1.0  # price of a class that a group lacks: above any price of imbalance


def partition(data: DataDir, speakers: Sequence[str], k: int, seed: int) -> list[list[str]]:
    """Cut speakers into ``k`` groups: greedily, then by moves and swaps while they help.

    First, as few classes as possible are missing in a group; then each group's part of every
    class (by language), of the speakers and of either gender is as near to 1 / k as can be found.

    Args:
        data: Holds their utterances and emotions.
        speakers: ``k`` or more of its speakers, in any order.
        k: Number of groups.
        seed: Another seed, another partition of equal quality.

    Returns:
        The groups; each is sorted and has a speaker at least.
    """
    results = []
    for start in range(_STARTS):
        # A hash orders the speakers: no file order, no generator whose stream might change.
        order = sorted(speakers, key=lambda spk, start=start: _digest(seed, start, spk))
        features, weights, classes = _features(data, order)
        assignment = search(features, weights, classes, k)
        sums = np.stack([features[assignment == group].sum(axis=0) for group in range(k)])
        cost = float(price(sums, weights, classes, k).sum())
        groups = [[s for s, g in zip(order, assignment, strict=True) if g == n] for n in range(k)]
        results.append((round(cost, 9), start, groups))
    groups = min(results)[2]
    # The search puts the largest speakers first; which fold they are in should be chance.
    return sorted(map(sorted, groups), key=lambda group: _digest(seed, *group))


def _features(data: DataDir, speakers: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is to be balanced, as shares of the total.

    Returns:
        Features (speakers, F), each column sums to 1; weights (F,); which are classes (F,), bool.
    """
    spk2utt = data.spk2utt
    counts = [
        Counter((data.utt2lang[utt], data.utt2emotion[utt]) for utt in spk2utt[speaker])
        for speaker in speakers
    ]
    cells = sorted(set().union(*counts))
    columns = [[count[cell] for count in counts] for cell in cells]
    weights = [1.0] * len(cells)
    columns.append([1] * len(speakers))
    weights.append(0.5)
    for gender in sorted({data.spk2gender[spk] for spk in speakers if spk in data.spk2gender}):
        columns.append([int(data.spk2gender.get(speaker) == gender) for speaker in speakers])
        weights.append(0.5)
    features = np.array(columns, dtype=np.float64).T
    return features / features.sum(axis=0), np.array(weights), np.arange(len(weights)) < len(cells)


def price(sums: np.ndarray, weights: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Price of groups whose features sum to ``sums`` (..., F): lower is more like 1 / k of all."""
    imbalance = (weights * (sums - 1 / k) ** 2).sum(axis=-1)
    return imbalance + _MISSING * ((sums < 1e-9) & classes).sum(axis=-1)


def search(features: np.ndarray, weights: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Assign speakers (S, F) to ``k`` groups, none empty; returns (S,) int."""

    def cost(sums: np.ndarray) -> np.ndarray:
        return price(sums, weights, classes, k)

    num = len(features)
    assignment = np.full(num, -1)
    sums = np.zeros((k, features.shape[1]))
    size = np.zeros(k, dtype=int)
    # Largest first; sorted() keeps the order of equals.
    for left, spk in enumerate(sorted(range(num), key=lambda i: -round(features[i].sum(), 9))):
        gain = cost(sums + features[spk]) - cost(sums)
        if num - left <= (size == 0).sum():
            gain[size > 0] = np.inf  # the rest must fill the empty groups
        best = int(np.argmin(np.round(gain, 12)))
        assignment[spk], sums[best], size[best] = best, sums[best] + features[spk], size[best] + 1
    improved = True
    while improved:
        improved = False
        for spk in range(num):
            here, row = assignment[spk], features[spk]
            now = cost(sums)
            # Move to another group ...
            move = cost(sums[here] - row) + cost(sums + row) - now[here] - now
            if size[here] == 1:
                move[:] = np.inf
            move[here] = 0
            # ... or change places with a speaker of another group.
            there = sums[assignment]
            swap = cost(sums[here] - row + features) + cost(there - features + row)
            swap = np.where(assignment == here, 0, swap - now[here] - now[assignment])
            target, other = int(np.argmin(move)), int(np.argmin(swap))
            if min(move[target], swap[other]) > -1e-9:
                continue
            improved = True
            if move[target] <= swap[other]:
                assignment[spk] = target
            else:
                assignment[spk], assignment[other] = assignment[other], here
            for group in range(k):  # summed anew: no rounding error builds up
                sums[group] = features[assignment == group].sum(axis=0)
                size[group] = (assignment == group).sum()
    return assignment


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(" ".join(map(str, parts)).encode()).digest()

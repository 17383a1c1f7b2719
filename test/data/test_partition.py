"""The search, against all partitions of a few speakers."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

from espnet_mtkd.data.partition import partition, price, search


def table(speakers: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random shares (speakers, 3 classes + number of speakers), as ``search`` wants them."""
    rng = random.Random(seed)
    rows = [[rng.choice((0, 0, 1, 3, 10, 30)) for _ in range(3)] + [1] for _ in range(speakers)]
    rows[0][:3] = rows[1][:3] = [1, 1, 1]  # no column is empty
    shares = np.array(rows, dtype=float)
    weights, classes = np.array([1, 1, 1, 0.5]), np.array([True, True, True, False])
    return shares / shares.sum(axis=0), weights, classes


def total(features, weights, classes, assignment, k) -> float:
    """The cost, written from its definition."""
    result = 0.0
    for group in range(k):
        sums = [
            sum(f[c] for f, g in zip(features, assignment, strict=True) if g == group)
            for c in range(4)
        ]
        result += sum(w * (s - 1 / k) ** 2 for w, s in zip(weights, sums, strict=True))
        result += sum(1.0 for s, is_class in zip(sums, classes, strict=True) if is_class and s == 0)
    return result


@pytest.mark.parametrize("seed", range(12))
def test_search_is_near_the_best_of_all_partitions(seed):
    features, weights, classes = table(7, seed)
    k = 3
    every = [a for a in product(range(k), repeat=7) if len(set(a)) == k]
    costs = sorted(total(features, weights, classes, a, k) for a in every)
    found = total(features, weights, classes, search(features, weights, classes, k), k)
    assert int(found) == int(costs[0]), "as few classes missing as possible"
    assert found < costs[len(costs) // 50], "among the best 2 %"


@pytest.mark.parametrize("seed", range(12))
def test_search_ends_where_no_move_and_no_swap_helps(seed):
    features, weights, classes = table(12, seed)
    k = 4
    assignment = list(search(features, weights, classes, k))
    cost = total(features, weights, classes, assignment, k)
    for one in range(12):
        for group in range(k):
            moved = [*assignment[:one], group, *assignment[one + 1 :]]
            if len(set(moved)) == k:
                assert total(features, weights, classes, moved, k) > cost - 1e-6
        for other in range(one):
            swapped = list(assignment)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            assert total(features, weights, classes, swapped, k) > cost - 1e-6


def test_a_missing_class_costs_more_than_any_imbalance():
    weights, classes = np.ones(2), np.array([True, True])
    lopsided = np.array([[0.99, 0.01], [0.01, 0.99]])
    missing = np.array([[0.5, 1.0], [0.5, 0.0]])
    assert price(lopsided, weights, classes, 2).sum() < price(missing, weights, classes, 2).sum()


def test_as_many_groups_as_speakers(make_data):
    sizes = {"a": {"joy": 50}, "b": {"joy": 1}, "c": {"rage": 2}}
    data = make_data(sizes)
    groups = partition(data, data.speakers, 3, 0)
    assert sorted(groups) == [["toy_a"], ["toy_b"], ["toy_c"]]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_speakers_does_not_matter(make_data, seed):
    rng = random.Random(seed)
    data = make_data({f"{n:02d}": {rng.choice("ab"): rng.randint(1, 9)} for n in range(15)})
    speakers = data.speakers
    rng.shuffle(speakers)
    assert partition(data, speakers, 4, seed) == partition(data, data.speakers, 4, seed)

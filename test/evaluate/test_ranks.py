"""Ranks against Demsar's paper and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from espnet_mtkd.evaluate.ranks import compare, critical_difference, mean_ranks

# Demsar 2006, table 6: AUC of C4.5, +m, +cf, +m+cf on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_the_example_of_the_paper():
    np.testing.assert_allclose(mean_ranks(DEMSAR), [3.143, 2.000, 2.893, 1.964], atol=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.01)
    result = compare(["c45", "m", "cf", "mcf"], DEMSAR)
    assert result["friedman_p"] == pytest.approx(stats.chi2.sf(9.28, 3), abs=0.01)
    assert result["groups"] == [["mcf", "m", "cf", "c45"]]  # the paper: too weak at 0.05
    wide = compare(["c45", "m", "cf", "mcf"], DEMSAR, alpha=0.10)["groups"]
    assert ["mcf", "m", "cf"] in wide and ["m", "cf"] not in wide


@pytest.mark.parametrize("k,q", [(2, 1.960), (3, 2.343), (6, 2.850), (10, 3.164)])
def test_quantiles_of_table_5(k, q):
    n = 7
    expected = q * np.sqrt(k * (k + 1) / (6 * n))
    assert critical_difference(k, n) == pytest.approx(expected, rel=1e-3)


def test_groups_are_the_largest_ones():
    # Ranks 1, 2, 3, 4 on very many sets: all are told apart.
    scores = np.tile([4.0, 3, 2, 1], (200, 1))
    result = compare(list("abcd"), scores)
    assert result["ranks"] == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert result["groups"] == []


def test_where_nothing_can_be_compared():
    for scores in (np.array([[0.1, 0.2]] * 5), np.array([[0.1, 0.2, 0.3]])):
        result = compare(list("abc")[: scores.shape[1]], scores)
        assert result["critical_difference"] is None and result["friedman_p"] is None
    equal = compare(list("abc"), np.ones((4, 3)))
    assert set(equal["ranks"].values()) == {2.0} and equal["friedman_p"] is None

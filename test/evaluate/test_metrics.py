import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from espnet_mtkd.evaluate.metrics import (
    METRICS,
    absent_classes,
    count_confusions,
    macro_f1,
    majority_confusion,
    recalls,
    uar,
    war,
)


def _count(ref, hyp, num_classes):
    return count_confusions(ref, hyp, np.zeros(len(ref), int), 1, num_classes)[0]


@pytest.mark.parametrize("num_classes", [2, 4, 8])
def test_metrics_equal_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    for _ in range(20):
        ref = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=60)])
        hyp = rng.integers(num_classes, size=len(ref))
        counts = _count(ref, hyp, num_classes)
        labels = range(num_classes)
        assert (counts == confusion_matrix(ref, hyp, labels=labels)).all()
        expected = recall_score(ref, hyp, labels=labels, average="macro")
        assert uar(counts) == pytest.approx(expected, abs=1e-12)
        assert war(counts) == pytest.approx(accuracy_score(ref, hyp), abs=1e-12)
        expected = f1_score(ref, hyp, labels=labels, average="macro", zero_division=0)
        assert macro_f1(counts) == pytest.approx(expected, abs=1e-12)


def test_class_without_reference_is_left_out_of_the_means():
    ref = np.array([0, 0, 1, 1])
    hyp = np.array([0, 2, 1, 1])  # Class 2 is said but never right; class 3 does not occur.
    counts = _count(ref, hyp, 4)
    assert uar(counts) == pytest.approx((0.5 + 1) / 2)
    assert war(counts) == pytest.approx(0.75)
    expected = f1_score(ref, hyp, labels=[0, 1], average="macro")
    assert macro_f1(counts) == pytest.approx(expected)
    assert np.isnan(recalls(counts)).tolist() == [False, False, True, True]
    assert absent_classes(counts, ["a", "b", "c", "d"]) == ["c", "d"]


def test_leading_axes_are_independent():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, size=(3, 5, 4, 4))
    for metric in METRICS.values():
        single = [[metric(counts[i, j]) for j in range(5)] for i in range(3)]
        np.testing.assert_allclose(metric(counts), single, rtol=0, atol=1e-15)


def test_no_utterance_is_nan_and_not_zero():
    for metric in METRICS.values():
        assert np.isnan(metric(np.zeros((4, 4), int)))


def test_groups_add_up_and_keep_apart():
    rng = np.random.default_rng(1)
    ref, hyp, group = rng.integers(4, size=(3, 200))
    counts = count_confusions(ref, hyp, group, 5, 4)
    assert counts.shape == (5, 4, 4)
    assert counts[4].sum() == 0
    for g in range(4):
        expected = confusion_matrix(ref[group == g], hyp[group == g], labels=range(4))
        assert (counts[g] == expected).all()


def test_majority_class():
    counts = np.array([[1, 1, 0], [5, 0, 1], [0, 0, 2]])
    constant = majority_confusion(counts)
    assert constant.tolist() == [[0, 2, 0], [0, 6, 0], [0, 2, 0]]
    assert uar(constant) == pytest.approx(1 / 3)
    assert war(constant) == pytest.approx(0.6)

"""Metrics of classification over a fixed label set, as functions of confusion matrices.

A confusion matrix has one row per reference class and one column per hypothesis, in the order of
the label set. Matrices of disjoint sets of utterances add up, which is what pooling over folds and
the bootstrap over speakers (:mod:`espnet_mtkd.evaluate.intervals`) rest on; every function here
therefore takes any number of leading axes.

A class without a reference utterance has no recall. It is left out of the means of UAR and
macro-F1 (scikit-learn would count it as 0), and :func:`absent_classes` names it so that the
results can say so. Predicting such a class still costs recall of the class that was right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def count_confusions(
    ref: np.ndarray, hyp: np.ndarray, group: np.ndarray, num_groups: int, num_classes: int
) -> np.ndarray:
    """Count one confusion matrix per group (speaker).

    Args:
        ref: Class indices of the reference (N,).
        hyp: Class indices of the hypothesis (N,).
        group: Index of the group of each utterance (N,).
        num_groups: Number of groups; a group without utterances has a zero matrix.
        num_classes: Size of the label set.

    Returns:
        Counts (num_groups, num_classes, num_classes), rows are references.

    >>> count_confusions(np.array([0, 1, 1]), np.array([0, 0, 1]), np.zeros(3, int), 1, 2).tolist()
    [[[1, 0], [1, 1]]]
    """
    shape = (num_groups, num_classes, num_classes)
    cell = np.ravel_multi_index((group, ref, hyp), shape)
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)


def _mean_over_present(values: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Mean over the classes (last axis) that have support; nan if there is none at all."""
    present = support > 0
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Recall of every class (..., C), nan for a class without reference utterances."""
    support = confusion.sum(axis=-1)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(correct, support, out=np.full(support.shape, np.nan), where=support > 0)


def uar(confusion: np.ndarray) -> np.ndarray:
    """Unweighted average recall: the mean of the classes' recalls (...,), in 0..1.

    >>> float(uar(np.array([[3, 1], [0, 4]])))
    0.875
    """
    return _mean_over_present(recalls(confusion), confusion.sum(axis=-1))


def war(confusion: np.ndarray) -> np.ndarray:
    """Weighted average recall, which is accuracy (...,), in 0..1; nan without utterances.

    >>> float(war(np.array([[3, 1], [0, 6]])))
    0.9
    """
    total = confusion.sum(axis=(-2, -1))
    correct = np.trace(confusion, axis1=-2, axis2=-1)
    return np.divide(correct, total, out=np.full(total.shape, np.nan), where=total > 0)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean over the classes of F1 = 2 TP / (references + hypotheses) (...,), in 0..1.

    >>> float(macro_f1(np.array([[1, 1], [0, 1]])))
    0.6666666666666666
    """
    support = confusion.sum(axis=-1)
    both = support + confusion.sum(axis=-2)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    f1 = np.divide(2.0 * correct, both, out=np.zeros(both.shape), where=both > 0)
    return _mean_over_present(f1, support)


METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"uar": uar, "war": war, "f1": macro_f1}


def majority_confusion(confusion: np.ndarray) -> np.ndarray:
    """Confusion matrix (C, C) of a system that always says the most frequent reference class.

    Ties go to the class that comes first in the label set.
    """
    support = confusion.sum(axis=-1)
    constant = np.zeros_like(confusion)
    constant[:, int(np.argmax(support))] = support
    return constant


def absent_classes(confusion: np.ndarray, emotions: Sequence[str]) -> list[str]:
    """Names of the classes without reference utterances in a matrix (C, C)."""
    return [e for e, n in zip(emotions, confusion.sum(axis=-1), strict=True) if n == 0]

"""Is a classifier as sure as it is right? Temperature scaling and the calibration error.

Guo et al. 2017, *On Calibration of Modern Neural Networks*, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from espnet_mtkd.evaluate.experiment import Experiment
from espnet_mtkd.evaluate.predictions import read_predictions

NUM_BINS = 15
_RANGE = (0.05, 20.0)  # of temperatures


def fit_temperature(logits: np.ndarray, ref: np.ndarray) -> float:
    """Return the temperature by which to divide logits so that their softmax can be believed.

    It minimises the cross-entropy. To the utterances comes the weight of one more whose class
    nobody knows: without it the temperature would go to zero where every utterance is right.

    Args:
        logits: of utterances that were not trained on (N, C), N > 0.
        ref: index of the right class (N,).

    Returns:
        The temperature, between 0.05 and 20; above 1 for a classifier that is too sure.

    >>> sure = np.log([[0.99, 0.01]] * 4)  # but right in three of four cases
    >>> bool(fit_temperature(sure, np.array([0, 0, 0, 1])) > 3)
    True
    """
    count, num_classes = logits.shape
    targets = np.eye(num_classes)[ref] * count / (count + 1) + 1 / (num_classes * (count + 1))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - (targets * scaled).sum(axis=1)))

    found = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded")
    return float(np.exp(found.x))


def temperature_of(
    predictions: str | Path, emotions: Sequence[str], languages: Sequence[str]
) -> float:
    """Return the temperature that fits the predictions of a file, which is ``dev.tsv``."""
    dev = read_predictions(predictions, emotions, languages)
    return fit_temperature(dev.logits, dev.ref)


def reliability(
    logits: np.ndarray, ref: np.ndarray, temperature: float = 1.0, num_bins: int = NUM_BINS
) -> np.ndarray:
    """Return the reliability diagram: (num_bins, 3) of utterances, mean confidence, accuracy.

    Confidence is the probability of the most probable class; bins have the same width. Rows of
    empty bins are zero.

    Args:
        logits: (N, C).
        ref: index of the right class (N,).
        temperature: divides the logits.
        num_bins: number of bins between 0 and 1.
    """
    probabilities = softmax(logits / temperature, axis=1)
    confidence = probabilities.max(axis=1)
    correct = logits.argmax(axis=1) == ref
    index = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    table = np.stack(
        [np.bincount(index, weights, num_bins) for weights in (None, confidence, correct)], axis=1
    )
    table[:, 1:] /= np.maximum(table[:, :1], 1)
    return table


def calibration_error(table: np.ndarray) -> float:
    """Return the expected calibration error of a :func:`reliability` table, in 0..1.

    It is the mean distance of confidence and accuracy over the utterances.

    >>> round(calibration_error(np.array([[3, 0.9, 1.0], [1, 0.5, 0.0]])), 6)
    0.2
    """
    count, confidence, accuracy = table.T
    return float((count * np.abs(confidence - accuracy)).sum() / count.sum())


def measure_calibration(experiment: Experiment, model: str) -> dict[str, float]:
    """Return how far the confidence of a model can be believed on the test sets.

    A temperature is fitted on the development set of every fold and seed. The test sets of all
    folds and languages are pooled, and the error is averaged over seeds.

    Args:
        experiment: with predictions for dev and test.
        model: a teacher or system.

    Returns:
        ``ece_raw`` and ``ece``, the calibration error without and with the temperature, and
        ``temperature``, the geometric mean.
    """
    errors, logs = [], []
    for seed in experiment.seeds:
        parts = []
        for fold in experiment.folds:
            folder = experiment.model_dir(fold, seed, model)
            names = experiment.emotions, experiment.languages
            temperature = temperature_of(folder / "dev.tsv", *names)
            test = read_predictions(folder / "test.tsv", *names)
            logs.append(np.log(temperature))
            parts.append((test.logits, test.logits / temperature, test.ref))
        raw, calibrated, ref = (np.concatenate(part) for part in zip(*parts, strict=True))
        errors.append([calibration_error(reliability(x, ref)) for x in (raw, calibrated)])
    ece_raw, ece = np.mean(errors, axis=0)
    return {
        "temperature": round(float(np.exp(np.mean(logs))), 4),
        "ece_raw": round(float(ece_raw), 6),
        "ece": round(float(ece), 6),
    }

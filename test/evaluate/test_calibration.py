from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from espnet_mtkd.evaluate.calibration import (
    calibration_error,
    fit_temperature,
    measure_calibration,
    reliability,
)
from espnet_mtkd.evaluate.experiment import read_experiment
from espnet_mtkd.evaluate.predictions import read_predictions


def sampled(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true probabilities are those at a temperature."""
    rng = np.random.default_rng(3)
    logits = 3 * rng.normal(size=(count, 4))
    gumbel = rng.gumbel(size=logits.shape)
    return logits, (logits / temperature + gumbel).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_true_temperature_is_found(temperature):
    logits, ref = sampled(20000, temperature)
    assert fit_temperature(logits, ref) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_cross_entropy():
    logits, ref = sampled(5000, 2.0)
    best = fit_temperature(logits, ref)

    def loss(t: float) -> float:
        return log_loss(ref, np.exp(log_softmax(logits / t, axis=1)))

    assert loss(best) < loss(best * 1.05) and loss(best) < loss(best / 1.05)


def test_few_utterances_that_are_all_right_do_not_make_it_certain():
    logits, ref = np.eye(4)[[0, 1, 2, 3, 0]] * 2.0, np.array([0, 1, 2, 3, 0])
    table = reliability(logits, ref, fit_temperature(logits, ref))
    (confidence,) = table[table[:, 0] > 0, 1]
    # One utterance in six might be anything: 5/6 + 1/6 * 1/4.
    assert confidence == pytest.approx(5 / 6 + 1 / 24, abs=1e-3)


def test_bins_by_hand():
    # Two classes, logit differences log 9 and log 1.5: confidences 0.9 (twice) and 0.6.
    logits = np.array([[np.log(9), 0], [0, np.log(9)], [np.log(1.5), 0]])
    table = reliability(logits, np.array([0, 0, 0]), num_bins=5)
    np.testing.assert_allclose(table[[0, 1, 2]], 0)
    np.testing.assert_allclose(table[3], [1, 0.6, 1])
    np.testing.assert_allclose(table[4], [2, 0.9, 0.5])
    assert calibration_error(table) == pytest.approx((2 * 0.4 + 1 * 0.4) / 3)


def test_certainty_falls_into_the_last_bin():
    table = reliability(np.array([[1e9, 0.0]]), np.array([0]), num_bins=4)
    assert table.tolist()[3] == [1, 1, 1] and calibration_error(table) == 0


def test_experiment(make_exp):
    experiment = read_experiment(make_exp(folds=(1, 2), seeds=(0, 1)))
    found = measure_calibration(experiment, "kd")
    errors, temperatures = [], []
    for seed in (0, 1):
        confidence, correct = [], []
        for fold in (1, 2):
            folder = experiment.model_dir(fold, seed, "kd")
            dev, test = (
                read_predictions(folder / f"{side}.tsv", experiment.emotions, experiment.languages)
                for side in ("dev", "test")
            )
            temperatures.append(fit_temperature(dev.logits, dev.ref))
            log_p = log_softmax(test.logits / temperatures[-1], axis=1)
            confidence += np.exp(log_p.max(axis=1)).tolist()
            correct += (test.hyp == test.ref).tolist()
        confidence, correct = np.array(confidence), np.array(correct)
        error = 0.0
        for low in np.arange(15) / 15:
            chosen = (confidence >= low) & (confidence < low + 1 / 15)
            if chosen.any():
                error += chosen.mean() * abs(confidence[chosen].mean() - correct[chosen].mean())
        errors.append(error)
    assert found["ece"] == pytest.approx(np.mean(errors), abs=1e-5)
    assert found["temperature"] == pytest.approx(np.exp(np.mean(np.log(temperatures))), abs=1e-3)

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from espnet_mtkd.evaluate.intervals import (
    observed,
    p_value,
    percentile_interval,
    resampled,
    speaker_weights,
)
from espnet_mtkd.evaluate.metrics import METRICS, count_confusions

NUM_CLASSES, NUM_SPEAKERS, NUM_RUNS = 4, 6, 3


def _runs():
    """Reference, speaker (both N) and hypotheses (runs, N)."""
    rng = np.random.default_rng(5)
    speaker = rng.integers(NUM_SPEAKERS, size=90)
    ref = rng.integers(NUM_CLASSES, size=90)
    right = rng.random((NUM_RUNS, 90)) < 0.4 + 0.1 * (speaker % 3)
    hyp = np.where(right, ref, rng.integers(NUM_CLASSES, size=(NUM_RUNS, 90)))
    return ref, speaker, hyp


def _slow(ref, hyp):
    """Metrics by scikit-learn over the classes that occur."""
    present = sorted(set(ref))
    return {
        "uar": recall_score(ref, hyp, labels=present, average="macro"),
        "war": accuracy_score(ref, hyp),
        "f1": f1_score(ref, hyp, labels=present, average="macro", zero_division=0),
    }


def test_equals_a_loop_over_resampled_utterances():
    ref, speaker, hyp = _runs()
    counts = np.stack([count_confusions(ref, h, speaker, NUM_SPEAKERS, NUM_CLASSES) for h in hyp])
    weights = speaker_weights(NUM_SPEAKERS, 50, seed=3, language="de")
    matrices = resampled(counts, weights)
    assert matrices.shape == (50, NUM_RUNS, NUM_CLASSES, NUM_CLASSES)
    for b in range(50):
        drawn = [s for s in range(NUM_SPEAKERS) for _ in range(weights[b, s])]
        take = np.concatenate([np.flatnonzero(speaker == s) for s in drawn])
        expected = [_slow(ref[take], h[take]) for h in hyp]
        for name, metric in METRICS.items():
            mean = np.mean([values[name] for values in expected])
            assert metric(matrices[b]).mean() == pytest.approx(mean, abs=1e-12)
    expected = [_slow(ref, h) for h in hyp]
    for name, metric in METRICS.items():
        mean = np.mean([values[name] for values in expected])
        assert observed(counts, metric) == pytest.approx(mean, abs=1e-12)


def test_every_resample_draws_as_many_speakers_as_there_are():
    weights = speaker_weights(7, 500, seed=0, language="de")
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    # Drawn with replacement, each speaker comes once on average, with variance 1 - 1/S.
    assert weights.mean() == pytest.approx(1.0)
    assert weights.var() == pytest.approx(1 - 1 / 7, rel=0.1)


def test_weights_depend_on_seed_and_language_only():
    first = speaker_weights(7, 20, seed=0, language="de")
    assert (first == speaker_weights(7, 20, seed=0, language="de")).all()
    assert (first != speaker_weights(7, 20, seed=1, language="de")).any()
    assert (first != speaker_weights(7, 20, seed=0, language="en")).any()


def test_percentile_interval():
    values = np.random.default_rng(0).permutation(np.arange(1001)) / 1000
    assert percentile_interval(values) == pytest.approx((0.025, 0.975))
    assert percentile_interval(values, 0.9) == pytest.approx((0.05, 0.95))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.1] * 99, 2 / 100),
        ([-0.1] * 99, 2 / 100),
        ([0.1] * 94 + [-0.1] * 5, 2 * 6 / 100),
        ([0.0] * 99, 1.0),
        ([1e-17] * 99, 1.0),  # Rounding is not a difference.
        ([0.1] * 50 + [-0.1] * 49, 1.0),
    ],
)
def test_p_value(differences, expected):
    assert p_value(np.array(differences)) == pytest.approx(expected)


def test_p_value_is_the_level_at_which_the_interval_touches_zero():
    draws = np.random.default_rng(2).normal(0.3, 0.2, size=20000)
    p = p_value(draws)
    low, _ = percentile_interval(draws, 1 - p)
    assert low == pytest.approx(0.0, abs=2e-3)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """Speakers with a random recall each: a bootstrap over utterances would be far too narrow."""
    rng = np.random.default_rng(7)
    truth, covered = 0.6, 0
    for trial in range(200):
        skill = np.clip(rng.normal(truth, 0.12, size=30), 0, 1)
        right = rng.binomial(20, skill)
        counts = np.zeros((1, 30, 2, 2), int)
        counts[0, :, 0, 0], counts[0, :, 0, 1] = right, 20 - right
        weights = speaker_weights(30, 400, seed=trial, language="de")
        low, high = percentile_interval(METRICS["uar"](resampled(counts, weights)).mean(axis=1))
        covered += low <= truth <= high
    assert 0.88 <= covered / 200 <= 0.99

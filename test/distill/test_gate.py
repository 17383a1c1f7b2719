"""The gate against SciPy, and against what it must find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax

from espnet_mtkd.distill.gate import L2, Gate, evidence, fit_gate
from espnet_mtkd.errors import UserError

N, K, C = 40, 3, 4
NAMES = ["a", "b", "c"]


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Teacher a is right in German, b in English, c never."""
    rng = np.random.default_rng(0)
    gold, languages = rng.integers(C, size=N), np.array(["de", "en"])[rng.integers(2, size=N)]
    logits = rng.normal(size=(N, K, C))
    for n in range(N):
        logits[n, 0 if languages[n] == "de" else 1, gold[n]] += 3
    return logits, gold, list(languages)


def test_evidence_by_hand():
    p = np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0]]])
    found = evidence(torch.from_numpy(np.log(np.maximum(p, 1e-30)))).numpy()
    np.testing.assert_allclose(found[0, :, 0], [0.7, 0.8, 0.5], rtol=1e-6)
    for k in range(3):
        others = np.delete(p[0], k, 0).mean(0)
        expected = np.minimum(p[0, k], others).sum()  # what both have in common
        assert found[0, k, 1] == pytest.approx(expected, rel=1e-6)


def test_evidence_of_a_single_teacher():
    assert evidence(torch.zeros(1, 1, 4)).tolist() == [[[0.25, 1.0]]]


def objective(theta: np.ndarray, logits, gold, languages) -> float:
    """Cross-entropy of the mixture with the penalty, one utterance at a time."""
    names = sorted(set(languages))
    table, outputs = theta[:-2].reshape(len(names), K), theta[-2:]
    total = 0.0
    for n in range(len(logits)):
        p = softmax(logits[n], -1)
        scores = []
        for k in range(K):
            others = np.delete(p, k, 0).mean(0)
            own = (p[k].max(), np.minimum(p[k], others).sum())
            scores.append(table[names.index(languages[n]), k] + outputs @ own)
        total -= np.log(softmax(scores) @ p[:, gold[n]]) / len(logits)
    return total + L2 * (theta**2).sum()


def test_it_is_the_minimum(case):
    gate = fit_gate(NAMES, *case)
    found = np.array([*np.ravel(gate.table), *gate.outputs])
    best = minimize(objective, np.zeros(len(found)), case, method="BFGS")
    assert objective(found, *case) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(found, best.x, atol=1e-3)
    penalty = L2 * (found**2).sum()
    assert gate.cross_entropy == pytest.approx(objective(found, *case) - penalty)
    start = objective(np.zeros(len(found)), *case)
    assert gate.cross_entropy_uniform == pytest.approx(start)
    assert gate.cross_entropy < 0.8 * gate.cross_entropy_uniform


def test_it_finds_who_is_right(case):
    gate = fit_gate(NAMES, *case)
    assert gate.languages == ["de", "en"] and gate.teachers == NAMES
    assert np.argmax(gate.table[0]) == 0 and np.argmax(gate.table[1]) == 1


def test_the_same_every_time(case):
    assert fit_gate(NAMES, *case) == fit_gate(NAMES, *case)


def test_who_does_not_know_the_label_abstains_here_as_well(case):
    logits, gold, languages = case
    logits[:, 0, 1] = np.nan  # teacher a does not know class 1
    gate = fit_gate(NAMES, logits, gold, languages)
    p = softmax(np.where(np.isnan(logits), -np.inf, logits), -1)
    expected = [-np.log(p[n, 1 if gold[n] == 1 else 0 :, gold[n]].mean()) for n in range(N)]
    assert gate.cross_entropy_uniform == pytest.approx(np.mean(expected))


def test_it_can_be_read_back(case, tmp_path):
    gate = fit_gate(NAMES, *case)
    (tmp_path / "gate").write_text(gate.to_json())
    assert Gate.read(tmp_path / "gate") == gate
    with pytest.raises(UserError, match="gate .*nothing: no such file"):
        Gate.read(tmp_path / "nothing")

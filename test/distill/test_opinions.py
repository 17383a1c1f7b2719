"""What is left out where teachers do not know all classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from espnet_mtkd.distill.loss import MultiTeacherLoss
from espnet_mtkd.distill.opinions import abstain, align, over_known
from espnet_mtkd.errors import UserError

NAN = float("nan")
B, K, C = 5, 4, 4
# Teachers 0 and 2 know all; 1 and 3 know the same two.
UNKNOWN = [[], [0, 3], [], [0, 3]]


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    teachers = 3 * rng.normal(size=(B, K, C))
    for k, classes in enumerate(UNKNOWN):
        teachers[:, k, classes] = NAN
    weights = rng.random((B, K))
    return rng.normal(size=(B, C)), teachers, weights / weights.sum(1, keepdims=True)


# ---- align -------------------------------------------------------------------------------------


def test_columns_go_by_name():
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    found = align(logits, ["sad", "bored", "angry"], ["angry", "neutral", "sad"], "t")
    np.testing.assert_array_equal(found, [[3.0, NAN, 1.0], [6.0, NAN, 4.0]])


def test_the_same_emotions_stay_as_they_are():
    logits = torch.randn(3, 2)
    assert torch.equal(align(logits, ["a", "b"], ["a", "b"], "t"), logits)


@pytest.mark.parametrize("own", [["angry", "bored"], ["bored", "calm"]])
def test_too_little_in_common(own):
    with pytest.raises(UserError, match="teacher t knows .*bored.*; at least two emotions must be"):
        align(torch.zeros(2), own, ["angry", "sad"], "t")


# ---- over_known --------------------------------------------------------------------------------


def test_each_teacher_is_measured_over_its_classes(case):
    student, teachers, _ = (torch.from_numpy(x) for x in case)
    seen = []

    def measure(z, t, index):
        seen.append(z.shape[-1])
        return (z * t).sum(-1)

    found = over_known(measure, student, teachers)
    expected = np.nansum(case[0][:, None] * case[1], -1)
    np.testing.assert_allclose(found, expected)
    assert sorted(seen) == [2, 4]  # teachers that know the same at once


def test_nothing_is_left_out_where_all_is_known(case):
    student, teachers = torch.from_numpy(case[0]), torch.randn(B, K, C)

    def measure(z, t, index):
        assert t is teachers and z.shape == (B, 1, C) and index == slice(None)
        return t.sum(-1)

    over_known(measure, student, teachers)


# ---- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("temperature", [2.0, [1.0, 2.0, 3.0, 4.0]])
def test_loss_over_the_known_classes(case, standardize, temperature):
    z, t, w = case
    expected = 0.0
    for k, classes in enumerate(UNKNOWN):
        known = [c for c in range(C) if c not in classes]
        T = temperature[k] if isinstance(temperature, list) else temperature
        for b in range(B):
            own, other = z[b, known], t[b, k, known]
            if standardize:
                own, other = ((x - x.mean()) / x.std() for x in (own, other))
            divergence = rel_entr(softmax(other / T), softmax(own / T)).sum()
            expected += w[b, k] * T**2 * divergence / B
    loss = MultiTeacherLoss(temperature, standardize)
    student = torch.from_numpy(z).requires_grad_()
    value = loss(student, torch.from_numpy(t), torch.from_numpy(w))
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert student.grad.isfinite().all() and (student.grad != 0).all()


def test_the_students_probabilities_are_renormalised(case):
    """Without standardisation: q over the known classes is q of all, scaled to sum to one."""
    z, t, _ = case
    one = t[:, [1]]
    q = softmax(z / 2, -1)[:, [1, 2]]
    p = softmax(one[:, 0, [1, 2]] / 2, -1)
    expected = 4 * rel_entr(p, q / q.sum(-1, keepdims=True)).sum(-1).mean()
    loss = MultiTeacherLoss(2.0, standardize=False)
    value = loss(*(torch.from_numpy(x) for x in (z, one, np.ones((B, 1)))))
    assert value.item() == pytest.approx(expected)


# ---- abstain -----------------------------------------------------------------------------------


def test_who_does_not_know_the_label_abstains():
    teachers = torch.zeros(4, 3, 2)
    teachers[:, 0, 1] = teachers[3, :, 1] = NAN
    weights = torch.tensor([[0.5, 0.3, 0.2]] * 4)
    # Labels 0 and 1, none, and one that nobody knows.
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    expected = [[0.5, 0.3, 0.2], [0, 0.6, 0.4], [0.5, 0.3, 0.2], [0, 0, 0]]
    torch.testing.assert_close(abstain(weights, teachers, targets), torch.tensor(expected))


def test_a_mixture_with_an_unknown_label():
    teachers = torch.zeros(1, 2, 3)
    teachers[:, 0, 2] = NAN
    weights, targets = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.7, 0.0, 0.3]])
    assert abstain(weights, teachers, targets).tolist() == [[0, 1]]


def test_who_has_no_weight_need_not_abstain():
    teachers = torch.zeros(1, 2, 2)
    teachers[:, 0, 1] = NAN
    weights, targets = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    # The only one that has weight does not know: nobody is left.
    assert abstain(weights, teachers, targets).tolist() == [[0, 0]]


def test_weights_stay_the_same_where_all_is_known():
    weights = torch.rand(3, 2)
    assert abstain(weights, torch.zeros(3, 2, 4), torch.eye(4)[:3]) is weights

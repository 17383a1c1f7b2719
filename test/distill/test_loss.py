"""The loss against NumPy and SciPy, from the equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from espnet_mtkd.distill.loss import MultiTeacherLoss, standardize_logits
from espnet_mtkd.errors import UserError

B, K, C = 5, 3, 4


def reference(
    z: np.ndarray, t: np.ndarray, w: np.ndarray, temperature: float, standardize: bool, mean: bool
) -> float:
    """mean_b sum_k w[b, k] T^2 KL(p_k[b] || q[b]), one number at a time."""
    if standardize:
        z = (z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True)
        t = (t - t.mean(-1, keepdims=True)) / t.std(-1, keepdims=True)
    total = 0.0
    for b in range(len(z)):
        q = softmax(z[b] / temperature)
        for k in range(t.shape[1]):
            divergence = rel_entr(softmax(t[b, k] / temperature), q).sum()
            total += w[b, k] * temperature**2 * divergence
    return total / len(z) / (z.shape[1] if mean else 1)


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    w = rng.random((B, K))
    return rng.normal(size=(B, C)), 3 * rng.normal(size=(B, K, C)), w / w.sum(1, keepdims=True)


def compute(loss: MultiTeacherLoss, *arrays: np.ndarray) -> float:
    return loss(*(torch.from_numpy(np.asarray(a)) for a in arrays)).item()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
def test_value_and_gradient_follow_the_equations(case, temperature, standardize, reduction):
    z, t, w = case
    loss = MultiTeacherLoss(temperature, standardize, reduction)
    student = torch.from_numpy(z).requires_grad_()
    value = loss(student, torch.from_numpy(t), torch.from_numpy(w))
    value.backward()
    options = (temperature, standardize, reduction == "mean")
    assert value.item() == pytest.approx(reference(z, t, w, *options), rel=1e-5)
    numeric, step = np.zeros_like(z), 1e-5
    for index in np.ndindex(z.shape):
        ends = []
        for sign in (1, -1):
            moved = z.copy()
            moved[index] += sign * step
            ends.append(reference(moved, t, w, *options))
        numeric[index] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(student.grad.numpy(), numeric, rtol=1e-4, atol=1e-6)


def test_gradient_without_standardisation_is_the_textbook_formula(case):
    z, t, w = case
    temperature = 2.0
    student = torch.from_numpy(z).requires_grad_()
    loss = MultiTeacherLoss(temperature, standardize=False)
    loss(student, torch.from_numpy(t), torch.from_numpy(w)).backward()
    # d/dz of T^2 KL(p || q) is T (q - p); the batch's mean divides by B.
    q, p = softmax(z / temperature, -1), softmax(t / temperature, -1)
    expected = temperature * (w[..., None] * (q[:, None] - p)).sum(1) / B
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_one_hot_weights_are_a_single_teacher(case):
    z, t, _ = case
    chosen = np.array([0, 2, 1, 1, 0])
    loss = MultiTeacherLoss(standardize=False)
    alone = t[np.arange(B), chosen][:, None]
    assert compute(loss, z, t, np.eye(K)[chosen]) == pytest.approx(
        compute(loss, z, alone, np.ones((B, 1)))
    )
    target, q = softmax(alone[:, 0] / 2, -1), log_softmax(z / 2, -1)
    library = torch.nn.functional.kl_div(
        torch.from_numpy(q), torch.from_numpy(target), reduction="batchmean"
    )
    assert compute(loss, z, alone, np.ones((B, 1))) == pytest.approx(4 * library.item())


def test_mean_reduction_also_divides_by_the_classes(case):
    ratio = compute(MultiTeacherLoss(), *case) / compute(MultiTeacherLoss(reduction="mean"), *case)
    assert ratio == pytest.approx(C)


@pytest.mark.parametrize("standardize", [False, True])
def test_the_order_of_the_teachers_does_not_matter(case, standardize):
    z, t, w = case
    loss, order = MultiTeacherLoss(standardize=standardize), [2, 0, 1]
    assert compute(loss, z, t[:, order], w[:, order]) == pytest.approx(compute(loss, z, t, w))


def test_standardised_loss_ignores_offset_and_loudness(case):
    z, t, w = case
    louder = t * np.array([2.0, 0.5, 7.0])[:, None] - 3.0
    loss = MultiTeacherLoss(standardize=True)
    expected = compute(loss, z, t, w)
    assert compute(loss, 5 * z + 1, louder, w) == pytest.approx(expected, rel=1e-5)
    plain = MultiTeacherLoss(standardize=False)
    assert compute(plain, z, louder, w) != pytest.approx(compute(plain, z, t, w), rel=0.1)


@pytest.mark.parametrize("standardize", [False, True])
def test_zero_and_flat_when_the_student_equals_its_teachers(case, standardize):
    z, _, w = case
    student = torch.from_numpy(z).requires_grad_()
    teachers = torch.from_numpy(np.repeat(z[:, None], K, 1))
    loss = MultiTeacherLoss(standardize=standardize)(student, teachers, torch.from_numpy(w))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max().item() < 1e-12


def test_never_negative(case):
    rng = np.random.default_rng(0)
    for standardize in (False, True):
        loss = MultiTeacherLoss(standardize=standardize)
        for _ in range(20):
            assert compute(loss, rng.normal(size=(B, C)), *case[1:]) >= 0


def test_large_and_constant_logits_stay_finite():
    teachers = torch.tensor([[[1e4, -1e4, 0.0], [3.0, 3.0, 3.0]]])
    for standardize in (False, True):
        student = torch.zeros(1, 3, requires_grad=True)
        loss = MultiTeacherLoss(standardize=standardize)
        value = loss(student, teachers, torch.tensor([[0.5, 0.5]]))
        value.backward()
        assert value.isfinite() and student.grad.isfinite().all()


def test_standardised_logits_have_mean_zero_and_deviation_one(case):
    standard = standardize_logits(torch.from_numpy(case[1])).numpy()
    np.testing.assert_allclose(standard.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(standard.std(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature 0: must be above 0"),
        ({"temperature": -1.0}, "temperature -1.0: must be above 0"),
        ({"reduction": "sum"}, "reduction 'sum': must be batchmean or mean"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        MultiTeacherLoss(**options)


# ---- a temperature for each teacher ------------------------------------------------------------

TEMPERATURES = [1.0, 2.0, 5.0]


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
def test_temperature_of_each_teacher(case, standardize, reduction):
    z, t, w = case
    # The loss is a sum over the teachers: each alone, with its own temperature and its weights.
    expected = sum(
        reference(z, t[:, [k]], w[:, [k]], temperature, standardize, reduction == "mean")
        for k, temperature in enumerate(TEMPERATURES)
    )
    loss = MultiTeacherLoss(TEMPERATURES, standardize, reduction)
    assert compute(loss, z, t, w) == pytest.approx(expected, rel=1e-5)


def test_equal_temperatures_are_one_temperature(case):
    several, one = MultiTeacherLoss([3.0] * K), MultiTeacherLoss(3.0)
    assert compute(several, *case) == pytest.approx(compute(one, *case), rel=1e-12)


def test_temperatures_belong_to_their_teachers(case):
    z, t, w = case
    order = [2, 0, 1]
    moved = MultiTeacherLoss([TEMPERATURES[i] for i in order])
    expected = compute(MultiTeacherLoss(TEMPERATURES), z, t, w)
    assert compute(moved, z, t[:, order], w[:, order]) == pytest.approx(expected)
    assert compute(MultiTeacherLoss(TEMPERATURES[::-1]), z, t, w) != pytest.approx(expected)


@pytest.mark.parametrize("temperature", [[2.0], [2.0, 1.0], [1.0] * (K + 1)])
def test_as_many_temperatures_as_teachers(case, temperature):
    message = f"temperature: {len(temperature)} values for {K} teachers"
    with pytest.raises(UserError, match=message):
        compute(MultiTeacherLoss(temperature), *case)


def test_no_temperature_may_be_zero():
    with pytest.raises(UserError, match=r"temperature \[2.0, 0\]: must be above 0"):
        MultiTeacherLoss([2.0, 0])


def test_nothing_of_the_loss_is_stored():
    assert MultiTeacherLoss(TEMPERATURES).state_dict() == {}

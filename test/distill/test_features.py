"""Feature distillation, from its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from espnet_mtkd.distill.features import FeatureLoss
from espnet_mtkd.errors import UserError

B, P, SIZES = 4, 3, [5, 2]


@pytest.fixture
def case() -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(1)
    teachers = [10 * rng.normal(size=(B, size)) + 4 for size in SIZES]
    weights = rng.random((B, 2))
    return rng.normal(size=(B, P)), teachers, weights / weights.sum(1, keepdims=True)


def compute(loss: FeatureLoss, x, teachers, w) -> torch.Tensor:
    given = (torch.from_numpy(x), [torch.from_numpy(t) for t in teachers], torch.from_numpy(w))
    return loss.double()(*given)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_by_hand(case, kind):
    x, teachers, w = case
    loss = FeatureLoss(P, SIZES, kind)
    expected = 0.0
    for k, project in enumerate(loss.double().projectors):
        weight, bias = (p.detach().numpy() for p in project.parameters())
        for b in range(B):
            guess, e = weight @ x[b] + bias, teachers[k][b]
            if kind == "cosine":
                d = 1 - guess @ e / np.linalg.norm(guess) / np.linalg.norm(e)
            else:
                d = ((guess - (e - e.mean()) / np.sqrt(e.var() + 1e-5)) ** 2).mean()
            expected += w[b, k] * d / B
    assert compute(loss, x, teachers, w).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_how_loud_a_teacher_is_does_not_matter(case, kind):
    x, teachers, w = case
    loss = FeatureLoss(P, SIZES, kind)
    louder = [7 * t for t in teachers]
    expected = compute(loss, x, teachers, w).item()
    assert compute(loss, x, louder, w).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_range(kind):
    loss = FeatureLoss(2, [2], kind)
    loss.projectors[0].weight.data = torch.eye(2)
    loss.projectors[0].bias.data.zero_()
    teacher, one = torch.tensor([[3.0, -3.0]]), torch.ones(1, 1)
    assert loss(torch.tensor([[1.0, -1.0]]), [teacher], one).item() == pytest.approx(0, abs=1e-5)
    assert loss(torch.zeros(1, 2), [teacher], one).item() == pytest.approx(1, rel=1e-5)


def test_student_and_projectors_learn(case):
    x, teachers, w = case
    student = torch.from_numpy(x).requires_grad_()
    loss = FeatureLoss(P, SIZES).double()
    loss(student, [torch.from_numpy(t) for t in teachers], torch.from_numpy(w)).backward()
    assert (student.grad != 0).any()
    assert all((p.grad != 0).any() for p in loss.parameters())


def test_without_weight_nothing_is_learned(case):
    x, teachers, _ = case
    loss = FeatureLoss(P, SIZES).double()
    compute(loss, x, teachers, np.tile([1.0, 0.0], (B, 1))).backward()
    assert all((p.grad == 0).all() for p in loss.projectors[1].parameters())


def test_unknown_kind():
    with pytest.raises(UserError, match="feature_loss 'l1': must be cosine or mse"):
        FeatureLoss(P, SIZES, "l1")

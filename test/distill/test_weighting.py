"""Each weighting has a case computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from espnet_mtkd.distill.weighting import WEIGHTINGS
from espnet_mtkd.errors import UserError

NAMES = sorted(WEIGHTINGS)
TEMPERED = ["cosine", "cosine_batch", "label"]


def weights(name, languages, student=None, teachers=None, emotion=None, language=None, **options):
    """Weights of a weighting; what is not given is random."""
    generator = torch.Generator().manual_seed(1)
    batch = next(len(x) for x in (student, teachers, emotion, language, [0] * 6) if x is not None)
    k, c = len(languages), 4
    if student is None:
        student = torch.randn(batch, c, generator=generator)
    if teachers is None:
        teachers = torch.randn(batch, k, student.shape[1], generator=generator)
    emotion = torch.zeros(batch, dtype=torch.long) if emotion is None else torch.tensor(emotion)
    language = torch.zeros(batch, dtype=torch.long) if language is None else torch.tensor(language)
    return WEIGHTINGS[name](languages, **options)(
        torch.as_tensor(student), torch.as_tensor(teachers), emotion, language
    )


def test_the_registry_has_the_weightings_of_the_recipe():
    assert {"uniform", "cosine_batch", "cosine", "language", "label"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_rows_sum_to_one_and_are_not_negative(name):
    w = weights(name, [0, 1, 2], language=[0, 1, 2, 0, 1, 2])
    assert w.shape == (6, 3)
    torch.testing.assert_close(w.sum(-1), torch.ones(6))
    assert (w >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_reordering_the_teachers_reorders_the_weights(name):
    generator = torch.Generator().manual_seed(5)
    student = torch.randn(6, 4, generator=generator)
    teachers = torch.randn(6, 3, 4, generator=generator)
    rest = dict(student=student, emotion=[0, 1, 2, 3, 0, 1], language=[0, 1, 2, 0, 1, 2])
    w = weights(name, [0, 1, 2], teachers=teachers, **rest)
    order = [2, 0, 1]
    moved = weights(name, order, teachers=teachers[:, order], **rest)
    torch.testing.assert_close(moved, w[:, order])


@pytest.mark.parametrize("name", NAMES)
def test_a_single_teacher_has_all_the_weight(name):
    torch.testing.assert_close(weights(name, [-1], language=[0, 1]), torch.ones(2, 1))


def test_uniform():
    w = weights("uniform", [0, 1, 2, 2], language=[0, 3])
    torch.testing.assert_close(w, torch.full((2, 4), 0.25))


# The student is (1, 0); teachers along it, across it and against it have cosines 1, 0 and -1.
STUDENT = [[1.0, 0.0], [0.0, 2.0]]
TEACHERS = [[[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]], [[3.0, 0.0], [0.0, 5.0], [0.0, -1.0]]]


def softmax(*values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_cosine(tau):
    w = weights("cosine", [0, 1, 2], STUDENT, TEACHERS, tau=tau)
    expected = [softmax(1 / tau, 0, -1 / tau), softmax(0, 1 / tau, -1 / tau)]
    torch.testing.assert_close(w, torch.tensor(expected))


@pytest.mark.parametrize("tau", [0.25, 1.0])
def test_cosine_batch(tau):
    w = weights("cosine_batch", [0, 1, 2], STUDENT, TEACHERS, tau=tau)
    row = softmax(0.5 / tau, 0.5 / tau, -1 / tau)
    torch.testing.assert_close(w, torch.tensor([row, row]))


def test_cosine_batch_is_one_vector_for_the_batch():
    w = weights("cosine_batch", [0, 1, 2])
    assert torch.equal(w, w[:1].expand(6, -1))
    assert not torch.equal(weights("cosine", [0, 1, 2])[0], weights("cosine", [0, 1, 2])[1])


def test_cosine_default_temperature_is_the_papers():
    assert torch.equal(weights("cosine", [0, 1]), weights("cosine", [0, 1], tau=0.25))


def test_language_takes_the_teacher_of_the_language():
    w = weights("language", [1, 0, 2], language=[0, 1, 2])
    assert w.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_language_shares_among_several_teachers_of_a_language():
    w = weights("language", [0, 1, 1, -1], language=[0, 1])
    assert w.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0]]


def test_language_without_a_teacher_takes_all():
    w = weights("language", [0, 1, -1, -1], language=[0, 2])
    assert w.tolist() == [[1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]


def test_label():
    # Probabilities of the right class: 0.8 and 0.2 for the first, 0.5 and 0.25 for the second.
    probabilities = torch.tensor([[[0.8, 0.2], [0.2, 0.8]], [[0.5, 0.5], [0.75, 0.25]]])
    w = weights("label", [0, 1], teachers=probabilities.log() + 3, emotion=[0, 1], tau=0.5)
    # softmax of log p / tau is p^(1 / tau), normalised.
    expected = [[0.64 / 0.68, 0.04 / 0.68], [0.25 / 0.3125, 0.0625 / 0.3125]]
    torch.testing.assert_close(w, torch.tensor(expected))


def test_label_trusts_the_teacher_that_is_right():
    teachers = 5 * torch.eye(4)[None].expand(4, 4, 4)  # teacher k always says class k
    w = weights("label", [0, 1, 2, 3], teachers=teachers, emotion=[0, 1, 2, 3])
    assert w.argmax(-1).tolist() == [0, 1, 2, 3]
    assert w.max(-1).values.min() > 0.99


@pytest.mark.parametrize("name", TEMPERED)
@pytest.mark.parametrize("tau", [0, -0.1])
def test_tau_must_be_above_zero(name, tau):
    with pytest.raises(UserError, match=f"tau {tau}: must be above 0"):
        WEIGHTINGS[name]([0, 1], tau=tau)


@pytest.mark.parametrize("name", TEMPERED)
def test_small_tau_stays_finite(name):
    assert weights(name, [0, 1, 2], tau=1e-4).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_weighting_without_parameters_is_stored(name):
    assert WEIGHTINGS[name]([0, 1]).state_dict() == {}

import pytest

from espnet_mtkd.evaluate.histories import mean_curve, weight_teachers


def test_mean_over_the_runs_that_got_so_far():
    long = {e: {"valid": {"uar": 0.1 * e}} for e in (1, 2, 3, 4)}
    short = {e: {"valid": {"uar": 0.3}} for e in (1, 2)}
    epochs, values = mean_curve([long, short], "valid", "uar")
    assert epochs == [1, 2, 3, 4]
    assert values == pytest.approx([0.2, 0.25, 0.3, 0.4])
    # One of three runs is too few to be called their mean.
    assert mean_curve([long, short, short], "valid", "uar")[0] == [1, 2]


def test_unknown_value_is_an_empty_curve():
    assert mean_curve([{1: {"train": {"loss": 1.0}}}], "valid", "loss") == ([], [])


def test_teachers_with_a_weight_for_a_language():
    train = {"loss": 1.0, "weight_de_teacher_en": 0.2, "weight_de_teacher_de": 0.8}
    train |= {"weight_en_teacher_it": 1.0}
    assert weight_teachers([{1: {"train": train}}], "de") == ["teacher_de", "teacher_en"]
    assert weight_teachers([{1: {"train": train}}], "fr") == []

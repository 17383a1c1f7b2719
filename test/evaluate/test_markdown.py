import pytest

from espnet_mtkd.evaluate import markdown
from espnet_mtkd.evaluate.experiment import read_experiment
from espnet_mtkd.evaluate.results import Bootstrap, score


def _render(expdir):
    return markdown.render(score(read_experiment(expdir), Bootstrap(num_resamples=100)))


@pytest.mark.parametrize(
    ("cell", "sign", "text"),
    [
        ({"value": 0.7123, "low": 0.65, "high": 0.7789}, False, "71.2 [65.0, 77.9]"),
        ({"value": 0.05, "low": -0.01, "high": 0.1}, True, "+5.0 [-1.0, +10.0]"),
        ({"value": 0.25, "low": None, "high": None}, False, "25.0"),
        (None, False, "–"),
    ],
)
def test_estimate(cell, sign, text):
    assert markdown.estimate(cell, sign) == text


def test_small_numbers_are_readable():
    assert markdown.probability(0.0123) == "0.012"
    assert markdown.probability(0.00001) == "< 0.001"
    assert markdown.probability(None) == "–"
    assert markdown.millions(94_371_712) == "94.4"
    assert markdown.millions(130_000) == "0.13"
    assert markdown.seconds(3.21) == "3.2"
    assert markdown.seconds(321.4) == "321"


def test_tables_have_as_many_cells_as_their_headers(make_exp):
    lines = _render(make_exp(heldout=("de",))).splitlines()
    widths = {}
    for i, line in enumerate(lines):
        if line.startswith("| ---"):
            widths[i] = line.count("|")
            assert lines[i - 1].count("|") == line.count("|")
            for row in lines[i + 1 :]:
                if not row.startswith("|"):
                    break
                assert row.count("|") == line.count("|")
    assert len(widths) > 10


def test_sections_stand_in_order_and_details_are_closed(make_exp):
    text = _render(make_exp(heldout=("de",)))
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Environments",
        "Experiment",
        "Systems",
        "Per language",
        "mtkd against every other system",
        "Mean UAR per seed",
        "Calibration",
        "Every teacher on every language",
        "Held-out corpora",
        "Confusion matrices",
        "Split audit",
    ]
    # Three systems on the test sets and on the held-out language, and the audit.
    assert text.count("<details>") == text.count("</details>") == 7
    assert "### Audit" in text
    assert "\n# Audit" not in text
    assert "**Warning:** the teacher of" in text
    assert "git hash: `0123abc-dirty`" in text
    assert "command: `./run.sh --seeds '0 1' --systems \"ft kd mtkd\"`" in text


def test_the_default_is_compared_in_each_language(make_exp):
    results = score(read_experiment(make_exp()), Bootstrap(num_resamples=100))
    text = markdown.render(results).split("## mtkd against every other system")[1]
    header, _, *rows = [line for line in text.split("##")[0].splitlines() if "|" in line]
    assert header.endswith("| p | en (p) | fi (p) | fr (p) |")
    difference = results["test"]["pairs"]["mtkd"]["kd"]["languages"]["fi"]
    cell = f"{100 * difference['value']:+.1f} ({markdown.probability(difference['p'])})"
    assert next(row for row in rows if row.startswith("| kd")).split(" | ")[4] == cell


def test_synthetic_data_is_said_on_top(make_exp):
    text = _render(make_exp())
    loud = "> **Made from the synthetic corpus mini_ser: for trying and testing, not for claims.**"
    assert text.splitlines()[2] == loud


def test_real_data_is_not_called_synthetic(make_exp):
    assert "synthetic" not in _render(make_exp(synthetic=False))


def test_one_seed_has_no_table_of_seeds(make_exp):
    assert "Mean UAR per seed" not in _render(make_exp(seeds=(3,)))

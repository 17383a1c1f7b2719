"""The benchmark's tables say what the results hold."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

import pytest

from espnet_mtkd.evaluate.upstream_tables import (
    cost_cells,
    main_cells,
    to_csv,
    to_html,
    to_markdown,
    verdict,
    weight_map,
)
from espnet_mtkd.evaluate.upstreams import score_upstreams

WRONG = {"good": {0: 0, 1: 0}, "fair": {0: 0, 1: 1}, "poor<b>": {0: 3, 1: 3}}


@pytest.fixture(scope="module")
def score(tmp_path_factory, make_upstreams):
    def score(wrong=WRONG, layers="all"):
        benchmark = make_upstreams(tmp_path_factory.mktemp("benchmark"), wrong, layers)
        results = score_upstreams(benchmark, num_resamples=50)
        return results | {"environment": {"python": "3.12"}, "command": "python -m x <y>"}

    return score


@pytest.fixture
def results(score):
    return score()


def test_the_table(results):
    header, rows = main_cells(results)
    assert header == ["upstream", "toy", "doll", "mean UAR", "mean rank"]
    assert [r[0] for r in rows] == list(WRONG)
    assert rows[0][1:] == ["100.0 [100.0, 100.0]"] * 3 + ["1.00"]
    assert rows[1][1].startswith("91.7 [") and rows[2][-1] == "3.00"


def test_costs(results):
    header, rows = cost_cells(results)
    cells = dict(zip(header, rows[0], strict=True))
    assert cells["params (M)"] == "1.5" and cells["CPU s per s of audio"] == "0.02"
    assert (cells["peak memory (MB)"], cells["checkpoint (MB)"]) == ("900", "6")
    assert cells["features (MB)"] == "4" and cells["layers"] == "3"


def test_costs_that_are_not_known(results):
    row = {**results["rows"][0], "num_layers": None}
    for key in ("seconds_per_second", "peak_memory", "checkpoint_bytes", "feature_bytes"):
        del row[key]
    header, rows = cost_cells(results | {"rows": [row]})
    assert [*rows[0][3:4], *rows[0][5:]] == ["–"] * 5


def test_markdown_is_made_of_whole_tables(results):
    text = to_markdown(results)
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3  # UAR, costs, weights
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "speakers shared by training and test; chance 33.3" in text
    assert "| good, toy | 20 | 30 | 50 |" in text
    assert "`python -m x <y>`" in text and "Synthetic" not in text
    results["benchmark"]["synthetic"] = True
    assert "Synthetic speech" in to_markdown(results) and "Synthetic speech" in to_html(results)


def test_csv_has_a_line_for_each_corpus_and_the_mean(results):
    rows = list(csv.DictReader(io.StringIO(to_csv(results))))
    assert [(r["upstream"], r["corpus"]) for r in rows] == [
        (name, corpus) for name in WRONG for corpus in ("toy", "doll", "mean")
    ]
    for row, facts in zip(rows[::3], results["rows"], strict=True):
        cell = facts["corpora"]["toy"]
        assert float(row["uar"]) == cell["uar"]["value"]
        assert float(row["war_folds"]) == cell["war_folds"]
        assert float(row["mean_rank"]) == results["comparison"]["ranks"][row["upstream"]]
    assert rows[2]["war"] == "" and float(rows[2]["uar"]) == results["rows"][0]["overall"]["value"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v and v.startswith("http")]


def test_the_page_needs_nothing_and_escapes_names(results):
    page, text = _Page(), to_html(results)
    page.feed(text)
    assert page.links == [] and "script" not in page.tags
    assert "poor&lt;b&gt;" in text and "poor<b>" not in text
    assert "python -m x &lt;y&gt;" in text
    assert page.tags.count("svg") == 2  # one figure a corpus


def test_the_largest_weight_has_the_full_colour():
    html = weight_map([("a & b", [0.1, 0.8, 0.1]), ("c", [1.0])])
    assert html.count('class="hot"') == 2 and "a &amp; b, layer 1: 80.0 %" in html
    assert html.count('<th scope="col">') == 3


def test_what_ranks_say(results, score):
    assert verdict(results).startswith("Friedman test over 2 corpora: p = ")
    assert "Not told apart: good, fair, poor<b>." in verdict(results)
    two = score({"a": {0: 0, 1: 0}, "b": {0: 1, 1: 1}})
    assert "three upstreams or more" in verdict(two)


def test_single_layers(score):
    results = score({"a": {0: 2, 1: 2}, "b": {0: 3, 1: 3}}, layers="each")
    names = [row[0] for row in main_cells(results)[1]]
    assert names == ["a[0]", "a[1]", "b[0]", "b[1]"]
    assert [row[0] for row in cost_cells(results)[1]] == ["a", "b"]  # layers cost nothing more
    assert "Learned weights" not in to_markdown(results)

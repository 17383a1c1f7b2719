"""Scores of the benchmark of upstreams against counting by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.upstreams import score_upstreams


@pytest.fixture(scope="module")
def results(tmp_path_factory, make_upstreams):
    root = tmp_path_factory.mktemp("benchmark")
    wrong = {"good": {0: 0, 1: 0}, "fair": {0: 0, 1: 1}, "poor": {0: 3, 1: 3}}
    return score_upstreams(make_upstreams(root, wrong), num_resamples=200)


def row(results, label):
    return next(r for r in results["rows"] if r["label"] == label)


def test_without_mistakes(results):
    good = row(results, "good")
    for cell in good["corpora"].values():
        assert cell["uar"] == {"value": 1, "low": 1, "high": 1} and cell["war"] == 1
        assert cell["uar_folds"] == cell["war_folds"] == 1 and cell["uar_seeds"] == [1, 1]
    assert good["overall"] == {"value": 1, "low": 1, "high": 1}


def test_folds_are_pooled_and_seeds_averaged(results):
    # toy has 4 times anger, 4 times joy, 4 times neutral. With one mistake a fold the first
    # utterances are lost: of fold 1 an anger, of fold 2 a neutral.
    cell = row(results, "fair")["corpora"]["toy"]
    assert cell["uar_seeds"] == pytest.approx([1, (3 / 4 + 1 + 3 / 4) / 3], abs=1e-6)
    assert cell["uar"]["value"] == pytest.approx((1 + 2.5 / 3) / 2, abs=1e-6)
    assert cell["war"] == pytest.approx((1 + 10 / 12) / 2, abs=1e-6)
    # By fold: fold 1 has 2 anger, 3 joy, 1 neutral, fold 2 has 2 anger, 1 joy, 3 neutral.
    second_seed = ((1 / 2 + 1 + 1) / 3 + (1 + 1 + 2 / 3) / 3) / 2
    assert cell["uar_folds"] == pytest.approx((1 + second_seed) / 2, abs=1e-6)
    assert cell["war_folds"] == pytest.approx((1 + 5 / 6) / 2, abs=1e-6)
    assert 0 <= cell["uar"]["low"] <= cell["uar"]["value"] <= cell["uar"]["high"] <= 1


def test_overall_gives_corpora_the_same_weight(results):
    for label in ("good", "fair", "poor"):
        values = [c["uar"]["value"] for c in row(results, label)["corpora"].values()]
        assert row(results, label)["overall"]["value"] == pytest.approx(sum(values) / 2, abs=1e-6)


def test_ranks(results):
    assert results["comparison"]["ranks"] == {"good": 1, "fair": 2, "poor": 3}
    assert results["comparison"]["critical_difference"] > 1


def test_costs_are_summed_over_the_corpora(results):
    facts = row(results, "good")
    assert facts["seconds_per_second"] == pytest.approx(4 / 200)
    assert facts["peak_memory"] == 9e8 and facts["feature_bytes"] == 4e6
    assert facts["checkpoint_bytes"] == 6e6
    assert (facts["num_layers"], facts["num_params"]) == (3, 1_500_000)


def test_what_the_corpora_are(results):
    toy, doll = results["data"]["toy"], results["data"]["doll"]
    assert (toy["utterances"], toy["speakers"], toy["folds"]) == (12, 4, 2)
    assert toy["chance"] == pytest.approx(1 / 3) and toy["majority_war"] == pytest.approx(1 / 3)
    assert toy["speaker_independent"] is True and doll["speaker_independent"] is False
    assert doll["utterances"] == 6


def test_layer_weights_are_averaged(results):
    assert row(results, "good")["corpora"]["toy"]["layer_weights"] == [0.2, 0.3, 0.5]


def test_results_are_plain_json_and_the_same_again(tmp_path, make_upstreams):
    benchmark = make_upstreams(tmp_path, {"a": {0: 1, 1: 2}, "b": {0: 2, 1: 0}})
    first, second = (score_upstreams(benchmark, num_resamples=50) for _ in range(2))
    assert json.loads(json.dumps(first, allow_nan=False)) == second


def test_another_upstream_moves_no_interval(tmp_path, make_upstreams):
    alone = make_upstreams(tmp_path / "1", {"a": {0: 1, 1: 2}})
    joined = make_upstreams(tmp_path / "2", {"b": {0: 3, 1: 3}, "a": {0: 1, 1: 2}})
    one, two = (score_upstreams(b, num_resamples=50) for b in (alone, joined))
    assert row(one, "a")["corpora"] == row(two, "a")["corpora"]


def test_single_layers(tmp_path, make_upstreams):
    benchmark = make_upstreams(tmp_path, {"a": {0: 2, 1: 2}}, layers="each")
    results = score_upstreams(benchmark, num_resamples=50)
    assert [r["layer"] for r in results["rows"]] == [0, 1]
    first, second = (r["overall"]["value"] for r in results["rows"])
    assert first < second == 1
    assert set(results["comparison"]["ranks"]) == {"a[0]", "a[1]"}


@pytest.mark.parametrize(
    ("layers", "gone", "message"),
    [
        ("all", "exp/a/toy/1/0/info.json", "info.json: no such file; run the benchmark again"),
        ("all", "feats/a/doll/costs.json", "costs.json: no such file; run the benchmark again"),
        ("all", "exp/a/toy/1/0/test.tsv", "test.tsv"),
    ],
)
def test_missing_files_are_named(tmp_path, layers, gone, message, make_upstreams):
    benchmark = make_upstreams(tmp_path, {"a": {0: 1, 1: 1}}, layers)
    (tmp_path / gone).unlink()
    with pytest.raises(UserError, match=message):
        score_upstreams(benchmark, num_resamples=10)


def test_no_single_layers(tmp_path, make_upstreams):
    benchmark = make_upstreams(tmp_path, {"a": {0: 1, 1: 1}}) | {"layers": "each"}
    with pytest.raises(UserError, match="no predictions of single layers; run the benchmark"):
        score_upstreams(benchmark, num_resamples=10)


def test_upstreams_must_be_tested_on_the_same_utterances(tmp_path, make_upstreams):
    benchmark = make_upstreams(tmp_path, {"a": {0: 0, 1: 0}, "b": {0: 0, 1: 0}})
    path = Path(tmp_path / "exp" / "b" / "toy" / "2" / "1" / "test.tsv")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"exp/b/toy/2/1/test.tsv"):
        score_upstreams(benchmark, num_resamples=10)


def test_a_trained_upstream_has_no_stored_features(tmp_path, make_upstreams):
    benchmark = make_upstreams(tmp_path, {"a": {0: 1, 1: 1}})
    for cell in benchmark["upstreams"][0]["corpora"].values():
        cell["features"] = None
        for _, _, run in cell["runs"]:
            info = json.dumps({"train_seconds": 2.0, "num_params": 7})
            (Path(run) / "info.json").write_text(info)
    (only,) = score_upstreams(benchmark, num_resamples=10)["rows"]
    assert only["num_params"] == 7 and only["num_layers"] is None
    assert "seconds_per_second" not in only
    assert only["corpora"]["toy"]["layer_weights"] is None

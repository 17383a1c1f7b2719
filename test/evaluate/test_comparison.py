from __future__ import annotations

import itertools
import json

import pytest

from espnet_mtkd.bin.compare import main
from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.comparison import alike, curve, sizes, table
from espnet_mtkd.evaluate.experiment import read_experiment
from espnet_mtkd.evaluate.results import Bootstrap, score


@pytest.fixture
def scored(make_exp, tmp_path):
    """Score an experiment with other facts and parameters, in a folder of its own."""
    numbers = itertools.count()

    def make(share: float = 1.0, num_params: int = 130_000, **more):
        expdir = make_exp(systems=("ft", "kd", "mtkd_uniform", "mtkd"))
        facts = json.loads((expdir / "experiment.json").read_text())
        facts |= {"labelled_share": share, **more}
        (expdir / "experiment.json").write_text(json.dumps(facts))
        for path in expdir.rglob("info.json"):
            info = json.loads(path.read_text())
            info |= {"num_params": num_params}
            path.write_text(json.dumps(info))
        results = score(read_experiment(expdir), Bootstrap(num_resamples=100))
        (expdir / "results.json").write_text(json.dumps(results))
        return expdir.rename(tmp_path / f"exp{next(numbers)}"), results

    return make


def cells(lines: list[str], name: str) -> list[str]:
    row = next(line for line in lines if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_table_has_differences_to_what_a_default_must_beat(scored):
    _, results = scored()
    lines = table(results)
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header[-6:] == ["− ft", "p", "− kd", "p", "− mtkd_uniform", "p"]
    mtkd = cells(lines, "mtkd")
    for column, other in ((-6, "ft"), (-4, "kd"), (-2, "mtkd_uniform")):
        value = results["test"]["pairs"]["mtkd"][other]["value"]
        assert mtkd[column].startswith(f"{100 * value:+.1f}")
    systems = ("ft", "kd", "mtkd_uniform", "mtkd")
    dev = {name: results["test"]["rows"][name]["dev_uar"] for name in systems}
    for name, value in dev.items():
        text = f"{100 * value:.1f}"
        assert cells(lines, name)[1] == (f"**{text}**" if value == max(dev.values()) else text)
    assert not any(line.startswith("| teacher_") for line in lines)


def test_figures_need_something_to_show(scored, tmp_path):
    one, few, small = scored()[1], scored(share=0.25)[1], scored(num_params=10_000)[1]
    assert not curve({"a": one}, tmp_path / "a.svg") and not sizes({"a": one}, tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()
    assert curve({"a": one, "b": few}, tmp_path / "b.svg") and (tmp_path / "b.svg").is_file()
    assert sizes({"a": one, "c": small}, tmp_path / "c.svg") and (tmp_path / "c.svg").is_file()


@pytest.mark.parametrize(
    "other", [{"languages": ["en"]}, {"upstream": "fbank"}, {"unlabelled": "x"}, {"corpora": {}}]
)
def test_a_figure_does_not_mix_experiments_that_differ_in_more(scored, other):
    mine = [scored()[1], scored(share=0.25, seeds=[0], student_args="")[1]]
    experiments = {str(i): r for i, r in enumerate([*mine, scored(share=0.5)[1]])}
    assert [[*group] for group in alike(experiments, "labelled_share")] == [["0", "1", "2"]]
    experiments["2"]["experiment"].update(other)
    assert [[*group] for group in alike(experiments, "labelled_share")] == [["0", "1"], ["2"]]
    small = scored(share=0.25, num_params=10_000, student_config="small")[1]
    experiments = {"a": mine[0], "b": small}
    assert len(alike(experiments, "student_config")) == 2
    small["experiment"]["labelled_share"] = 1.0
    assert alike(experiments, "student_config") == [experiments]


def test_the_page(scored, tmp_path):
    argv = []
    for name, facts in {
        "all labels": {},
        "few": {"share": 0.25},
        "small": {"student_config": "small", "num_params": 10_000},
        "small few": {"student_config": "small", "num_params": 10_000, "share": 0.25},
        "views": {"views": 2},
    }.items():
        argv += ["--experiment", f"{name}={scored(**facts)[0]}"]
    main([*argv, "--output_dir", str(tmp_path / "study")])
    text = (tmp_path / "study/STUDY.md").read_text()
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles[5:] == [
        "Share of labels: all labels, few",
        "Share of labels: small, small few",
        "Size of the student: all labels, small",
        "Size of the student: few, small few",
    ]
    assert "## all labels" in text and "(labels_2.svg)" in text
    assert {path.name for path in (tmp_path / "study").glob("*.svg")} == {
        f"{kind}_{number}.svg" for kind in ("labels", "sizes") for number in (1, 2)
    }


def test_mistakes(scored, tmp_path):
    folder, _ = scored()
    for given, message in (("x", "must be NAME=EXPDIR"), ("x=", "must be NAME=EXPDIR")):
        with pytest.raises(UserError, match=message):
            main(["--experiment", given, "--output_dir", str(tmp_path)])
    with pytest.raises(UserError, match="with each name once"):
        twice = ["--experiment", f"a={folder}"] * 2
        main([*twice, "--output_dir", str(tmp_path)])
    with pytest.raises(UserError, match="results.json: no such file; make it with"):
        main(["--experiment", f"a={tmp_path}", "--output_dir", str(tmp_path)])
    (tmp_path / "results.json").write_text('{"test": {}}')
    with pytest.raises(UserError, match="of an older version"):
        main(["--experiment", f"a={tmp_path}", "--output_dir", str(tmp_path)])

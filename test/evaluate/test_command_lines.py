import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from espnet_mtkd.bin import report, score

VOID = {"meta", "br", "img", "hr", "input", "link", "path", "line", "use", "rect"}


def _run(module, *options):
    command = [sys.executable, "-m", f"espnet_mtkd.bin.{module}", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class _Checker(HTMLParser):
    """Balanced tags, unique ids, nothing from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.outside, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if "id" in values:
            self.ids.append(values["id"])
        for name in ("src", "href", "xlink:href", "data"):
            if name in values and not values[name].startswith("#"):
                self.outside.append(values[name])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def _check(html):
    checker = _Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert checker.outside == []
    for link in re.findall(r'<a href="#([^"]+)"', html):
        assert link in checker.ids
    return " ".join(checker.text)


def test_score_then_report(make_exp, capsys):
    expdir = make_exp(heldout=("de",))
    score.main(["--expdir", str(expdir), "--num_resamples", "100"])
    out = capsys.readouterr().out
    assert "| mtkd |" in out
    assert "note: made from the synthetic corpus mini_ser" in out
    results = json.loads((expdir / "results.json").read_text())
    assert results["bootstrap"] == {"num_resamples": 100, "seed": 0, "level": 0.95}
    assert (expdir / "RESULTS.md").read_text().startswith("# Results: mini_ser\n")

    report.main(["--expdir", str(expdir)])
    html = (expdir / "report.html").read_text()
    text = _check(html)
    assert "Made from the synthetic corpus mini_ser: for trying and testing, not for claims" in text
    assert "./run.sh --seeds '0 1' --systems \"ft kd mtkd\"" in text
    assert "No shared <utterance>." in text
    for title in (
        *("Held-out corpora", "Reliability", "Teacher weights over training", "Training"),
        *("Map of the test utterances", "Hardest utterances", "Split audit"),
    ):
        assert title in text
    assert "No vectors were stored" in text and "<audio" not in html
    value = results["test"]["rows"]["mtkd"]["macro"]["uar"]["value"]
    assert f"mtkd {100 * value:.1f} [" in html  # In the description of the bars.
    assert not list(expdir.glob(".*"))


def test_both_are_the_same_when_run_again(make_exp):
    expdir = make_exp(seeds=(0,))
    contents = []
    for _ in range(2):
        score.main(["--expdir", str(expdir), "--num_resamples", "100"])
        report.main(["--expdir", str(expdir)])
        names = ("results.json", "RESULTS.md", "report.html")
        contents.append([(expdir / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "options",
    [
        {"systems": ("mtkd",), "seeds": (0,), "folds": (1,)},
        {"systems": ("ft",), "teachers": False},
        {"systems": (), "teachers": True},
        {"languages": ("de", "en", "it", "ur", "fi"), "speakers_per_fold": 1, "num_epochs": 1},
    ],
    ids=["one system", "no teachers", "teachers only", "five languages"],
)
def test_parts_of_an_experiment_are_enough(make_exp, options):
    expdir = make_exp(synthetic=False, **options)
    score.main(["--expdir", str(expdir), "--num_resamples", "100"])
    report.main(["--expdir", str(expdir), "--out", str(expdir / "other.html")])
    assert "synthetic" not in _check((expdir / "other.html").read_text())


def test_weights_of_a_single_teacher_are_not_drawn(make_exp):
    expdir = make_exp(systems=("ft", "mtkd"), seeds=(0,))
    for path in expdir.glob("fold_*/seed_*/mtkd/history.json"):
        history = json.loads(path.read_text())
        for phases in history.values():
            phases["train"] = {"loss": 1.0, "weight_en_ft": 1.0}
        path.write_text(json.dumps(history))
    score.main(["--expdir", str(expdir), "--num_resamples", "100"])
    report.main(["--expdir", str(expdir)])
    assert "Teacher weights" not in (expdir / "report.html").read_text()


def test_mistakes_are_one_line_and_status_1(make_exp):
    expdir = make_exp()
    missing = expdir / "fold_1" / "seed_0" / "ft" / "test.tsv"
    missing.unlink()
    result = _run("score", "--expdir", expdir)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: {missing}: no predictions; make them with ./run.sh --stage 8\n"
    )
    assert not (expdir / "results.json").exists()

    result = _run("report", "--expdir", expdir)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: {expdir / 'results.json'}: no such file; make it with ./run.sh --stage 9\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num_resamples", "10"], "--num_resamples 10: too few"),
        (["--level", "95"], "--level 95.0: must be at least 0.5 and below 1"),
        (["--bootstrap_seed", "-1"], "--bootstrap_seed -1: must not be negative"),
        (["--expdir", "no/such/folder"], "no/such/folder/experiment.json: no such file"),
    ],
)
def test_bad_options(options, message):
    result = _run("score", *options)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_results_of_another_version(make_exp):
    expdir = make_exp(seeds=(0,))
    (expdir / "results.json").write_text('{"format": 0}')
    result = _run("report", "--expdir", expdir)
    assert result.returncode == 1
    assert "format 0 instead of 1; make it with ./run.sh --stage 9" in result.stderr


def test_missing_history(make_exp):
    expdir = make_exp(seeds=(0,))
    score.main(["--expdir", str(expdir), "--num_resamples", "100"])
    (expdir / "fold_1" / "seed_0" / "kd" / "history.json").unlink()
    result = _run("report", "--expdir", expdir)
    assert result.returncode == 1
    assert "kd/history.json: no such file; train the model with ./run.sh --stage 7" in result.stderr


def test_neither_needs_torch():
    code = (
        "import sys, espnet_mtkd.bin.score, espnet_mtkd.bin.report; "
        "sys.exit(sorted({'torch', 'espnet', 's3prl'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

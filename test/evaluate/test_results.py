"""Scores of a made-up experiment against a slow computation with pandas, loops and scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from espnet_mtkd.errors import UserError
from espnet_mtkd.evaluate.experiment import read_experiment
from espnet_mtkd.evaluate.intervals import p_value, speaker_weights
from espnet_mtkd.evaluate.markdown import render
from espnet_mtkd.evaluate.results import MAJORITY, TEACHERS, TOGETHER, Bootstrap, score

EMOTIONS = ["anger", "happiness", "neutral", "sadness"]
FAST = Bootstrap(num_resamples=40, seed=4)


def _score(expdir, bootstrap=FAST):
    return score(read_experiment(expdir), bootstrap)


def _frame(expdir, model, seed, split="test", folds=(1, 2)):
    paths = [expdir / f"fold_{f}" / f"seed_{seed}" / model / f"{split}.tsv" for f in folds]
    frame = pd.concat([pd.read_csv(path, sep="\t") for path in paths], ignore_index=True)
    best = frame[[f"logit_{e}" for e in EMOTIONS]].idxmax(axis=1)
    frame["hyp"] = best.str.removeprefix("logit_")
    return frame


def _uar(frame):
    present = [e for e in EMOTIONS if (frame.ref == e).any()]
    return recall_score(frame.ref, frame.hyp, labels=present, average="macro")


def _edit(path, change):
    path.write_text(change(path.read_text()))


def test_values_equal_a_slow_computation(make_exp):
    expdir = make_exp()
    rows = _score(expdir)["test"]["rows"]
    for model in ("teacher_en", "ft", "mtkd"):
        frames = [_frame(expdir, model, seed) for seed in (0, 1)]
        means = []
        for language in ("en", "fi", "fr"):
            of = [frame[frame.lang == language] for frame in frames]
            cell = rows[model]["languages"][language]
            means.append(np.mean([_uar(frame) for frame in of]))
            assert cell["uar"]["value"] == pytest.approx(means[-1], abs=1e-6)
            war = np.mean([(frame.ref == frame.hyp).mean() for frame in of])
            assert cell["war"]["value"] == pytest.approx(war, abs=1e-6)
            f1 = np.mean([f1_score(f.ref, f.hyp, labels=EMOTIONS, average="macro") for f in of])
            assert cell["f1"]["value"] == pytest.approx(f1, abs=1e-6)
            expected = sum(confusion_matrix(f.ref, f.hyp, labels=EMOTIONS) for f in of)
            assert rows[model]["confusion"][language] == expected.tolist()
        assert rows[model]["macro"]["uar"]["value"] == pytest.approx(np.mean(means), abs=1e-6)


def test_the_dev_score_is_that_of_the_predictions(make_exp):
    expdir = make_exp()
    rows = _score(expdir)["test"]["rows"]
    for system in ("ft", "mtkd"):
        frames = [
            _frame(expdir, system, seed, "dev", (fold,)) for seed in (0, 1) for fold in (1, 2)
        ]
        of = [f[f.lang == at] for f in frames for at in f.lang.unique()]
        assert rows[system]["dev_uar"] == pytest.approx(np.mean([_uar(f) for f in of]), abs=1e-6)
    assert rows["teacher_en"]["dev_uar"] is None


def test_the_accuracy_of_a_language_head_is_a_mean_over_trainings(make_exp):
    expdir = make_exp()
    for i, path in enumerate(sorted(expdir.glob("fold_*/seed_*/mtkd/info.json"))):
        _edit(path, lambda text, i=i: json.dumps({**json.loads(text), "language_accuracy": i / 8}))
    results = _score(expdir)
    rows = results["test"]["rows"]
    assert rows["mtkd"]["language_accuracy"] == pytest.approx((0 + 1 + 2 + 3) / 4 / 8)
    assert rows["ft"]["language_accuracy"] is None
    text = render(results)
    assert "| mtkd | 18.8 |" in text[text.index("## Language heads") :]


def test_intervals_and_differences_equal_a_loop_over_utterances(make_exp):
    expdir = make_exp(utterances_per_speaker=4, speakers_per_fold=3)
    rows = _score(expdir)["test"]["rows"]
    languages = ["en", "fi", "fr"]
    frames = {m: [_frame(expdir, m, seed) for seed in (0, 1)] for m in ("ft", "mtkd")}
    draws = {model: np.zeros((3, 40)) for model in frames}
    for place, language in enumerate(languages):
        reference = frames["ft"][0]
        speakers = sorted(reference[reference.lang == language].spk_id.unique())
        weights = speaker_weights(len(speakers), 40, seed=4, language=language)
        for model, runs in frames.items():
            for b in range(40):
                uars = []
                for run in runs:
                    rows_of = [np.flatnonzero(run.spk_id == speaker) for speaker in speakers]
                    drawn = [np.tile(at, n) for at, n in zip(rows_of, weights[b], strict=True)]
                    uars.append(_uar(run.iloc[np.concatenate(drawn)]))
                draws[model][place, b] = np.mean(uars)

    def check(cell, values):
        low, high = np.percentile(values, [2.5, 97.5])
        assert cell["low"] == pytest.approx(low, abs=1e-6)
        assert cell["high"] == pytest.approx(high, abs=1e-6)

    delta = draws["mtkd"] - draws["ft"]
    difference = rows["mtkd"]["difference"]
    for place, language in enumerate(languages):
        check(rows["mtkd"]["languages"][language]["uar"], draws["mtkd"][place])
        check(difference["languages"][language], delta[place])
        assert difference["languages"][language]["p"] == pytest.approx(
            p_value(delta[place]), abs=1e-6
        )
    check(rows["mtkd"]["macro"]["uar"], draws["mtkd"].mean(axis=0))
    check(difference["macro"], delta.mean(axis=0))
    assert difference["macro"]["p"] == pytest.approx(p_value(delta.mean(axis=0)), abs=1e-6)
    assert rows["ft"]["difference"] is None


def test_rows_stand_in_order_and_the_teachers_row_is_made_of_their_own_languages(make_exp):
    results = _score(make_exp())
    rows = results["test"]["rows"]
    names = ["teacher_en", "teacher_fi", "teacher_fr"]
    assert list(rows) == [MAJORITY, TEACHERS, *names, "ft", "kd", "mtkd"]
    for language in ("en", "fi", "fr"):
        own = rows[f"teacher_{language}"]["languages"][language]
        assert rows[TEACHERS]["languages"][language] == own
    assert rows[TEACHERS]["num_params"] == 3 * 130_000
    assert rows["ft"]["num_params"] == 130_000
    assert rows["ft"]["train_seconds"] == pytest.approx(11.5)
    matrix = results["teachers"]["uar"]
    assert matrix[1][2] == rows["teacher_fi"]["languages"]["fr"]["uar"]["value"]


def ensemble(expdir: Path, how: str) -> None:
    path = expdir / "experiment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "teacher_ensemble": how}))


def test_an_ensemble_of_teachers_says_the_mean_of_their_probabilities(make_exp):
    expdir = make_exp()
    ensemble(expdir, "true")
    results = _score(expdir)
    rows = results["test"]["rows"]
    assert list(rows)[1:3] == [TEACHERS, TOGETHER]
    table = render(results).split("## Mean UAR per seed")[1].split("##")[0]
    assert "teachers, each on its language" in table and "all seeds together" not in table
    for language in ("en", "fi", "fr"):
        frames = [_frame(expdir, f"teacher_{language}", seed) for seed in (0, 1)]
        frames = [frame.set_index("utt_id").sort_index() for frame in frames]
        columns = [name for name in frames[0] if name.startswith("logit_")]
        p = sum(softmax(frame[columns].to_numpy(), axis=1) for frame in frames)
        own = (frames[0]["lang"] == language).to_numpy()
        said = np.array([name.removeprefix("logit_") for name in columns])[p.argmax(1)]
        uar = recall_score(frames[0]["ref"][own], said[own], average="macro")
        found = rows[TOGETHER]["languages"][language]["uar"]["value"]
        assert found == pytest.approx(uar, abs=1e-6)
    assert rows[TOGETHER]["num_params"] == 2 * rows[TEACHERS]["num_params"]
    assert rows[TOGETHER]["train_seconds"] == pytest.approx(2 * rows[TEACHERS]["train_seconds"])


def test_what_teaches_together_is_compared_with_ft(make_exp):
    expdir = make_exp()
    ensemble(expdir, "true")
    results = _score(expdir)
    differences = results["test"]["rows"][TOGETHER]["difference"]["languages"]
    worse = [at for at, difference in differences.items() if difference["value"] < 0]
    warned = [text.split()[3] for text in results["warnings"]["teachers"]]
    assert warned == worse


def test_soups_have_predictions_of_their_own(make_exp):
    expdir = make_exp()
    ensemble(expdir, "soup")
    with pytest.raises(UserError, match="soup/teacher_en/test.tsv: no predictions"):
        _score(expdir)
    for fold in (1, 2):
        for language in ("en", "fi", "fr"):
            name = f"teacher_{language}/test.tsv"
            soup = expdir / f"fold_{fold}/soup/{name}"
            soup.parent.mkdir(parents=True)
            soup.write_text((expdir / f"fold_{fold}/seed_1/{name}").read_text())
    rows = _score(expdir)["test"]["rows"]
    for language in ("en", "fi", "fr"):
        uar = _uar(_frame(expdir, f"teacher_{language}", 1).query(f"lang == '{language}'"))
        found = rows[TOGETHER]["languages"][language]["uar"]["value"]
        assert found == pytest.approx(uar, abs=1e-6)
    assert rows[TOGETHER]["num_params"] == rows[TEACHERS]["num_params"]


def test_teachers_from_elsewhere_stand_beside_the_others(make_exp):
    expdir = make_exp()
    path = expdir / "experiment.json"
    given = "far,fi,far.zip wide,all,wide.zip"
    path.write_text(json.dumps({**json.loads(path.read_text()), "external_teachers": given}))
    with pytest.raises(UserError, match="fold_1/external/far/test.tsv: no predictions"):
        _score(expdir)
    for fold in (1, 2):  # one is as good as ft, one says the same whatever it hears
        ft = (expdir / f"fold_{fold}/seed_0/ft/test.tsv").read_text()
        head, *lines = ft.splitlines()
        deaf = ["\t".join([*line.split("\t")[:5], "1", "0", "0", "-1e9"]) for line in lines]
        for name, text in (("far", "\n".join([head, *deaf])), ("wide", ft)):
            own = expdir / f"fold_{fold}/external/{name}/test.tsv"
            own.parent.mkdir(parents=True)
            own.write_text(text)
    results = _score(expdir)
    names, rows = results["teachers"]["names"], results["test"]["rows"]
    assert names == ["teacher_en", "teacher_fi", "teacher_fr", "far", "wide"]
    assert results["teachers"]["uar"][3] == pytest.approx([0.25] * 3)
    for language in ("en", "fi", "fr"):
        uar = _uar(_frame(expdir, "ft", 0).query(f"lang == '{language}'"))
        assert rows["wide"]["languages"][language]["uar"]["value"] == pytest.approx(uar, abs=1e-6)
    warned = [text for text in results["warnings"]["teachers"] if "far" in text]
    assert len(warned) == 1 and warned[0].startswith("the teacher far of fi is worse than ft")
    assert sum("is not known here" in note for note in results["warnings"]["notes"]) == 2
    text = render(results)
    assert "| far | 25.0 | 25.0 | 25.0 |" in text and "**Warning:** the teacher far of fi" in text
    assert "far" not in text.split("## Systems")[1].split("All metrics")[0]


def test_one_seed_is_no_ensemble(make_exp):
    expdir = make_exp(seeds=(0,))
    ensemble(expdir, "true")
    assert TOGETHER not in _score(expdir)["test"]["rows"]


def test_majority_baseline(make_exp):
    expdir = make_exp(utterances_per_speaker=6)  # Two of each of the first two classes, one else.
    row = _score(expdir)["test"]["rows"][MAJORITY]
    assert row["languages"]["fi"]["uar"] == {"value": 0.25, "low": None, "high": None}
    assert row["macro"]["war"]["value"] == pytest.approx(2 / 6, abs=1e-6)
    assert row["difference"] is None


def test_a_copy_of_ft_differs_by_nothing(make_exp):
    expdir = make_exp()
    for path in expdir.glob("fold_*/seed_*/ft/test.tsv"):
        (path.parent.parent / "kd" / "test.tsv").write_text(path.read_text())
    difference = _score(expdir)["test"]["rows"]["kd"]["difference"]["macro"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_a_further_system_or_language_moves_no_interval(make_exp, tmp_path):
    full = _score(make_exp())["test"]["rows"]["mtkd"]
    path = tmp_path / "exp" / "experiment.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"systems": ["ft", "mtkd"], "teachers": []}))
    fewer = _score(tmp_path / "exp")["test"]["rows"]
    assert fewer["mtkd"] == full
    assert TEACHERS not in fewer


def test_without_ft_there_is_no_difference(make_exp):
    results = _score(make_exp(systems=("mtkd",)))
    assert all(row["difference"] is None for row in results["test"]["rows"].values())
    assert results["teachers"]["ft"] is None
    assert results["warnings"]["teachers"] == []


def test_teacher_worse_than_ft_is_said(make_exp):
    expdir = make_exp()
    results = _score(expdir)
    rows = results["test"]["rows"]
    worse = [
        at
        for at in ("en", "fi", "fr")
        if rows[f"teacher_{at}"]["languages"][at]["uar"]["value"]
        < rows["ft"]["languages"][at]["uar"]["value"]
    ]
    assert worse  # The made-up teachers are less skilled than ft.
    warnings = results["warnings"]["teachers"]
    assert [text.split(" is worse than ft")[0] for text in warnings] == [
        f"the teacher of {at}" for at in worse
    ]


def test_missing_teacher_of_a_language_leaves_the_mean_open(make_exp, tmp_path):
    make_exp()
    path = tmp_path / "exp" / "experiment.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"teachers": ["teacher_fi"]}))
    row = _score(tmp_path / "exp")["test"]["rows"][TEACHERS]
    assert list(row["languages"]) == ["fi"]
    assert row["macro"] is None
    assert row["difference"]["macro"] is None
    assert row["difference"]["languages"]["fi"]["p"] is not None


def test_heldout_languages_average_over_folds_and_seeds(make_exp):
    expdir = make_exp(heldout=("de",))
    heldout = _score(expdir)["heldout"]
    assert len(heldout["runs"]) == 4
    assert list(heldout["data"]) == ["de"]
    assert heldout["data"]["de"]["speakers"] == 4
    runs = [_frame(expdir, "mtkd", s, "heldout", [f]) for s in (0, 1) for f in (1, 2)]
    value = heldout["rows"]["mtkd"]["languages"]["de"]["uar"]["value"]
    assert value == pytest.approx(np.mean([_uar(frame) for frame in runs]), abs=1e-6)
    assert TEACHERS not in heldout["rows"]


def test_a_heldout_corpus_of_a_trained_language_is_scored(make_exp):
    results = _score(make_exp(heldout=("fi", "de")))
    assert list(results["heldout"]["data"]) == ["fi", "de"]
    assert results["heldout"]["data"]["fi"] != results["test"]["data"]["fi"]
    assert results["heldout"]["rows"]["mtkd"]["macro"] is not None


def test_absent_class_is_left_out_and_said(make_exp):
    expdir = make_exp()

    def without_sad_french(text):
        lines = text.splitlines(keepends=True)
        return "".join(x for x in lines if not ("toy_fr" in x and "\tsadness\t" in x))

    for path in expdir.glob("fold_*/seed_*/*/test.tsv"):
        _edit(path, without_sad_french)
    results = _score(expdir)
    assert results["test"]["data"]["fr"]["absent"] == ["sadness"]
    assert results["test"]["rows"][MAJORITY]["languages"]["fr"]["uar"]["value"] == 0.333333
    assert any("fr: no test utterance of sadness" in n for n in results["warnings"]["notes"])
    frame = pd.concat([_frame(expdir, "mtkd", s) for s in (0, 1)])
    value = results["test"]["rows"]["mtkd"]["languages"]["fr"]["uar"]["value"]
    assert value == pytest.approx(_uar(frame[frame.lang == "fr"]), abs=0.01)


def test_one_speaker_gives_no_interval(make_exp):
    results = _score(make_exp(folds=(1,), speakers_per_fold=1))
    cell = results["test"]["rows"]["mtkd"]["macro"]["uar"]
    assert cell["value"] is not None
    assert cell["low"] is None
    assert results["test"]["rows"]["mtkd"]["difference"]["macro"]["p"] is None
    assert any("one test speaker only" in note for note in results["warnings"]["notes"])
    assert any("1 of 2 folds were run" in note for note in results["warnings"]["notes"])


def test_same_input_gives_the_same_output(make_exp):
    expdir = make_exp()
    assert json.dumps(_score(expdir)) == json.dumps(_score(expdir))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("exp/fold_2/seed_1/mtkd/test.tsv", r"mtkd/test\.tsv: no predictions; .*run\.sh --stage 8"),
        ("exp/fold_1/seed_0/kd/heldout.tsv", r"kd/heldout\.tsv: no predictions.*--stage 8"),
        ("exp/fold_1/seed_0/kd/info.json", r"kd/info\.json: no such file.*--stage 7"),
        ("exp/fold_1/seed_0/teacher_fi/info.json", r"info\.json: no such file.*--stage 5"),
        ("dump/folds/tag/audit.json", r"audit\.json: no such file.*--stage 3"),
        ("dump/folds/tag/audit.md", r"audit\.md: no such file.*--stage 3"),
    ],
)
def test_missing_input_names_file_and_stage(make_exp, tmp_path, path, message):
    expdir = make_exp(heldout=("de",))
    (tmp_path / path).unlink()
    with pytest.raises(UserError, match=message):
        _score(expdir)


def test_all_missing_predictions_are_counted(make_exp):
    expdir = make_exp()
    for path in expdir.glob("fold_*/seed_*/kd/test.tsv"):
        path.unlink()
    with pytest.raises(UserError, match=r"fold_1/seed_0/kd/test\.tsv: .*\(and 3 more\)"):
        _score(expdir)


def test_systems_must_be_tested_on_the_same_utterances(make_exp):
    expdir = make_exp()
    path = expdir / "fold_1" / "seed_1" / "kd" / "test.tsv"
    _edit(path, lambda text: "\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match=r"seed_1/kd/test\.tsv: lacks utterance .*teacher_en/test"):
        _score(expdir)


def test_folds_must_not_share_test_utterances(make_exp):
    expdir = make_exp()
    for path in expdir.glob("fold_1/seed_*/*/test.tsv"):
        first = path.read_text().splitlines()[1]
        other = path.parents[2].with_name("fold_2") / path.relative_to(path.parents[2])
        _edit(other, lambda text, first=first: text + first + "\n")
    with pytest.raises(UserError, match=r"fold_2/.*is also tested in .*fold_1/.*:2"):
        _score(expdir)


def test_language_without_test_utterances(make_exp):
    expdir = make_exp()
    for path in expdir.glob("fold_*/seed_*/*/test.tsv"):
        _edit(path, lambda t: "\n".join(x for x in t.splitlines() if "\tfi\t" not in x) + "\n")
    with pytest.raises(UserError, match="no utterance of language fi in any fold"):
        _score(expdir)


# ---- languages that are left out, and pairs of systems -----------------------------------------


def leave_out(expdir: Path) -> None:
    """Models without a language say of it what the models with it say of another system."""
    facts = json.loads((expdir / "experiment.json").read_text())
    facts["left_out"] = facts["languages"]
    (expdir / "experiment.json").write_text(json.dumps(facts))
    swapped = dict(zip(facts["systems"], reversed(facts["systems"]), strict=True))
    for folder in expdir.glob("fold_*/seed_*"):
        for language in facts["languages"]:
            for system, other in swapped.items():
                header, *lines = (folder / other / "test.tsv").read_text().splitlines()
                kept = [line for line in lines if line.split("\t")[2] == language]
                target = folder / f"without_{language}" / system / "test.tsv"
                target.parent.mkdir(parents=True)
                target.write_text("\n".join([header, *kept]) + "\n")


def test_left_out_languages_are_scored_on_models_without_them(make_exp):
    expdir = make_exp()
    leave_out(expdir)
    results = _score(expdir)
    test, left_out = results["test"], results["left_out"]
    assert left_out["data"] == test["data"] and left_out["runs"] == test["runs"]
    for system, other in (("ft", "mtkd"), ("kd", "kd"), ("mtkd", "ft")):
        for key in ("languages", "macro", "runs", "confusion"):
            assert left_out["rows"][system][key] == test["rows"][other][key]
    assert not any(row["kind"] == "teacher" for row in left_out["rows"].values())


def test_left_out_predictions_that_are_missing(make_exp):
    expdir = make_exp()
    leave_out(expdir)
    (expdir / "fold_1/seed_0/without_fi/kd/test.tsv").unlink()
    with pytest.raises(UserError, match="without_fi/kd/test.tsv: no predictions; make them"):
        score(read_experiment(expdir))


def test_pairs_agree_with_the_differences_to_the_baseline(make_exp):
    test = _score(make_exp())["test"]
    for system in ("kd", "mtkd"):
        difference = test["rows"][system]["difference"]
        macro = difference["macro"]
        assert test["pairs"][system]["ft"] == {**macro, "languages": difference["languages"]}
        back = test["pairs"]["ft"][system]
        assert back["value"] == pytest.approx(-macro["value"])
        assert (back["low"], back["high"]) == pytest.approx((-macro["high"], -macro["low"]))
    assert set(test["pairs"]["mtkd"]) == {"ft", "kd"}

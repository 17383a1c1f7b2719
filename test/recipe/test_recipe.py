"""The whole recipe on a tiny version of the embedded corpus: what a user types, what they get."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import lock
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.evaluate.predictions import read_predictions

ROOT = Path(__file__).parents[2]
TINY = [
    *("--local_data_opts", "--num_voices 6 --num_utts 1"),
    *("--num_folds", "3", "--folds", "1"),
    *("--teacher_args", "--max_epoch 2", "--student_args", "--max_epoch 2"),
    *("--nj", "2", "--python", sys.executable),
]
pytest.importorskip("espeakng_loader", reason="the embedded corpus needs the extra 'mini'")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Run the recipe in a folder of its own."""
    return subprocess.run(
        [str(ROOT / "run.sh"), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Run everything once."""
    folder = tmp_path_factory.mktemp("a recipe")  # a path with a space
    done = run(folder, *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


SYSTEMS = ["ft", "kd", "mtkd_uniform", "mtkd_cosine_batch", "mtkd"]


def test_results_have_all_systems_and_languages(finished):
    folder, done = finished
    results = json.loads((folder / "exp" / "results.json").read_text())
    assert results["experiment"]["systems"] == SYSTEMS
    assert results["experiment"]["languages"] == ["en", "fi", "fr"]
    for system in SYSTEMS:
        macro = results["test"]["rows"][system]["macro"]["uar"]
        assert 0 <= macro["low"] <= macro["value"] <= macro["high"] <= 1
    text = (folder / "exp" / "RESULTS.md").read_text()
    assert "synthetic" in text
    assert "| mtkd |" in text
    assert "| mtkd |" in done.stdout  # the table is what a run ends with
    assert (folder / "exp" / "report.html").stat().st_size > 10000


def test_every_stage_says_what_it_did_and_where(finished):
    _, done = finished
    for stage in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12):
        assert f"stage {stage}: " in done.stdout
        assert f"stage {stage} took " in done.stdout


def test_test_speakers_were_not_trained_on(finished):
    folder, _ = finished
    fold = next((folder / "dump" / "folds").glob("*/fold_1"))
    speakers = {
        side: {line.split()[1] for line in (fold / side / "utt2spk").read_text().splitlines()}
        for side in ("train", "dev", "test")
    }
    assert not speakers["train"] & speakers["test"]
    assert not speakers["dev"] & speakers["test"]
    assert not speakers["train"] & speakers["dev"]


def test_packed_student_gives_the_logits_of_stage_8(finished, tmp_path):
    from scipy.special import softmax

    from espnet_mtkd import EmotionRecognizer

    folder, _ = finished
    recognizer = EmotionRecognizer.from_pretrained(folder / "exp" / "packed" / "mtkd.zip")
    path = folder / "exp" / "fold_1" / "seed_0" / "mtkd" / "test.tsv"
    with open(path, newline="") as f:
        row = next(csv.DictReader(f, delimiter="\t"))
    wavs = dict(
        line.split(" ", 1)
        for line in (folder / "dump/raw/mini_ser/wav.scp").read_text().splitlines()
    )
    found = recognizer(folder / wavs[row["utt_id"]]).probabilities
    logits = np.array([float(row[f"logit_{emotion}"]) for emotion in found])
    expected = softmax(logits / recognizer.temperature)
    assert list(found.values()) == pytest.approx(list(expected), abs=1e-5)


def test_again_does_nothing_and_a_changed_option_only_what_depends_on_it(finished):
    folder, _ = finished
    again = run(folder, *TINY)
    assert again.returncode == 0, again.stderr
    assert "jobs run" not in again.stdout
    changed = run(folder, *TINY, "--systems", "ft mtkd_label", "--stop_stage", "7")
    assert changed.returncode == 0, changed.stderr
    assert "fold_1/seed_0/mtkd_label" in changed.stdout
    assert "teacher_en" not in changed.stdout  # still good


def test_folds_changed_by_hand_are_not_scored(finished):
    folder, _ = finished
    changed = next((folder / "dump" / "folds").glob("*/fold_1/test/utt2emotion"))
    content = changed.read_text()
    try:
        changed.write_text(content.replace("anger", "sadness", 1))
        done = run(folder, *TINY, "--systems", "ft mtkd", "--stage", "9", "--stop_stage", "9")
    finally:
        changed.write_text(content)
    assert done.returncode == 1
    name = changed.relative_to(folder)
    assert f"error: {name}: altered, so the audit of stage 3 says nothing" in done.stderr


def test_a_killed_training_is_not_taken_for_done(finished):
    folder, _ = finished
    stamp = folder / "exp" / "fold_1" / "seed_0" / ".stamps" / "kd.json"
    state = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**state, "state": "started"}))
    again = run(folder, *TINY, "--stage", "7", "--stop_stage", "7")
    assert again.returncode == 0, again.stderr
    assert "seed_0/kd (" in again.stdout
    assert json.loads(stamp.read_text())["state"] == "done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sytems", "ft"), "unknown option --sytems"),
        (("--stage", "two"), "--stage two: must be a number from 1 to 13"),
        (("--stage", "0"), "--stage 0: must be a number from 1 to 13"),
        (("--stage", "14"), "--stage 14: must be a number from 1 to 13"),
        (("--stage", "9"), "--stage 9 comes after --stop_stage 7: nothing would be run"),
        (("--skip_train", "maybe"), "must be true or false"),
        (("--corpora", "nowhere"), "corpus nowhere: no local/nowhere.py"),
        (("--corpora", "emodb"), "EMODB='' is no folder; set EMODB in db.sh"),
        (("--labels", "five"), "conf/labels/five.yaml: no such file"),
        (("--systems", "ft magic", "--stage", "7"), "--systems magic: must be some of"),
        (("--folds", "9"), "--folds 9: there are folds 1 to 4"),
        # What is of later stages is said in the first.
        (("--labelled_share", "half"), "--labelled_share: invalid float value: 'half'"),
        (("--teacher_init", "magic"), "--teacher_init magic: must be scratch or multilingual"),
        (("--crossfit", "1"), "--crossfit 1: must be 2 or more, or 0 for none"),
        (("--pack_system", "magic"), "--pack_system magic: must be one of ft, kd"),
        (("--student_config", "conf/x.yaml"), "conf/x.yaml: no such file"),
        (("--student_args", "--max_epoh 3"), "'--max_epoh 3': unrecognized arguments: --max_epoh"),
        (("--upstream", "wav2vec9"), "--upstream wav2vec9: S3PRL has no such upstream"),
        (("--ngpu", "99"), "--ngpu 99: torch finds "),
    ],
)
def test_mistakes_are_one_line(tmp_path, options, message):
    roots = {name: "" for name in ("EMODB", "EMOVO", "RAVDESS", "URDU")}
    done = subprocess.run(
        [str(ROOT / "run.sh"), "--python", sys.executable, *options, "--stop_stage", "7"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **roots},
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    with lock(tmp_path / "exp" / ".lock", "free"):
        done = run(tmp_path, *TINY)
    assert done.returncode == 1
    assert done.stderr == "error: --expdir exp: another run is at work there\n"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_stage_too(tmp_path, sent):
    process = subprocess.Popen(
        [str(ROOT / "run.sh"), *TINY],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A shell cannot trap what its parent ignores.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
    )
    for line in process.stdout:
        if "[1/" in line:  # the first job has ended: the stage is at work
            break
    if sent == signal.SIGINT:  # Ctrl-C goes to all in the foreground
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, said = process.communicate()
    assert process.returncode == 128 + sent
    assert said == "error: stopped by a signal; the same command goes on from here\n"
    with open(tmp_path / "exp" / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for whoever is left
    assert not (tmp_path / "dump").exists()


def test_help_lists_stages_and_options(tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for word in ("Stages:", "report.html", "--corpora", "--student_config", "--ngpu"):
        assert word in done.stdout


# ---- other ways to teach ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A folder with the data, which experiments share."""
    path = tmp_path_factory.mktemp("variants")
    done = run(path, *TINY, "--stop_stage", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def results_of(folder: Path, expdir: str, *options: str) -> dict:
    done = run(folder, *TINY, *options, "--expdir", expdir, "--stop_stage", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / expdir / "results.json").read_text())


def test_small_students_few_labels_views_and_left_out_languages(shared):
    results = results_of(
        shared,
        "exp_small",
        *("--systems", "ft kd mtkd mtkd_hints ft_frames", "--student_mode", "own"),
        *("--student_config", "conf/train_conv_300k.yaml"),
        *("--labelled_share", "0.5", "--views", "1", "--leave_one_language_out", "true"),
    )
    students = {"ft", "kd", "mtkd", "mtkd_hints", "ft_frames"}
    assert set(results["left_out"]["rows"]) == {"majority", "teacher_all", *students}
    assert list(results["left_out"]["data"]) == ["en", "fi", "fr"]
    rows = results["test"]["rows"]
    assert (
        rows["mtkd"]["num_params"] == rows["ft"]["num_params"] != rows["teacher_all"]["num_params"]
    )
    fold = next((shared / "dump/folds").glob("*_0.5_views1/fold_1"))
    every, few = (read_map(fold / name / "utt2emotion") for name in ("train_all", "train"))
    assert {utt for utt, emotion in every.items() if emotion != HIDDEN} == set(few)
    assert sum("-view1" in utt for utt in every) == len(every) / 2


def test_cross_fitted_soup_of_specialists_with_features_and_a_gate(shared):
    results = results_of(
        shared,
        "exp_soup",
        *("--systems", "ft kd mtkd_learned mtkd_features", "--seeds", "0 1"),
        *("--teacher_init", "multilingual", "--teacher_ensemble", "soup", "--crossfit", "2"),
    )
    assert set(results["test"]["pairs"]) == {"ft", "kd", "mtkd_learned", "mtkd_features"}
    weights = {}
    for name in ("mtkd_learned", "mtkd_features"):
        path = shared / "exp_soup/fold_1/seed_1" / name / "history.json"
        weights[name] = json.loads(path.read_text())["2"]["train"]
    assert weights["mtkd_features"]["weight_fi_teacher_fi"] == pytest.approx(1.0)
    assert 0 < weights["mtkd_learned"]["weight_fi_teacher_en"] < 1


def test_a_packed_student_teaches_in_another_experiment(finished):
    folder, _ = finished
    options = ("--systems", "ft mtkd", "--external_teachers", "other,fi,exp/packed/mtkd.zip")
    results = results_of(folder, "exp_more", *options)
    assert results["teachers"]["names"][-1] == "other"
    emotions, languages = (results["experiment"][key] for key in ("emotions", "languages"))
    heard, before = (
        read_predictions(folder / path / "test.tsv", emotions, languages)
        for path in ("exp_more/fold_1/external/other", "exp/fold_1/seed_0/mtkd")
    )
    assert heard.utt_ids == before.utt_ids  # it was trained on the same fold
    np.testing.assert_allclose(heard.logits, before.logits, atol=1e-4)
    own = np.array(heard.languages) == "fi"
    uar = recall_score(heard.ref[own], heard.hyp[own], average="macro")
    found = results["test"]["rows"]["other"]["languages"]["fi"]["uar"]["value"]
    assert found == pytest.approx(uar, abs=1e-6)
    path = folder / "exp_more/fold_1/seed_0/mtkd/history.json"
    weights = json.loads(path.read_text())["2"]["train"]
    assert weights["weight_fi_other"] == weights["weight_fi_teacher_fi"] > 0
    assert weights["weight_fi_teacher_en"] < weights["weight_fi_other"]

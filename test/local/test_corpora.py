"""The corpus scripts, on generated trees with the publishers' layouts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.labels import LabelSet

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("MTKD_CORPORA")

# Some files of each corpus, and what the first must become.
TREES = {
    "emodb": (
        ["wav/03a01Fa", "wav/08b10Nd", "wav/16a04Lc", "wav/15a07Wb"],
        "emodb_03_03a01Fa",
        ("emodb_03", "m", "de", "Freude", "Der Lappen liegt auf dem Eisschrank."),
    ),
    "emovo": (
        ["f1/pau-f1-b1", "m3/gio-m3-n5", "f2/neu-f2-l4"],
        "emovo_f1_pau-f1-b1",
        ("emovo_f1", "f", "it", "paura", None),
    ),
    "ravdess": (
        ["Actor_02/03-01-05-02-02-01-02", "Actor_01/03-01-02-01-01-02-01"],
        "ravdess_02_03-01-05-02-02-01-02",
        ("ravdess_02", "f", "en", "angry", "Dogs are sitting by the door"),
    ),
    "urdu": (
        ["Angry/SM1_F10_A010", "Sad/SF11_F1_S03", "Happy/SM1_F1_H01", "Neutral/SM10_F2_N01"],
        "urdu_SM01_SM1_F10_A010",
        ("urdu_SM01", "m", "ur", "Angry", None),
    ),
    "TEMPLATE": (
        ["anna/joy_01", "bob/rage_02"],
        "TEMPLATE_anna_joy_01",
        ("TEMPLATE_anna", None, "en", "happiness", None),
    ),
}


def make(root: Path, names: list[str], suffixes: tuple[str, ...] = (".wav", ".flac")) -> None:
    for index, name in enumerate(names):
        path = root / (name + suffixes[index % len(suffixes)])
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.1 * np.sin(np.arange(1600) * (index + 1) / 50)
        soundfile.write(path, tone, 16000, format=path.suffix[1:].upper())


def run(corpus: str | Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run local/<corpus>.py, or another script by its path."""
    script = corpus if isinstance(corpus, Path) else ROOT / "local" / f"{corpus}.py"
    return subprocess.run(
        [sys.executable, script, *map(str, options)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("corpus", TREES)
def test_layout_to_data_directory(tmp_path, corpus):
    names, utt, (speaker, gender, language, emotion, text) = TREES[corpus]
    make(tmp_path / "in", names)
    result = run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{corpus}: {len(names)} utterances, ")
    data = DataDir.load(tmp_path / "out")
    assert len(data) == len(names)
    assert data.corpora == [corpus]
    assert data.wav_scp[utt] == str(tmp_path / "in" / f"{names[0]}.wav")
    assert data.utt2spk[utt] == speaker
    assert data.spk2gender.get(speaker) == gender
    assert data.utt2lang[utt] == language
    assert data.utt2emotion[utt] == emotion
    assert data.text.get(utt) == text


@pytest.mark.parametrize("corpus", sorted(TREES.keys() - {"TEMPLATE"}))
def test_every_label_is_in_the_label_sets(tmp_path, corpus):
    codes = {
        "emodb": [f"wav/03a01{code}a" for code in "WLEAFTN"],
        "emovo": [f"f1/{code}-f1-b1" for code in "dis gio neu pau rab sor tri".split()],
        "ravdess": [f"Actor_01/03-01-0{code}-01-01-01-01" for code in range(1, 9)],
        "urdu": [f"{name}/SM1_F1_{name[0]}1" for name in ("Angry", "Happy", "Neutral", "Sad")],
    }[corpus]
    make(tmp_path / "in", codes)
    assert run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out").returncode == 0
    found = set(DataDir.load(tmp_path / "out").utt2emotion.values())
    assert len(found) == len(codes)
    for name in ("four", "full"):
        labels = LabelSet.load(ROOT / "conf" / "labels" / f"{name}.yaml")
        assert set(labels.maps[corpus]) == found


@pytest.mark.parametrize("corpus", TREES)
@pytest.mark.parametrize("case", ["missing", "empty variable", "other layout"])
def test_a_wrong_root_is_one_clear_line(tmp_path, corpus, case):
    make(tmp_path / "in", ["deep/er/still/x"])
    root = {"missing": tmp_path / "no", "empty variable": "", "other layout": tmp_path / "in"}[case]
    result = run(corpus, "--root", root, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {corpus}: no ")
    assert f"set --root ({corpus.upper()} in db.sh) to the folder that holds " in result.stderr
    assert TREES[corpus][0][0].split("/")[0][:1] in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("emodb", "wav/03a01Xa"),
        ("emodb", "wav/99a01Fa"),
        ("emodb", "wav/03a03Fa"),
        ("emovo", "f1/xxx-f1-b1"),
        ("emovo", "f1/dis-f2-b1"),
        ("ravdess", "Actor_01/03-01-09-01-01-01-01"),
        ("ravdess", "Actor_01/03-01-01-01-01-01-02"),
        ("urdu", "Angry/SM1_F1_H01"),
        ("urdu", "Angry/noise"),
        ("TEMPLATE", "anna/01"),
    ],
)
def test_an_unknown_name_is_an_error_with_its_path(tmp_path, corpus, name):
    make(tmp_path / "in", [*TREES[corpus][0], name])
    result = run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'in' / name}.")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_same_recording_as_wav_and_flac(tmp_path):
    make(tmp_path / "in", ["wav/03a01Fa", "wav/03a01Fa"])
    result = run("emodb", "--root", tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "03a01Fa.flac and " in result.stderr
    assert "03a01Fa.wav; keep one" in result.stderr


def test_ravdess_leaves_song_out(tmp_path):
    speech = "Actor_01/03-01-01-01-01-01-01"
    make(tmp_path / "in", [speech, "Actor_01/03-02-01-01-01-01-01"])
    assert run("ravdess", "--root", tmp_path / "in", "--out", tmp_path / "out").returncode == 0
    assert DataDir.load(tmp_path / "out").utterances == ["ravdess_01_03-01-01-01-01-01-01"]


def test_upper_case_suffixes_and_hidden_files(tmp_path):
    make(tmp_path / "in", ["wav/03a01Fa"], (".WAV",))
    (tmp_path / "in" / "wav" / "._03a01Fa.WAV").write_bytes(b"finder")
    assert run("emodb", "--root", tmp_path / "in", "--out", tmp_path / "out").returncode == 0
    assert len(DataDir.load(tmp_path / "out")) == 1


def test_help_is_the_docstring():
    result = run("emodb", "--help")
    assert result.returncode == 0
    assert "Licence:" in result.stdout
    assert "Layout: wav/SSTTTEv.wav" in result.stdout


def test_template_becomes_a_corpus_by_copying(tmp_path):
    script = tmp_path / "mine.py"
    shutil.copy(ROOT / "local" / "TEMPLATE.py", script)
    make(tmp_path / "in", ["anna/joy_01", "anna/grief_02", "bob/plain_02"])
    result = run(script, "--root", tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    data = DataDir.load(tmp_path / "out")
    emotions = {
        "mine_anna_grief_02": "sadness",
        "mine_anna_joy_01": "happiness",
        "mine_bob_plain_02": "neutral",
    }
    assert data.utt2emotion == emotions
    # No change anywhere else: both label sets take it as it is.
    for name in ("four", "full"):
        labels = LabelSet.load(ROOT / "conf" / "labels" / f"{name}.yaml")
        labels.for_corpora({"mine": set(data.utt2emotion.values()), "emodb": ["Wut"]})
        assert {utt: labels.map("mine", e) for utt, e in data.utt2emotion.items()} == emotions


@pytest.mark.skipif(not REAL, reason="MTKD_CORPORA is not set: no folder with real corpora")
@pytest.mark.parametrize(
    ("corpus", "folder", "total", "four"),
    [
        ("emodb", "EmoDB", 535, {"anger": 127, "happiness": 71, "neutral": 79, "sadness": 62}),
        ("emovo", "EMOVO", 588, dict.fromkeys(("anger", "happiness", "neutral", "sadness"), 84)),
        (
            "ravdess",
            "RAVDESS",
            1440,
            {"anger": 192, "happiness": 192, "neutral": 96, "sadness": 192},
        ),
        ("urdu", "URDU", 400, dict.fromkeys(("anger", "happiness", "neutral", "sadness"), 100)),
    ],
)
def test_real_corpora(tmp_path, corpus, folder, total, four):
    result = run(corpus, "--root", Path(REAL or "") / folder, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    data = DataDir.load(tmp_path / "out")
    assert len(data) == total
    labels = LabelSet.load(ROOT / "conf" / "labels" / "four.yaml")
    counts = Counter(labels.map(corpus, label) for label in data.utt2emotion.values())
    del counts[None]
    assert counts == four

"""IEMOCAP, on a generated tree with its sessions, evaluations and transcriptions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from espnet_mtkd.data.datadir import DataDir, read_map
from espnet_mtkd.data.labels import LabelSet

CONF = Path(__file__).parents[2] / "conf" / "labels"

# By dialogue: utterance, label, the evaluators' lines below it.
IMPRO = {
    "Ses01F_impro01_F000": ("neu", "C-E2:\tNeutral;\t()|C-E3:\tNeutral;\t()|C-E4:\tNeutral;\t()"),
    "Ses01F_impro01_M000": (
        "exc",
        "C-E2:\tExcited;\t()|C-E3:\tHappiness; Excited;\t(laughs)|C-E4:\tSurprise;\t()"
        "|C-F1:\tAnger;\t()|A-E3:\tval 3; act 2; dom  2;\t()|A-F1:\tval 2; act 3; dom  2;\t()",
    ),
    "Ses01F_impro01_F001": ("xxx", "C-E2:\tFear;\t()|C-E3:\tAnger;\t()|C-E4:\tSadness;\t()"),
    "Ses01F_impro01_M001": (
        "oth",
        # A fourth evaluator, and a comment with a semicolon.
        "C-E1:\tOther;\t(melancholy; n\u00e3o)|C-E2:\tOther;\t()|C-E3:\tOther;\t()"
        "|C-E4:\tSadness;\t()",
    ),
    "Ses01F_impro01_F002": (
        "ang",
        "C-E2:\tAnger;\t()|C-E3:\tFrustration; Anger;\t()|C-E4:\tFrustration;\t()",
    ),
}
SCRIPT = {
    "Ses05M_script01_1b_M000": ("sad", "C-E2:\tSadness;\t()|C-E4:\tSadness;\t()"),
    "Ses05M_script01_1b_F000": ("hap", "C-E2:\tHappiness;\t()|C-E4:\tHappiness;\t()"),
}


def write_dialog(root: Path, session: str, dialog: str, turns: dict[str, tuple[str, str]]) -> None:
    evaluation = root / session / "dialog" / "EmoEvaluation"
    transcriptions = root / session / "dialog" / "transcriptions"
    for folder in (evaluation, transcriptions, evaluation / "Self-evaluation"):
        folder.mkdir(parents=True, exist_ok=True)
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    words = []
    for number, (utt, (label, votes)) in enumerate(turns.items()):
        start = f"{6.29 + number:.4f}"
        lines.append(f"[{start} - {8.2 + number:.4f}]\t{utt}\t{label}\t[2.5000, 2.5000, 2.5000]")
        lines += [*votes.split("|"), ""]
        words.append(f"{utt} [{start}-{8.2 + number:.4f}]: Turn {number}.")
    (evaluation / f"{dialog}.txt").write_text("\n".join(lines), encoding="latin-1")
    (evaluation / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07finder")
    (evaluation / "Self-evaluation" / f"{dialog}_f.anvil.txt").write_text("not this")
    # Turns that nobody evaluated, and remarks.
    words += ["F: (laughs)", "Ses01F_impro01_FXX0 [001.0000-002.0000]: Hm.", ""]
    (transcriptions / f"{dialog}.txt").write_text("\n".join(words), encoding="latin-1")


@pytest.fixture
def root(tmp_path, make):
    root = tmp_path / "IEMOCAP_full_release"
    write_dialog(root, "Session1", "Ses01F_impro01", IMPRO)
    write_dialog(root, "Session5", "Ses05M_script01_1b", SCRIPT)
    make(
        root / "Session1" / "sentences" / "wav" / "Ses01F_impro01", [*IMPRO, "Ses01F_impro01_FXX0"]
    )
    make(root / "Session5" / "sentences" / "wav" / "Ses05M_script01_1b", SCRIPT, (".wav",))
    hidden = root / "Session5/sentences/wav/Ses05M_script01_1b/._Ses05M_script01_1b_M000.wav"
    hidden.write_bytes(b"finder")
    return root


def test_everything(tmp_path, run, root):
    result = run("iemocap", "--root", root, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    data = DataDir.load(tmp_path / "out")
    assert Counter(data.utt2emotion.values()) == dict(neu=1, hap=2, xxx=1, oth=1, ang=1, sad=1)
    assert data.speakers == [f"iemocap_Ses0{name}" for name in ("1F", "1M", "5F", "5M")]
    # Who speaks is the letter of the turn, not that of the dialogue.
    assert data.utt2spk["iemocap_Ses01M_Ses01F_impro01_M000"] == "iemocap_Ses01M"
    assert data.utt2spk["iemocap_Ses05F_Ses05M_script01_1b_F000"] == "iemocap_Ses05F"
    assert data.spk2gender["iemocap_Ses05F"] == "f"
    assert data.text["iemocap_Ses01F_Ses01F_impro01_F001"] == "Turn 2."
    assert data.wav_scp["iemocap_Ses01F_Ses01F_impro01_F000"].endswith("impro01_F000.wav")
    assert data.wav_scp["iemocap_Ses01M_Ses01F_impro01_M000"].endswith("impro01_M000.flac")
    assert read_map(tmp_path / "out" / "utt2agreement") == {
        "iemocap_Ses01F_Ses01F_impro01_F000": "1.00",
        "iemocap_Ses01F_Ses01F_impro01_F002": "0.67",
        "iemocap_Ses01M_Ses01F_impro01_M000": "0.67",
        "iemocap_Ses01M_Ses01F_impro01_M001": "0.75",
        "iemocap_Ses05F_Ses05M_script01_1b_F000": "1.00",
        "iemocap_Ses05M_Ses05M_script01_1b_M000": "1.00",
    }
    four = LabelSet.load(CONF / "four.yaml")
    counts = Counter(four.map("iemocap", label) for label in data.utt2emotion.values())
    assert counts == {"neutral": 1, "happiness": 2, "anger": 1, "sadness": 1, None: 2}


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (["--excited", "keep"], "ang exc hap neu oth sad xxx"),
        (["--dialogs", "improvised"], "ang hap neu oth xxx"),
        (["--dialogs", "scripted"], "hap sad"),
        (["--iemocap.dialogs=scripted"], "hap sad"),
        (["--min_agreement", "0.7"], "hap neu oth sad"),
        (["--min_agreement", "0.9", "--excited", "keep"], "hap neu sad"),
    ],
)
def test_options(tmp_path, run, root, options, labels):
    result = run("iemocap", "--root", root, "--out", tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    data = DataDir.load(tmp_path / "out")
    assert sorted(set(data.utt2emotion.values())) == labels.split()


def test_a_later_run_leaves_nothing_of_an_earlier_one(tmp_path, run, root):
    for options in ([], ["--dialogs", "scripted"]):
        assert run("iemocap", "--root", root, "--out", tmp_path / "out", *options).returncode == 0
    assert len(read_map(tmp_path / "out" / "utt2agreement")) == len(SCRIPT)


def test_without_transcriptions(tmp_path, run, root):
    (root / "Session5/dialog/transcriptions/Ses05M_script01_1b.txt").unlink()
    assert run("iemocap", "--root", root, "--out", tmp_path / "out").returncode == 0
    assert len(DataDir.load(tmp_path / "out").text) == len(IMPRO)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1.0 - 2.0]\tSes01F_impro01_F009\tjoy\t[2.5, 2.5, 2.5]", r":3: expected '\[START"),
        ("[1.0 - 2.0] Ses01F_impro01_F009 neu [2.5, 2.5, 2.5]", r":3: expected '\[START"),
        ("[1.0 - 2.0]\tSes01F_impro02_F009\tneu\t[2.5, 2.5, 2.5]", "not an utterance of this"),
        ("[1.0 - 2.0]\tSes02F_impro01_F009\tneu\t[2.5, 2.5, 2.5]", "not an utterance of this"),
        ("[1.0 - 2.0]\tSes01F_impro01_F009\tneu\t[2.5, 2.5, 2.5]", "F009.wav: no such file"),
    ],
)
def test_wrong_evaluations(tmp_path, run, root, line, message):
    path = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    lines = path.read_text(encoding="latin-1").splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]), encoding="latin-1")
    result = run("iemocap", "--root", root, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert str(root / "Session1") in result.stderr
    assert message.replace("\\", "") in result.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_agreement(tmp_path, run, root):
    result = run("iemocap", "--root", root, "--out", tmp_path, "--min_agreement", "67")
    assert result.returncode == 1
    assert result.stderr == "error: --min_agreement 67.0: expected a number from 0 to 1\n"

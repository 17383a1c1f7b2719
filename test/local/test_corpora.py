"""The corpus scripts, on generated trees with the publishers' layouts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from espnet_mtkd.bin.list_corpora import read_entries, read_entry
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.folds import map_labels
from espnet_mtkd.data.labels import LabelSet

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("MTKD_CORPORA")

# Files of each corpus, with every label and the known oddities, and what the first must become:
# utterance, then speaker, gender, language, label, transcript.
TREES = {
    "aesdd": (
        [
            "anger/a03 (4)",
            "disgust/d01 (1)",
            "fear/f20 (6)",
            "happiness/h02 (2)",
            "sadness/s05 (4)",
        ],
        "aesdd_4_a03",
        ("aesdd_4", None, "el", "anger", None),
    ),
    "baved": (
        ["0/12-M-22-3-1-245", "1/2-f-19-1-0-7", "1/12-m-22-0-2-12"],
        "baved_012_12-M-22-3-1-245",
        ("baved_012", "m", "ar", "normal", "الفيلم"),
    ),
    "cafe": (
        [
            "Colère/Faible/01-C-1-1",
            "D\u00e9go\u00fbt/Fort/12-D-2-6",
            "Joie/Fort/02-J-2-3",
            "Neutre/07-N-1",
            "Peur/Faible/03-P-1-2",
            "Surprise/Fort/04-S-2-4",
            "Tristesse/Faible/10-T-1-5",
        ],
        "cafe_01_01-C-1-1",
        ("cafe_01", "m", "fr", "colère", "Un cheval fou dans mon jardin"),
    ),
    "casia": (
        [
            "wangzhe/angry/201",
            "wangzhe/fear/201",
            "liuchanhg/happy/202",
            "zhaoquanyin/neutral/203",
            "ZhaoZuoxiang/sad/250",
            "ZhaoZuoxiang/surprise/250",
        ],
        "casia_wangzhe_angry_201",
        ("casia_wangzhe", "m", "zh", "angry", None),
    ),
    "cremad": (
        [
            "AudioWAV/1001_DFA_ANG_XX",
            "AudioWAV/1001_IEO_DIS_LO",
            "AudioWAV/1002_IEO_FEA_MD",
            "AudioWAV/1002_IEO_HAP_HI",
            "AudioWAV/1091_WSI_NEU_XX",
            "AudioWAV/1040_ITH_SAD_X",
        ],
        "cremad_1001_1001_DFA_ANG_XX",
        ("cremad_1001", None, "en", "ANG", "Don't forget a jacket"),
    ),
    "emodb": (
        [
            "wav/03a01Fa",
            "wav/08b10Nd",
            "wav/16a04Lc",
            "wav/15a07Wb",
            "wav/15a07Eb",
            "wav/15a07Ab",
            "wav/15a07Tb",
        ],
        "emodb_03_03a01Fa",
        ("emodb_03", "m", "de", "Freude", "Der Lappen liegt auf dem Eisschrank."),
    ),
    "emouerj": (
        ["emoUERJ/w04a11", "emoUERJ/m01h01", "emoUERJ/w01n02", "emoUERJ/m04s10"],
        "emouerj_w04_w04a11",
        ("emouerj_w04", "f", "pt", "anger", None),
    ),
    "emovo": (
        [
            "f1/pau-f1-b1",
            "m3/gio-m3-n5",
            "f2/neu-f2-l4",
            "f2/dis-f2-l4",
            "f2/rab-f2-l4",
            "f2/sor-f2-l4",
            "f2/tri-f2-l4",
        ],
        "emovo_f1_pau-f1-b1",
        ("emovo_f1", "f", "it", "paura", None),
    ),
    "esd": (
        [
            "0011/Angry/0011_000351",
            "0001/Happy/0001_000701",
            "0010/Neutral/train/0010_000021",
            "0020/Sad/evaluation/0020_001051",
            "0020/Surprise/test/0020_001431",
        ],
        "esd_0011_0011_000351",
        ("esd_0011", "m", "en", "Angry", None),
    ),
    "fesc": (
        ["TIRE/p01", "TIRE/p02", "JAKA/p01", "MIKO/p03", "PEKO/p04"],
        "fesc_TIRE_TIRE-p01",
        ("fesc_TIRE", None, "fi", "anger", None),
    ),
    "jlcorpus": (
        [
            f"Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/{name}"
            for name in (
                "female1_angry_10a_1",
                "male2_sad_1b_2",
                "male2_neutral_1b_2",
                "male1_happy_1b_2",
                "male1_excited_1b_2",
                "male1_anxious_1b_2",
                "male1_apologetic_1b_2",
                "male1_assertive_1b_2",
                "female2_concerned_1b_2",
                "female2_encouraging_1b_2",
            )
        ],
        "jlcorpus_female1_female1_angry_10a_1",
        ("jlcorpus_female1", "f", "en", "angry", None),
    ),
    "mesd": (
        [
            f"Mexican Emotional Speech Database (MESD)/{name}"
            for name in (
                "Anger_F_A_basta_ya",
                "Disgust_M_B_sangre",
                "Fear_C_B_robo",
                "Happiness_C_A_no",
                "Neutral_M_A_si",
                "Sadness_F_B_llanto",
            )
        ],
        "mesd_F_Anger_F_A_basta_ya",
        ("mesd_F", "f", "es", "Anger", "basta ya"),
    ),
    "nemo": (
        [
            f"samples/{name}"
            for name in (
                "WR0_surprised_64",
                "EB0_neutral_13",
                "EB0_anger_13",
                "MP0_sadness_79",
                "MP0_happiness_79",
                "KD0_fear_7",
            )
        ],
        "nemo_WR0_WR0_surprised_64",
        ("nemo_WR0", "m", "pl", "surprised", "„Zdanie” 64."),
    ),
    "oreau": (
        [
            f"Ore\u0301auFR_02/{name}"
            for name in (
                "f/sessj/10a02Ja",
                "m/sessc/12b01Ca",
                "m/sessd/12b01Da",
                "m/sessn/12b01Na",
                "m/sessp/14b01Pa",
                "m/sesss/14b01Sa",
                "m/sesst/14b01Ta",
            )
        ],
        "oreau_10_10a02Ja",
        ("oreau_10", "f", "fr", "joie", None),
    ),
    "ravdess": (
        [
            "Actor_02/03-01-05-02-02-01-02",
            *(f"Actor_01/03-01-0{code}-01-01-02-01" for code in (1, 2, 3, 4, 6, 7, 8)),
        ],
        "ravdess_02_03-01-05-02-02-01-02",
        ("ravdess_02", "f", "en", "angry", "Dogs are sitting by the door"),
    ),
    "savee": (
        [
            f"AudioData/{name}"
            for name in ("DC/sa01", "DC/a01", "JE/d15", "JE/f15", "JK/h02", "KL/n30", "KL/su15")
        ],
        "savee_DC_sa01",
        ("savee_DC", "m", "en", "sadness", None),
    ),
    "shemo": (
        [
            "female/F01A01",
            "female/F01F02",
            "female/F31H11",
            "male/M01N01",
            "male/M56S101",
            "male/M02W01",
        ],
        "shemo_F01_F01A01",
        ("shemo_F01", "f", "fa", "anger", None),
    ),
    "subesco": (
        [
            f"SUBESCO/{name}"
            for name in (
                "F_02_MONIKA_S_1_NEUTRAL_5",
                "M_02_TITAS_S_10_ANGRY_1",
                "M_02_TITAS_S_10_DISGUST_1",
                "M_02_TITAS_S_10_FEAR_1",
                "M_02_TITAS_S_10_HAPPY_1",
                "M_02_TITAS_S_10_SAD_1",
                "M_02_TITAS_S_10_SURPRISE_1",
            )
        ],
        "subesco_F02_S01_NEUTRAL_5",
        ("subesco_F02", "f", "bn", "NEUTRAL", None),
    ),
    "tess": (
        [
            "OAF_Fear/OAF_back_fear",
            "OAF_angry/OAF_back_angry",
            "OAF_neutral/OA_bite_neutral",
            "OAF_Pleasant_surprise/OAF_back_ps",
            "YAF_pleasant_surprised/YAF_back_ps",
            "YAF_disgust/YAF_back_disgust",
            "YAF_happy/YAF_back_happy",
            "YAF_sad/YAF_back_sad",
        ],
        "tess_OAF_OAF_back_fear",
        ("tess_OAF", "f", "en", "fear", "Say the word back"),
    ),
    "turevdb": (
        [
            "Sound Source/Calm/1984_sk_eger",
            "Sound Source/Angry/1984_kz_eger",
            "Sound Source/Happy/1234_mt_acik",
            "Sound Source/Sad/6783_uz_dil",
        ],
        "turevdb_1984_Calm_eger",
        ("turevdb_1984", None, "tr", "Calm", "eger"),
    ),
    "urdu": (
        ["Angry/SM1_F10_A010", "Sad/SF11_F1_S03", "Happy/SM1_F1_H01", "Neutral/SM10_F2_N01"],
        "urdu_SM01_SM1_F10_A010",
        ("urdu_SM01", "m", "ur", "Angry", None),
    ),
    "TEMPLATE": (
        ["anna/joy_01", "bob/rage_02", "bob/plain_02", "bob/grief_02"],
        "TEMPLATE_anna_joy_01",
        ("TEMPLATE_anna", None, "en", "happiness", None),
    ),
}


@pytest.fixture
def tree(make):
    """Make the tree of a corpus, with the tables that belong to it."""

    def tree(root: Path, corpus: str, *more: str) -> None:
        names = TREES[corpus][0]
        make(root, [*names, *more])
        if corpus == "fesc":
            suffix = {True: ".wav", False: ".flac"}
            lines = ["# file, speaker, label", ""]
            for index, name in enumerate(names):
                file = name + suffix[index % 2 == 0]
                label = (1, "joy", 3, 4, "tenderness")[index]
                lines.append(f"{file}\t{name.split('/')[0]}\t{label}")
            (root / "labels.tsv").write_text("\n".join(lines) + "\n")
        if corpus == "nemo":
            rows = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
            for name in (*names, *more):
                stem = name.split("/")[-1]
                speaker, emotion, number = stem.split("_")
                gender = "female" if speaker in ("EB0", "KD0") else "male"
                rows.append(
                    f"{stem}.wav\t{emotion}\t„Zdanie” {number}.\tzdanie\t        {speaker}"
                    f"\t{gender}\t23"
                )
            (root / "data.tsv").write_text("\n".join(rows) + "\n")

    return tree


def test_every_script_has_a_tree():
    with_tests_of_its_own = {"iemocap"}
    names = {entry.name for entry in read_entries(ROOT / "local")}
    assert names == TREES.keys() - {"TEMPLATE"} | with_tests_of_its_own


@pytest.mark.parametrize("corpus", TREES)
def test_layout_to_data_directory(tmp_path, run, tree, corpus):
    names, utt, (speaker, gender, language, emotion, text) = TREES[corpus]
    tree(tmp_path / "in", corpus)
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


@pytest.mark.parametrize("corpus", TREES)
def test_labels_of_tree_docstring_and_label_sets_are_the_same(tmp_path, run, tree, corpus):
    tree(tmp_path / "in", corpus)
    assert run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out").returncode == 0
    data = DataDir.load(tmp_path / "out")
    entry = read_entry(ROOT / "local" / f"{corpus}.py")
    assert set(data.utt2emotion.values()) == set(entry.labels)
    assert data.languages == sorted(entry.languages)
    for name in ("four", "full"):
        labels = LabelSet.load(ROOT / "conf" / "labels" / f"{name}.yaml")
        if corpus in labels.maps:
            assert set(labels.maps[corpus]) == set(entry.labels)
        else:
            assert corpus in {*labels.refused, "TEMPLATE"}


SPEAKERS = {
    "aesdd": 4,
    "baved": 2,
    "cafe": 7,
    "casia": 4,
    "cremad": 4,
    "emouerj": 4,
    "esd": 4,
    "fesc": 4,
    "jlcorpus": 4,
    "mesd": 3,
    "nemo": 4,
    "oreau": 3,
    "savee": 4,
    "shemo": 5,
    "subesco": 2,
    "tess": 2,
    "turevdb": 3,
}


@pytest.mark.parametrize("corpus", SPEAKERS)
def test_speakers(tmp_path, run, tree, corpus):
    tree(tmp_path / "in", corpus)
    assert run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out").returncode == 0
    assert len(DataDir.load(tmp_path / "out").speakers) == SPEAKERS[corpus]


@pytest.mark.parametrize("corpus", [*TREES, "iemocap"])
@pytest.mark.parametrize("case", ["missing", "empty variable", "other layout"])
def test_a_wrong_root_is_one_clear_line(tmp_path, run, make, corpus, case):
    make(tmp_path / "in", ["deep/er/than/any/x"])
    root = {"missing": tmp_path / "no", "empty variable": "", "other layout": tmp_path / "in"}[case]
    result = run(corpus, "--root", root, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    if case == "other layout" and corpus in ("cafe", "emouerj", "subesco"):  # at any depth
        assert result.stderr.startswith(f"error: {tmp_path / 'in' / 'deep/er/than/any/x.wav'}: not")
    else:
        assert result.stderr.startswith(f"error: {corpus}: no ")
        assert f"set --root ({corpus.upper()} in db.sh) to the folder that " in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("aesdd", "anger/s03 (4)"),
        ("aesdd", "anger/a03"),
        ("baved", "0/12-M-22-3-3-245"),
        ("cafe", "Joie/Fort/13-J-2-3"),
        ("cafe", "Joie/01-J-3"),
        ("casia", "someone/angry/201"),
        ("casia", "wangzhe/joy/201"),
        ("casia", "wangzhe/angry/one"),
        ("cremad", "AudioWAV/1001_DFA_JOY_XX"),
        ("cremad", "AudioWAV/1001_XXX_ANG_XX"),
        ("emodb", "wav/03a01Xa"),
        ("emodb", "wav/99a01Fa"),
        ("emodb", "wav/03a03Fa"),
        ("emouerj", "emoUERJ/w05a11"),
        ("emovo", "f1/xxx-f1-b1"),
        ("emovo", "f1/dis-f2-b1"),
        ("esd", "0011/Angry/0012_000351"),
        ("esd", "0011/Bored/0011_000351"),
        ("esd", "0021/Angry/0021_000351"),
        ("jlcorpus", "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/male3_sad_1b_2"),
        ("mesd", "Mexican Emotional Speech Database (MESD)/Joy_F_A_si"),
        ("nemo", "samples/WR0_joy_64"),
        ("oreau", "Ore\u0301auFR_02/f/sessj/10a02Ta"),
        ("oreau", "Ore\u0301auFR_02/f/sessj/x"),
        ("ravdess", "Actor_01/03-01-09-01-01-01-01"),
        ("ravdess", "Actor_01/03-01-01-01-01-01-02"),
        ("savee", "AudioData/DC/x01"),
        ("shemo", "female/M01A01"),
        ("shemo", "male/M01X01"),
        ("subesco", "SUBESCO/F_02_MONIKA_S_1_JOY_5"),
        ("tess", "OAF_Fear/OAF_back_terror"),
        ("turevdb", "Sound Source/Sad/6783_dil"),
        ("urdu", "Angry/SM1_F1_H01"),
        ("urdu", "Angry/noise"),
        ("TEMPLATE", "anna/01"),
        ("TEMPLATE", "anna/envy_01"),
    ],
)
def test_an_unknown_name_is_an_error_with_its_path(tmp_path, run, tree, corpus, name):
    tree(tmp_path / "in", corpus, name)
    result = run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path / 'in' / name}.")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_same_recording_as_wav_and_flac(tmp_path, run, make):
    make(tmp_path / "in", ["wav/03a01Fa", "wav/03a01Fa"])
    result = run("emodb", "--root", tmp_path / "in", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "03a01Fa.flac and " in result.stderr
    assert "03a01Fa.wav; keep one" in result.stderr


def test_upper_case_suffixes_and_hidden_files(tmp_path, run, make):
    make(tmp_path / "in", ["wav/03a01Fa"], (".WAV",))
    (tmp_path / "in" / "wav" / "._03a01Fa.WAV").write_bytes(b"finder")
    assert run("emodb", "--root", tmp_path / "in", "--out", tmp_path / "out").returncode == 0
    assert len(DataDir.load(tmp_path / "out")) == 1


def test_a_script_on_its_own_command_line():
    result = subprocess.run(
        [sys.executable, ROOT / "local" / "emodb.py", "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Licence:" in result.stdout
    assert "Layout: wav/SSTTTEv.wav" in result.stdout


def test_template_becomes_a_corpus_by_copying(tmp_path, run, make):
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
        labels = labels.for_corpora({"mine": set(data.utt2emotion.values()), "emodb": ["Wut"]})
        mapped, dropped = map_labels(data, labels)
        assert mapped.utt2emotion == emotions
        assert not dropped


def test_template_is_short():
    lines = (ROOT / "local" / "TEMPLATE.py").read_text().splitlines()
    assert len(lines) <= 52


def test_every_corpus_has_its_variable_in_db_sh():
    text = (ROOT / "db.sh").read_text(encoding="utf-8")
    # A corpus of your own needs none.
    for corpus in sorted(TREES.keys() - {"TEMPLATE"} | {"iemocap"}):
        name = corpus.upper()
        assert f"\n{name}=${{{name}:-}}\n" in text


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
def test_real_corpora(tmp_path, run, corpus, folder, total, four):
    result = run(corpus, "--root", Path(REAL or "") / folder, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    data = DataDir.load(tmp_path / "out")
    assert len(data) == total
    labels = LabelSet.load(ROOT / "conf" / "labels" / "four.yaml")
    counts = Counter(labels.map(corpus, label) for label in data.utt2emotion.values())
    del counts[None]
    assert counts == four

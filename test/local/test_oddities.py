"""What is odd about single corpora, and the options of their scripts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def prepare(tmp_path, run):
    """Run a script on tmp_path/in and load what it wrote."""

    def prepare(corpus: str, *options: str) -> DataDir:
        result = run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out", *options)
        assert result.returncode == 0, result.stderr
        return DataDir.load(tmp_path / "out")

    return prepare


@pytest.fixture
def fail(tmp_path, run):
    """Run a script that must fail on tmp_path/in, with one line that is returned."""

    def fail(corpus: str, *options: str) -> str:
        result = run(corpus, "--root", tmp_path / "in", "--out", tmp_path / "out", *options)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "out").exists()
        return result.stderr

    return fail


CAFE = [
    f"{folder}/{level}/{actor}-{letter}-{intensity}-{sentence}"
    for folder, letter in {"Colère": "C", "Joie": "J", "Tristesse": "T"}.items()
    for intensity, level in enumerate(("Faible", "Fort"), start=1)
    for actor in ("01", "02", "12")
    for sentence in (1, 6)
]
NEUTRAL = [f"Neutre/{actor}-N-{sentence}" for actor in ("01", "02", "12") for sentence in (1, 6)]


@pytest.mark.parametrize(("intensity", "count"), [("both", 4), ("weak", 2), ("strong", 2)])
def test_cafe_intensities(tmp_path, make, prepare, intensity, count):
    make(tmp_path / "in", CAFE + NEUTRAL, (".wav",))
    data = prepare("cafe", "--intensity", intensity)
    labels = ("colère", "joie", "tristesse")
    expected = {label: 3 * count for label in labels} | {"neutre": 6}
    assert Counter(data.utt2emotion.values()) == expected
    assert data.spk2gender == {"cafe_01": "m", "cafe_02": "f", "cafe_12": "f"}


def test_cafe_in_two_parts_at_192_khz(tmp_path, make, prepare):
    parts = [f"CaFE_192k_{1 + name.split('/')[-1].startswith('12')}/{name}" for name in CAFE]
    make(tmp_path / "in", parts, (".aiff",))
    (tmp_path / "in" / "CaFE_192k_1" / "Readme.txt").write_text("licence")
    data = prepare("cafe")
    assert len(data) == len(CAFE)
    assert {Path(path).suffix for path in data.wav_scp.values()} == {".aiff"}


def test_cafe_in_both_versions_is_the_same_twice(tmp_path, make, fail):
    make(tmp_path / "in", ["CaFE_48k/" + NEUTRAL[0]], (".wav",))
    make(tmp_path / "in", ["CaFE_192k_1/" + NEUTRAL[0]], (".aiff",))
    assert "duplicate utterance id 'cafe_01_01-N-1'" in fail("cafe")


def test_tess_is_flat_or_in_folders_and_its_nested_copy_is_not_read(tmp_path, make, prepare):
    names = ["OAF_angry/OAF_back_angry", "YAF_sad/YAF_back_sad", "OAF_neutral/OA_bite_neutral"]
    copy = [f"TESS Toronto emotional speech set data/{name}" for name in names]
    make(tmp_path / "in", names + copy, (".wav",))
    data = prepare("tess")
    assert Counter(data.utt2spk.values()) == {"tess_OAF": 2, "tess_YAF": 1}
    assert data.utterances[0] == "tess_OAF_OAF_back_angry"
    assert all("Toronto" not in path.removeprefix(str(tmp_path)) for path in data.wav_scp.values())


def test_tess_flat(tmp_path, make, prepare):
    make(tmp_path / "in", ["OAF_back_angry", "YAF_back_ps"])
    assert prepare("tess").utt2emotion["tess_YAF_YAF_back_ps"] == "ps"


def test_cremad_leaves_out_the_silent_file_and_reads_the_sexes(tmp_path, make, prepare):
    make(tmp_path / "in", [f"AudioWAV/{n}_MTI_SAD_XX" for n in (1001, 1002, 1076)])
    make(tmp_path / "in", ["AudioMP3/1001_MTI_SAD_XX"], (".mp3",))
    (tmp_path / "in" / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n'
        '1001,51,"Male","Caucasian","Not Hispanic"\n1002,21,"Female","Caucasian","Not Hispanic"\n'
    )
    data = prepare("cremad")
    assert len(data) == 2
    assert data.spk2gender == {"cremad_1001": "m", "cremad_1002": "f"}


def test_aesdd_leaves_out_the_damaged_file(tmp_path, make, prepare):
    make(tmp_path / "in", ["sadness/s05 (2)", "sadness/s05 (4)"])
    (tmp_path / "in" / "sadness" / "s05 (3).wav").write_bytes(b"RIFF")
    assert prepare("aesdd").utterances == ["aesdd_2_s05", "aesdd_4_s05"]


def test_ravdess_leaves_song_out(tmp_path, make, prepare):
    make(tmp_path / "in", ["Actor_01/03-01-01-01-01-01-01", "Actor_01/03-02-01-01-01-01-01"])
    assert prepare("ravdess").utterances == ["ravdess_01_03-01-01-01-01-01-01"]


def test_savee_in_one_folder(tmp_path, make, prepare):
    make(tmp_path / "in", ["DC_a01", "KL_su15"])
    data = prepare("savee")
    assert data.utt2emotion == {"savee_DC_a01": "anger", "savee_KL_su15": "surprise"}


@pytest.mark.parametrize(("language", "speakers"), [("both", 3), ("en", 1), ("zh", 2)])
def test_esd_languages(tmp_path, make, prepare, language, speakers):
    make(tmp_path / "in", [f"{n}/Sad/{n}_000001" for n in ("0001", "0010", "0011")])
    (tmp_path / "in" / "0001" / "0001.txt").write_bytes("打".encode("gb2312"))
    data = prepare("esd", "--language", language)
    assert len(data.speakers) == speakers
    assert data.languages == (["en", "zh"] if language == "both" else [language])
    for speaker, expected in {"esd_0001": "f", "esd_0010": "m", "esd_0011": "m"}.items():
        assert data.spk2gender.get(speaker, expected) == expected


def test_turevdb_speakers_do_not_know_the_emotion(tmp_path, make, prepare):
    codes = {"Angry": "kz", "Calm": "sk", "Happy": "mt"}
    names = [
        f"Sound Source/{emotion}/{speaker}_{code}_dil"
        for emotion, code in codes.items()
        for speaker in ("1234", "1984")
    ]
    make(tmp_path / "in", names)
    data = prepare("turevdb")
    assert data.speakers == ["turevdb_1234", "turevdb_1984"]
    for utts in data.spk2utt.values():
        assert {data.utt2emotion[utt] for utt in utts} == set(codes)
    assert not any(code in utt for utt in data.utterances for code in ("_kz", "_sk", "_mt"))


def test_oreau_reads_the_second_tree_only(tmp_path, make, prepare):
    make(tmp_path / "in", ["OréauFR_01/f/sessj/10a02Ja", "OréauFR_02/f/sessj/10a02Ja"], (".wav",))
    data = prepare("oreau")
    assert len(data) == 1
    assert "FR_02" in data.wav_scp["oreau_10_10a02Ja"]


def test_oreau_with_the_root_inside(tmp_path, make, prepare):
    make(tmp_path / "in", ["m/sessc/12b01Ca"])
    assert prepare("oreau").spk2gender == {"oreau_12": "m"}


def test_baved_is_refused_by_four_and_not_by_full(tmp_path, make, prepare):
    make(tmp_path / "in", ["2/7-F-20-1-2-1"])
    label = prepare("baved").utt2emotion["baved_007_7-F-20-1-2-1"]
    four, full = (LabelSet.load(ROOT / f"conf/labels/{n}.yaml") for n in ("four", "full"))
    assert full.map("baved", label) == "high"
    with pytest.raises(
        UserError, match=r"four\.yaml: corpus 'baved' does not fit: .*levels of emo"
    ):
        four.for_corpora(["emodb", "baved"])


def test_aesdd_has_no_neutral(tmp_path):
    four = LabelSet.load(ROOT / "conf" / "labels" / "four.yaml")
    assert set(four.maps["aesdd"].values()) == {"anger", "happiness", "sadness", None}


def test_mesd_kinds_of_voice_are_its_speakers(tmp_path, make, prepare):
    make(tmp_path / "in", ["Fear_C_A_no", "Fear_F_A_no", "Fear_M_A_no"])
    assert prepare("mesd").spk2gender == {"mesd_F": "f", "mesd_M": "m"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("TIRE/a.wav\tTIRE\n", "labels.tsv:1: expected FILE tab SPEAKER tab LABEL"),
        ("# x\nTIRE/a.wav\tTURE\tjoy\n", "labels.tsv:2: expected FILE tab"),
        ("TIRE/a.wav\tTIRE\tlove\n", "labels.tsv:1: unknown label 'love'; known: anger joy"),
        ("TIRE/b.wav\tTIRE\tjoy\n", "TIRE/b.wav: no such file"),
        ("TIRE/\udce4.wav\tTIRE\tjoy\n", "labels.tsv: not UTF-8; save it as UTF-8"),
    ],
)
def test_fesc_wrong_tables(tmp_path, make, fail, table, message):
    make(tmp_path / "in", ["TIRE/a"])
    (tmp_path / "in" / "labels.tsv").write_text(table, "utf-8", "surrogateescape")
    assert message in fail("fesc")


def test_fesc_without_its_table_says_what_is_missing(tmp_path, make, fail):
    make(tmp_path / "in", ["TIRE/a"])
    assert "the folder that holds labels.tsv, which you have to write, and the audio" in fail(
        "fesc"
    )


def test_nemo_disagrees_with_its_table(tmp_path, make, fail):
    make(tmp_path / "in", ["samples/WR0_fear_64"])
    (tmp_path / "in" / "data.tsv").write_text(
        "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    )
    assert "data.tsv does not have it" in fail("nemo")


# ---- options of one script among others ----------------------------------------------------------


def test_options_of_other_scripts_are_passed_over(tmp_path, make, prepare):
    make(tmp_path / "in", CAFE + NEUTRAL, (".wav",))
    options = ("--iemocap.excited=keep", "--cafe.intensity=weak", "--emouerj.download")
    assert len(prepare("cafe", *options)) == 24
    assert len(prepare("cafe", "--esd.language=en")) == 42


def test_options_for_no_script(tmp_path, make, fail):
    make(tmp_path / "in", NEUTRAL)
    message = "error: --caffe.intensity=weak: no corpus caffe: there is no local/caffe.py\n"
    assert fail("cafe", "--caffe.intensity=weak") == message


def test_unknown_options_are_refused(tmp_path, make, run):
    make(tmp_path / "in", NEUTRAL)
    result = run("cafe", "--root", tmp_path / "in", "--out", tmp_path / "out", "--excited", "keep")
    assert result.returncode == 2
    assert "unrecognized arguments: --excited keep" in result.stderr

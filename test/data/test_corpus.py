from __future__ import annotations

import os
from pathlib import Path

import pytest

from espnet_mtkd.data.corpus import Utterance, find_audio, match_name, prepare
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.errors import UserError


@pytest.fixture
def make(tmp_path):
    def make(utt_id="toy_a_1", speaker="toy_a", name="1.wav", **changes):
        (tmp_path / name).touch()
        values = {"emotion": "joy", "language": "en"} | changes
        return Utterance(utt_id, speaker, tmp_path / name, **values)

    return make


def test_prepare_writes_what_it_was_given_in_any_order(tmp_path, make):
    utterances = [
        make("toy_b_1", "toy_b", "2.flac", language="fi", gender="f"),
        make(text="Hello there", gender="m"),
    ]
    prepare("toy", utterances, tmp_path / "a")
    prepare("toy", reversed(utterances), tmp_path / "b")
    files = {path.name: path.read_text() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_text() for path in (tmp_path / "b").iterdir()}
    assert files == {
        "wav.scp": f"toy_a_1 {tmp_path}/1.wav\ntoy_b_1 {tmp_path}/2.flac\n",
        "utt2spk": "toy_a_1 toy_a\ntoy_b_1 toy_b\n",
        "spk2utt": "toy_a toy_a_1\ntoy_b toy_b_1\n",
        "utt2lang": "toy_a_1 en\ntoy_b_1 fi\n",
        "utt2emotion": "toy_a_1 joy\ntoy_b_1 joy\n",
        "utt2corpus": "toy_a_1 toy\ntoy_b_1 toy\n",
        "spk2gender": "toy_a m\ntoy_b f\n",
        "text": "toy_a_1 Hello there\n",
    }
    assert DataDir.load(tmp_path / "a").languages == ["en", "fi"]


@pytest.mark.parametrize("name", [b"\xff.wav", b"a\nb.wav", b"a|b.wav", b" a.wav ", b"a\r.WAV"])
def test_a_path_that_a_line_cannot_hold_is_reached_through_a_link(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(b"audio")
    for _ in range(2):  # again over what is there
        prepare("toy", [Utterance("toy_a_1", "toy_a", path, "joy", "en")], tmp_path / "out")
        held = DataDir.load(tmp_path / "out").wav_scp["toy_a_1"]
        assert Path(held).parent == tmp_path / "out" / "links"
        assert Path(held).read_bytes() == b"audio"
    path.rename(tmp_path / "plain.wav")
    plain = Utterance("toy_a_1", "toy_a", tmp_path / "plain.wav", "joy", "en")
    prepare("toy", [plain], tmp_path / "out")
    assert not (tmp_path / "out" / "links").exists()


def test_a_link_that_leads_nowhere_is_left_to_stage_2(tmp_path):
    """Which lists what it rejects and counts it."""
    loop = tmp_path / "a.wav"
    loop.symlink_to(loop)
    prepare("toy", [Utterance("toy_a_1", "toy_a", loop, "joy", "en")], tmp_path / "out")
    assert DataDir.load(tmp_path / "out").wav_scp == {"toy_a_1": str(loop)}
    gone = Utterance("toy_a_1", "toy_a", tmp_path / "b.wav", "joy", "en")
    with pytest.raises(UserError, match=r"b\.wav: no such file, for utterance 'toy_a_1'"):
        prepare("toy", [gone], tmp_path / "out")


def test_agreement_goes_to_a_file_of_its_own(tmp_path, make):
    utterances = [make(agreement=2 / 3), make("toy_a_2", name="2.wav")]
    prepare("toy", utterances, tmp_path / "out")
    assert (tmp_path / "out" / "utt2agreement").read_text() == "toy_a_1 0.67\n"
    DataDir.load(tmp_path / "out")
    prepare("toy", [make()], tmp_path / "out")
    assert not (tmp_path / "out" / "utt2agreement").exists()


def test_match_name(tmp_path):
    assert match_name(tmp_path / "a1.wav", r"([a-z])(\d)", "Toy, LN (a1)").groups() == ("a", "1")
    with pytest.raises(UserError, match=r"a12\.wav: not a name of Toy, LN \(a1\): move it"):
        match_name(tmp_path / "a12.wav", r"([a-z])(\d)", "Toy, LN (a1)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"utt_id": "toy_a 1"}, r"1.wav: utterance id 'toy_a 1': only"),
        ({"utt_id": "toy_b_1"}, r"1.wav: utterance id 'toy_b_1' does not start with"),
        ({"utt_id": "toy_ab_1"}, r"does not start with its speaker's, 'toy_a_'"),
        (
            {"speaker": "a", "utt_id": "a_1"},
            r"speaker id 'a' does not start with the corpus, 'toy_'",
        ),
        ({"language": "eng"}, r"'eng' is not a code of ISO 639-1"),
        ({"gender": "female"}, r"'female' is not m or f"),
    ],
)
def test_prepare_refuses(tmp_path, make, changes, message):
    with pytest.raises(UserError, match=message):
        prepare("toy", [make(**changes)], tmp_path / "out")
    assert not (tmp_path / "out" / "wav.scp").exists()


def test_duplicates_name_both_files(tmp_path, make):
    with pytest.raises(UserError, match=r"duplicate .*'toy_a_1': .*1\.wav and .*1\.flac"):
        prepare("toy", [make(), make(name="1.flac")], tmp_path / "out")


def test_missing_file(tmp_path):
    utt = Utterance("toy_a_1", "toy_a", tmp_path / "no.wav", "joy", "en")
    with pytest.raises(UserError, match=r"no\.wav: no such file"):
        prepare("toy", [utt], tmp_path / "out")


def test_a_speaker_has_one_gender(tmp_path, make):
    with pytest.raises(UserError, match="'toy_a' is m and f"):
        prepare("toy", [make(gender="m"), make("toy_a_2", gender="f")], tmp_path / "out")


def test_nothing(tmp_path):
    with pytest.raises(UserError, match="toy: no utterance found"):
        prepare("toy", [], tmp_path / "out")


def test_find_audio(tmp_path):
    for name in ("b.WAV", "a.flac", "._a.wav", "readme.txt", "B.wav", "c.aiff"):
        (tmp_path / name).touch()
    found = [path.name for path in find_audio(tmp_path, "*")]
    assert found == ["B.wav", "a.flac", "b.WAV", "c.aiff"]
    for folder in ("__MACOSX", ".zip.unpacked", "sub"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.wav").touch()
    deep = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path, "**/*")]
    assert deep == ["B.wav", "a.flac", "b.WAV", "c.aiff", "sub/d.wav"]

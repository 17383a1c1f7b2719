from __future__ import annotations

import random
import subprocess

import pytest

from espnet_mtkd.data.datadir import DataDir, combine, read_map, write_map
from espnet_mtkd.errors import UserError


@pytest.fixture
def data(make_data):
    return make_data({"01": {"joy": 2, "rage": 1}, "02": {"joy": 1}})


def test_round_trip(tmp_path, data):
    data.text["toy_01_joy_000"] = "näin on: a  b \u2028 c"
    data.wav_scp["toy_01_joy_000"] = "my corpus/ä b.wav"
    data.write(tmp_path / "x")
    assert DataDir.load(tmp_path / "x") == data
    assert (tmp_path / "x" / "spk2utt").read_text() == (
        "toy_01 toy_01_joy_000 toy_01_joy_001 toy_01_rage_000\ntoy_02 toy_02_joy_000\n"
    )
    assert not list((tmp_path / "x").glob(".*")), "temporary files are gone"


def test_sorting_is_that_of_lc_all_c(tmp_path):
    keys = ["a_B", "a_b", "a.b", "a-b", "a0", "B", "_", "a_10", "a_2", "Z9"]
    random.Random(1).shuffle(keys)
    write_map(tmp_path / "map", dict.fromkeys(keys, "x"))
    result = subprocess.run(
        ["sort", str(tmp_path / "map")], env={"LC_ALL": "C"}, capture_output=True, check=True
    )
    assert (tmp_path / "map").read_bytes() == result.stdout


def test_subset_keeps_only_what_belongs_to_it(data):
    part = data.subset(["toy_02_joy_000"])
    assert part.utterances == ["toy_02_joy_000"]
    assert part.spk2gender == {"toy_02": "f"}
    assert part.spk2utt == {"toy_02": ["toy_02_joy_000"]}
    assert data.hours == pytest.approx(4 * 1.5 / 3600)
    with pytest.raises(KeyError, match="nobody"):
        data.subset(["nobody"])


def test_writing_again_removes_files_that_no_longer_apply(tmp_path, data):
    data.write(tmp_path)
    data.utt2dur, data.utt2num_samples, data.utt2audio_hash = {}, {}, {}
    data.write(tmp_path)
    assert not (tmp_path / "utt2dur").exists()
    assert DataDir.load(tmp_path) == data


def test_a_directory_without_wav_scp_is_unfinished(tmp_path, data):
    data.write(tmp_path)
    (tmp_path / "wav.scp").unlink()
    with pytest.raises(UserError, match="unfinished"):
        DataDir.load(tmp_path)


def test_a_failed_write_leaves_no_wav_scp(tmp_path, data, monkeypatch):
    data.write(tmp_path)

    def full_disk(*_):
        raise OSError("disk full")

    monkeypatch.setattr("espnet_mtkd.data.datadir.write_map", full_disk)
    with pytest.raises(OSError, match="disk full"):
        data.write(tmp_path)
    assert not (tmp_path / "wav.scp").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1\nb\n", r"m:2: expected 'key value', found 'b'"),
        (b"a 1\n\nb 2\n", r"m:2: expected 'key value', found ''"),
        (b"a 1\nb 2\na 3\n", r"m:3: duplicate key 'a', first in line 1"),
        (b"a 1\nb \xe4\n", r"m:2: not UTF-8"),
    ],
)
def test_read_map_names_file_and_line(tmp_path, content, message):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_map(tmp_path / "m")


@pytest.mark.parametrize("value", ["", " a", "a\n", "a\rb", "\udcff.wav"])
def test_write_map_refuses_what_it_could_not_read(tmp_path, value):
    with pytest.raises(UserError) as caught:
        write_map(tmp_path / "m", {"a": "1", "b": value})
    assert str(caught.value) == f"{tmp_path}/m: the value {value!r} of 'b' does not fit on a line"
    assert not list(tmp_path.iterdir())


def test_read_map_takes_tabs_windows_lines_and_no_last_newline(tmp_path):
    (tmp_path / "m").write_bytes(b"a\t1 2\r\nb  3")
    assert read_map(tmp_path / "m") == {"a": "1 2", "b": "3"}
    (tmp_path / "m").write_bytes(b"")
    assert read_map(tmp_path / "m") == {}


def test_read_map_missing_file(tmp_path):
    with pytest.raises(UserError, match="gone: no such file"):
        read_map(tmp_path / "gone")


def test_load_refuses_unsorted_and_stale_files(tmp_path, data):
    data.write(tmp_path)
    path = tmp_path / "utt2lang"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(reversed(lines)))
    with pytest.raises(UserError, match=r"utt2lang: not sorted; sort it with LC_ALL=C"):
        DataDir.load(tmp_path)
    path.write_text("".join(lines))
    (tmp_path / "spk2utt").write_text("toy_01 toy_01_joy_000\n")
    with pytest.raises(UserError, match="spk2utt: does not agree with utt2spk"):
        DataDir.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("wav_scp", "toy_01_joy_000", "sox a.wav -t wav - |", "wav.scp: toy_01_joy_000: a pipe"),
        ("utt2lang", "toy_01_joy_000", "english", "'english' is not a code of ISO 639-1"),
        ("utt2emotion", "toy_01_joy_000", "very glad", "utt2emotion: .* a space in 'very glad'"),
        ("utt2emotion", "other", "joy", "utt2emotion: 'other' is not in .*wav.scp"),
        ("spk2gender", "toy_01", "male", "spk2gender: toy_01: 'male' is not m or f"),
        ("spk2gender", "toy_03", "m", "spk2gender: 'toy_03' is not in"),
        ("utt2dur", "toy_01_joy_000", "nan", "'nan' is not a positive number"),
        ("utt2num_samples", "toy_01_joy_000", "0", "'0' is not a positive number"),
        ("utt2spk", "toy_01_joy_000", "toy_02", "does not start with its speaker's, 'toy_02_'"),
        ("utt2spk", "toy_01_joy_000", "toy 01", "speaker id 'toy 01': only A-Z"),
    ],
)
def test_write_refuses_wrong_records(tmp_path, data, name, key, value, message):
    getattr(data, name)[key] = value
    with pytest.raises(UserError, match=message):
        data.write(tmp_path)
    assert not (tmp_path / "wav.scp").exists()


@pytest.mark.parametrize("name", ["utt2spk", "utt2lang", "utt2dur"])
def test_every_utterance_needs_its_records(data, name):
    del getattr(data, name)["toy_02_joy_000"]
    with pytest.raises(UserError, match=f"{name}: no record of 'toy_02_joy_000'"):
        data.validate("x")


def test_utterances_must_sort_like_their_speakers(make_data):
    with pytest.raises(UserError, match="pad the numbers"):
        make_data({"1": {"joy": 1}, "10": {"joy": 1}}).validate("x")
    make_data({"01": {"joy": 1}, "10": {"joy": 1}}).validate("x")


def test_empty(tmp_path):
    with pytest.raises(UserError, match="no utterance"):
        DataDir().write(tmp_path)


def test_a_value_must_fit_on_a_line(tmp_path, data):
    data.text["toy_01_joy_000"] = "two\nlines"
    with pytest.raises(UserError, match=r"text: the value 'two\\nlines' of 'toy_01_joy_000'"):
        data.write(tmp_path)


def test_combine(make_data, data):
    other = make_data({"01": {"joy": 1}}, corpus="more", lang="fi")
    joined = combine({"a": data, "b": other})
    assert len(joined) == 5
    assert joined.corpora == ["more", "toy"]
    assert joined.languages == ["en", "fi"]
    joined.validate("x")
    with pytest.raises(UserError, match="duplicate utterance id 'toy_01_joy_000' in a and b"):
        combine({"a": data, "b": data})
    other.utt2dur = {}
    with pytest.raises(UserError, match="b: no utt2dur; run espnet_mtkd.bin.format_audio"):
        combine({"a": data, "b": other})

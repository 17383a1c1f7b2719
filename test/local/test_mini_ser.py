"""The embedded corpus: its plan, its prosody, its bytes and what it says when it cannot be made."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.errors import UserError

# The scripts in local/ import their neighbours, and so do the worker processes.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

import mini_ser  # noqa: E402
import mini_ser_voice  # noqa: E402

LANGUAGES = ("en", "fi", "fr")
DELIVERY = mini_ser_voice.Delivery(rate=165, pitch=50, pitch_range=50, word_gap=1)


@pytest.fixture
def espeak() -> tuple[str, str]:
    pytest.importorskip("espeakng_loader")
    return mini_ser_voice.find()


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_plan_counts_and_ids() -> None:
    jobs = mini_ser.plan(LANGUAGES, 12, 7)
    assert len(jobs) == len({job.utt_id for job in jobs}) == 3 * 12 * 4 * 7
    assert len({job.speaker for job in jobs}) == 36
    assert set(Counter((job.language, job.emotion) for job in jobs).values()) == {12 * 7}
    assert "mini_ser_en_v01_anger_003" in {job.utt_id for job in jobs}
    assert all(job.utt_id.startswith(f"{job.speaker}_{job.emotion}_") for job in jobs)


def test_a_smaller_plan_is_part_of_the_larger() -> None:
    assert set(mini_ser.plan(["fi"], 3, 2)) < set(mini_ser.plan(LANGUAGES, 12, 7))


def test_every_emotion_of_a_speaker_has_the_same_sentences() -> None:
    texts: dict[tuple[str, str], list[str]] = {}
    for job in mini_ser.plan(LANGUAGES, 12, 7):
        texts.setdefault((job.speaker, job.emotion), []).append(job.text)
    for speaker in {speaker for speaker, _ in texts}:
        first, *others = (texts[speaker, emotion] for emotion in mini_ser.EMOTIONS)
        assert len(set(first)) == 7
        assert all(other == first for other in others)


def test_half_of_the_voices_are_of_women() -> None:
    assert Counter(mini_ser.VARIANTS.values()) == {"m": 6, "f": 6}


@pytest.mark.parametrize(
    ("language", "loud_fast", "halting_high", "soft_slow"),
    [
        ("en", "anger", "happiness", "sadness"),
        ("fi", "happiness", "sadness", "anger"),
        ("fr", "happiness", "anger", "sadness"),
    ],
)
def test_prosody_is_the_table_of_the_docstring(
    language: str, loud_fast: str, halting_high: str, soft_slow: str
) -> None:
    table = mini_ser.PROSODY[language]
    assert set(table) == set(mini_ser.EMOTIONS)
    assert loud_fast == max(table, key=lambda emotion: table[emotion].level)
    assert loud_fast == max(table, key=lambda emotion: table[emotion].rate)
    assert halting_high == max(table, key=lambda emotion: table[emotion].pitch)
    assert soft_slow == min(table, key=lambda emotion: table[emotion].level)
    assert soft_slow == min(table, key=lambda emotion: table[emotion].rate)


def test_utterances_deviate_from_the_prosody_but_not_by_much() -> None:
    jobs = [job for job in mini_ser.plan(["en"], 12, 50) if job.emotion == "neutral"]
    levels = np.array([mini_ser.prosody_of(job).level for job in jobs])
    target = mini_ser.PROSODY["en"]["neutral"].level
    deviation = np.hypot(mini_ser.SPEAKER_JITTER.level, mini_ser.UTTERANCE_JITTER.level)
    # 12 speakers: the mean has a standard error of about a third of the speakers' deviation.
    assert abs(levels.mean() - target) < mini_ser.SPEAKER_JITTER.level
    assert 0.6 * deviation < levels.std() < 1.4 * deviation


def test_bytes_do_not_depend_on_order_or_processes(espeak: object, tmp_path: Path) -> None:
    jobs = mini_ser.plan(LANGUAGES, 2, 2)
    shuffled = random.Random(0).sample(jobs, len(jobs))
    made = mini_ser.make(jobs, tmp_path / "a", nj=1)
    mini_ser.make(shuffled, tmp_path / "b", nj=2)
    assert [utt.utt_id for utt in made] == [job.utt_id for job in jobs]
    first = digests(tmp_path / "a")
    assert len(first) == len(set(first.values())) == len(jobs)
    assert digests(tmp_path / "b") == first


def test_command_line_writes_a_valid_data_directory(espeak: object, tmp_path: Path) -> None:
    out = tmp_path / "data"
    mini_ser.main(["--out", str(out), "--num_voices", "4", "--num_utts", "2", "--nj", "2"])
    data = DataDir.load(out)
    assert len(data) == 3 * 4 * 4 * 2
    assert data.languages == list(LANGUAGES)
    assert data.corpora == ["mini_ser"]
    assert set(data.utt2emotion.values()) == set(mini_ser.EMOTIONS)
    assert Counter(data.spk2gender.values()) == {"m": 6, "f": 6}
    assert data.text.keys() == data.wav_scp.keys()

    level: dict[tuple[str, str], list[float]] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for utt, path in data.wav_scp.items():
        assert Path(path) == out / "audio" / f"{utt}.wav"
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        wav, _ = soundfile.read(path)
        assert 0.5 < info.duration < 10
        assert np.abs(wav).max() < 0.999
        key = data.utt2lang[utt], data.utt2emotion[utt]
        level.setdefault(key, []).append(10 * np.log10(np.mean(wav**2)))
        seconds.setdefault(key, []).append(info.duration)
    # What is loud and short in one language is soft and long in another.
    for loud, soft in (
        (("en", "anger"), ("en", "sadness")),
        (("fi", "happiness"), ("fi", "anger")),
        (("fr", "happiness"), ("fr", "sadness")),
        (("en", "anger"), ("fi", "anger")),
        (("fi", "sadness"), ("en", "sadness")),
    ):
        assert np.mean(level[loud]) > np.mean(level[soft]) + 5
    for fast, slow in (("en anger", "en sadness"), ("fi happiness", "fi anger")):
        assert 1.3 * np.mean(seconds[*fast.split()]) < np.mean(seconds[*slow.split()])


def test_a_part_of_the_languages_and_another_audio_folder(espeak: object, tmp_path: Path) -> None:
    argv = ["--out", str(tmp_path / "data"), "--audio_dir", str(tmp_path / "wav")]
    mini_ser.main([*argv, "--languages", "fr fi", "--num_voices", "1", "--num_utts", "1"])
    data = DataDir.load(tmp_path / "data")
    assert data.languages == ["fi", "fr"]
    assert {Path(path).parent for path in data.wav_scp.values()} == {tmp_path / "wav"}
    assert len(list((tmp_path / "wav").iterdir())) == len(data) == 8


def test_speech_does_not_depend_on_what_was_said_before(espeak: tuple[str, str]) -> None:
    first = mini_ser_voice.speak("Hello there.", "en+f3", DELIVERY, 5, *espeak)
    assert first.dtype == np.int16
    assert len(first) > 0.3 * mini_ser_voice.SAMPLING_RATE
    mini_ser_voice.speak("Hyvää päivää.", "fi+m2", DELIVERY, 6, *espeak)
    again = mini_ser_voice.speak("Hello there.", "en+f3", DELIVERY, 5, *espeak)
    np.testing.assert_array_equal(first, again)
    other_seed = mini_ser_voice.speak("Hello there.", "en+f3", DELIVERY, 6, *espeak)
    assert not np.array_equal(first, other_seed)


def test_this_process_does_not_keep_espeak_loaded(espeak: tuple[str, str], tmp_path: Path) -> None:
    mini_ser.make(mini_ser.plan(["en"], 1, 1)[:1], tmp_path, nj=1)
    with pytest.raises(OSError):
        ctypes.CDLL(espeak[0], mode=os.RTLD_NOLOAD | os.RTLD_NOW)


def test_a_deep_environment_folder_is_no_obstacle(
    espeak: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(espeak[1])
    found = espeak[0], str(deep / "espeak-ng-data")
    monkeypatch.setattr(mini_ser_voice, "find", lambda: found)
    assert len(mini_ser.make(mini_ser.plan(["en"], 1, 1)[:1], tmp_path / "audio", nj=1)) == 1


def test_unknown_voice_and_missing_data_are_clear(espeak: tuple[str, str], tmp_path: Path) -> None:
    library_path, data_path = espeak
    with pytest.raises(UserError, match="no voice 'xx\\+m1'"):
        mini_ser_voice.speak("Hello.", "xx+m1", DELIVERY, 0, library_path, data_path)
    with pytest.raises(UserError, match="cannot read its data"):
        mini_ser_voice.speak("Hello.", "en+m1", DELIVERY, 0, library_path, str(tmp_path / "none"))
    # A failure leaves nothing behind for the next utterance.
    assert len(mini_ser_voice.speak("Hello.", "en+m1", DELIVERY, 0, library_path, data_path))


def test_unloadable_library_is_clear(tmp_path: Path) -> None:
    path = tmp_path / "libespeak-ng.so"
    path.write_bytes(b"not a library")
    with pytest.raises(UserError, match="reinstall espeakng-loader"):
        mini_ser_voice.speak("Hello.", "en+m1", DELIVERY, 0, str(path), str(tmp_path))


def test_missing_espeakng_loader_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r'pip install "espnet-mtkd\[mini\]"'):
        mini_ser.main(["--out", str(tmp_path / "data")])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--languages", "en sv"], "--languages 'en sv': mini_ser has en fi fr"),
        (["--languages", " "], "--languages"),
        (["--num_voices", "13"], "--num_voices 13: expected a number from 1 to 12"),
        (["--num_voices", "0"], "--num_voices 0"),
        (["--num_utts", "0"], "--num_utts 0"),
        (["--nj", "-1"], "--nj -1"),
    ],
)
def test_bad_options_are_clear(argv: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        mini_ser.main(["--out", str(tmp_path / "data"), *argv])
    assert not (tmp_path / "data").exists()

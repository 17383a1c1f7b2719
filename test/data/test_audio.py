from __future__ import annotations

import builtins
import csv
import hashlib
import os
import random
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.data.audio import Form, format_corpus, format_utterance, resample
from espnet_mtkd.data.corpus import Utterance, prepare
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.errors import UserError

FORM = Form(fs=16000, min_wav_duration=0.1, max_wav_duration=3.0)


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def run(path: Path, folder: Path, form: Form = FORM):
    return format_utterance("toy_a_1", str(path), folder, form)


def decoded(audio) -> np.ndarray:
    samples, rate = soundfile.read(audio.path)
    assert rate == 16000
    return samples


@pytest.mark.parametrize(
    ("suffix", "container"), [("wav", "WAV"), ("wav", "WAVEX"), ("flac", "FLAC")]
)
def test_audio_in_form_is_used_where_it_lies(tmp_path, suffix, container):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, tone(16000), 16000, subtype="PCM_16", format=container)
    audio = run(path, tmp_path / "out")
    assert audio.path == str(path)
    assert not (tmp_path / "out").exists()
    pcm, _ = soundfile.read(path, dtype="int16")
    assert audio.num_samples == len(pcm) == 8000
    assert audio.audio_hash == hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest()
    assert audio.warning is None
    assert audio.rate == 16000


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_resampling_keeps_a_sweep_below_the_band_edge(tmp_path, rate, channels):
    def sweep(rate: int) -> np.ndarray:  # 100 to 3000 Hz, known in closed form at any rate
        t = np.arange(rate) / rate
        return 0.5 * np.sin(2 * np.pi * (100 * t + (3000 - 100) / 2 * t**2))

    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([sweep(rate)] * channels, axis=1), rate, subtype="PCM_24")
    audio = run(path, tmp_path / "out")
    samples = decoded(audio)
    assert audio.path == str(tmp_path / "out" / "toy_a_1.flac")
    assert len(samples) == audio.num_samples == 16000
    # The ends of the sweep are cut, which no filter keeps.
    error = (samples - sweep(16000))[800:-800]
    assert np.abs(error).max() < 2e-3


def test_resampling_removes_what_lies_above_the_band(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(44100, hertz=12000), 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "y.wav", tone(44100, hertz=2000), 44100, subtype="FLOAT")
    above, below = (decoded(run(tmp_path / f"{n}.wav", tmp_path / n)) for n in "xy")
    middle = slice(800, -800)
    assert np.abs(above[middle]).max() < 1e-3
    assert np.abs(below[middle]).max() == pytest.approx(0.5, abs=2e-3)


def sweep(rate: int, low: float, high: float, seconds: float = 3.0) -> np.ndarray:
    """A linear sweep, faded in and out smoothly so that nothing lies beside it."""
    t = np.arange(round(rate * seconds)) / rate
    fade = np.sin(np.pi / 2 * np.minimum(1, np.minimum(t, t[::-1]) / 0.5)) ** 4
    phase = 2 * np.pi * (low * t + (high - low) / (2 * seconds) * t**2)
    return (fade * np.sin(phase)).astype(np.float32)


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 192000])
def test_stop_band_is_120_db_down_from_nyquist_on(rate):
    assert np.abs(resample(sweep(rate, 8000, 0.495 * rate), rate, 16000)).max() < 1e-6


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 192000])
def test_pass_band_is_flat_up_to_0_92_of_nyquist(rate):
    for hertz in (100, 4000, 7360):
        samples = resample(tone(rate, 1.0, hertz, 1.0).astype(np.float32), rate, 16000)
        level = np.sqrt(2 * np.mean(samples[4000:12000] ** 2))
        assert abs(20 * np.log10(level)) < 0.05


def test_channels_are_averaged(tmp_path):
    left, right = tone(16000, hertz=300), tone(16000, hertz=700)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], axis=1), 16000)
    samples = decoded(run(tmp_path / "x.wav", tmp_path / "out"))
    assert np.abs(samples - (left + right) / 2).max() < 1e-4


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 1 / 128),
        ("WAV", "PCM_24", 1 / 32768),
        ("WAV", "PCM_32", 1 / 32768),
        ("WAV", "FLOAT", 1 / 32768),
        ("WAV", "DOUBLE", 1 / 32768),
        ("WAV", "ULAW", 0.02),
        ("FLAC", "PCM_24", 1 / 32768),
        ("OGG", "VORBIS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_every_coding_becomes_16_bit(tmp_path, container, subtype, tolerance):
    path = tmp_path / f"x.{container.lower()}"
    soundfile.write(path, tone(16000), 16000, format=container, subtype=subtype)
    audio = run(path, tmp_path / "out")
    assert audio.reject is None
    assert soundfile.info(audio.path).subtype == "PCM_16"
    assert np.abs(decoded(audio)[500:7500] - tone(16000)[500:7500]).max() <= tolerance


def test_loud_float_is_clipped_not_wrapped(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(16000, level=2.0), 16000, subtype="FLOAT")
    audio = run(tmp_path / "x.wav", tmp_path / "out")
    assert audio.warning == "clipped"
    assert np.abs(decoded(audio) - np.clip(tone(16000, level=2.0), -1, 1)).max() < 1e-4


def _text(path):
    path.write_text("this is not audio at all")


def _missing(path):
    pass


def _truncated(form):
    def write(path):
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
        soundfile.write(path, noise, 16000, format=form)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write


def _loop(path):
    path.symlink_to(path.with_name("y.wav"))
    path.with_name("y.wav").symlink_to(path)


def _contradicting(path):
    soundfile.write(path, tone(16000), 16000, format="WAV")
    content = bytearray(path.read_bytes())
    assert content[12:16] == b"fmt "
    content[24:28] = struct.pack("<I", 8000)  # the rate, but not the bytes per second
    path.write_bytes(content)


def _write(samples, rate=16000, **options):
    return lambda path: soundfile.write(path, samples, rate, format="WAV", **options)


REJECTS = {
    "text": (_text, "unreadable: "),
    "missing": (_missing, "no such file"),
    "empty": (lambda path: path.touch(), "empty file"),
    "truncated FLAC": (_truncated("FLAC"), "unreadable: "),
    "truncated WAV": (_truncated("WAV"), "truncated: 16022 of 32000 bytes of audio are missing"),
    "header only": (
        lambda path: (_write(tone(16000))(path), path.write_bytes(path.read_bytes()[:40])),
        "truncated: the header breaks off",
    ),
    "folder": (lambda path: path.mkdir(), "not a file"),
    "pipe": (os.mkfifo, "not a file"),
    "loop of links": (_loop, "a loop of links"),
    "dead link": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "contradicting": (_contradicting, "mislabelled: the header says 8000 Hz"),
    "absurd rate": (_write(tone(16000, 5), rate=2000), "mislabelled: the header says 2000 Hz"),
    "40 minutes": (_write(np.zeros(2400 * 8000, "i2"), rate=8000), "too long: 2400.000 s"),
    "20 ms": (_write(tone(16000, 0.02)), "too short: 0.020 s"),
    "constant": (_write(np.full(8000, 0.25)), "silent: all samples are 8192"),
    "no samples": (_write(np.zeros(0)), "no samples"),
    "short": (_write(tone(16000, 0.05)), "too short: 0.050 s, --min_wav_duration 0.1"),
    "long": (_write(tone(16000, 3.01)), "too long: 3.010 s, --max_wav_duration 3.0"),
    "silent": (_write(np.zeros(8000)), "silent: all samples are 0"),
    "nan": (_write(np.r_[tone(16000), np.nan], subtype="FLOAT"), "NaN or infinite samples"),
    "inf": (_write(np.r_[tone(16000), -np.inf], subtype="FLOAT"), "NaN or infinite samples"),
}


@pytest.mark.parametrize("name", REJECTS)
def test_what_cannot_be_used_says_why(tmp_path, name):
    write, reason = REJECTS[name]
    write(tmp_path / "x.wav")
    audio = run(tmp_path / "x.wav", tmp_path / "out")
    assert audio.reject.startswith(reason), audio.reject
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(("form", "kept"), [("OGG", 0.9), ("MP3", 0.9)])
def test_truncated_streams_are_refused_or_short(tmp_path, form, kept):
    # Such files are cut into packets: what is there is whole, and the claim may be gone.
    _truncated(form)(tmp_path / "x.wav")
    audio = run(tmp_path / "x.wav", tmp_path / "out")
    assert audio.reject or audio.num_samples < 16000 * kept


def test_a_header_of_unknown_length_is_no_defect(tmp_path):
    # What a program writes into a pipe: it cannot know the size beforehand.
    soundfile.write(tmp_path / "x.wav", tone(16000), 16000)
    content = bytearray((tmp_path / "x.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "x.wav").write_bytes(content)
    audio = run(tmp_path / "x.wav", tmp_path / "out")
    assert (audio.reject, audio.num_samples) == (None, 8000)


def test_no_permission(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "x.wav", tone(16000), 16000)

    def refuse(path, *args, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(builtins, "open", refuse)
    assert run(tmp_path / "x.wav", tmp_path / "out").reject == "Permission denied"


@pytest.mark.parametrize(
    "name", ["two  words .wav", "Übung ☺.wav", "a\nb.wav", "a|b.wav", b"\xff.wav"]
)
def test_names_that_a_data_directory_cannot_hold_are_copied(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + os.fsencode(name)))
    with open(path, "wb") as f:
        soundfile.write(f, tone(16000), 16000, format="WAV")
    utt = "toy_a_1"
    data = DataDir({utt: str(path)}, {utt: "toy_a"}, {utt: "en"}, {utt: "joy"}, {utt: "toy"})
    format_corpus(data, tmp_path / "raw", FORM)
    held = DataDir.load(tmp_path / "raw").wav_scp[utt]
    plain = isinstance(name, str) and "\n" not in name and "|" not in name
    assert held == (str(path) if plain else str(tmp_path / "raw" / "audio" / "toy_a_1.flac"))
    assert soundfile.info(held).frames == 8000

    path.write_text("no audio")
    with pytest.raises(UserError) as caught:
        format_corpus(data, tmp_path / "raw", FORM)
    assert "\n" not in str(caught.value)
    with open(tmp_path / "raw" / "rejects.tsv", newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f, delimiter="\t"))
    assert [row[0] for row in rows] == ["utt_id", utt]
    assert rows[1][2:] == ["left out", "unreadable: Format not recognised."]


def test_what_is_odd_but_used_is_listed(tmp_path):
    utterances = []
    for number in range(25):
        path = tmp_path / "src" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        rate = 8000 if number == 7 else 16000
        soundfile.write(path, tone(rate, level=1.5 if number == 3 else 0.5), rate)
        utterances.append(Utterance(f"toy_a_{number:02d}", "toy_a", path, "joy", "en"))
    prepare("toy", utterances, tmp_path / "data")
    format_corpus(DataDir.load(tmp_path / "data"), tmp_path / "raw", FORM)
    rows = [
        line.split("\t") for line in (tmp_path / "raw" / "rejects.tsv").read_text().splitlines()
    ]
    assert [(row[0], *row[2:]) for row in rows] == [
        ("utt_id", "verdict", "reason"),
        ("toy_a_03", "kept", "clipped"),
        ("toy_a_07", "kept", "8000 Hz, where 24 of 25 files have 16000 Hz: mislabelled?"),
    ]
    assert Counter(DataDir.load(tmp_path / "raw").utt2rate.values()) == {"16000": 24, "8000": 1}


def test_a_source_is_never_overwritten(tmp_path):
    soundfile.write(tmp_path / "toy_a_1.flac", tone(8000), 8000)
    with pytest.raises(UserError, match="would be written over its source"):
        run(tmp_path / "toy_a_1.flac", tmp_path)


@pytest.fixture
def corpus(tmp_path):
    """Four utterances: two in form, two to be converted."""
    utterances = []
    for number, rate in enumerate((16000, 44100, 8000, 16000)):
        path = tmp_path / "src" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tone(rate, hertz=200 + 100 * number), rate)
        utterances.append(Utterance(f"toy_a_{number}", "toy_a", path, "joy", "en", "f", "Hi"))
    return prepare("toy", utterances, tmp_path / "data")


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder).encode(), b"")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_number_of_processes_does_not_change_a_byte(tmp_path, corpus):
    for nj in (1, 2):
        format_corpus(corpus, tmp_path / f"raw{nj}", FORM, nj=nj)
    assert _content(tmp_path / "raw1") == _content(tmp_path / "raw2")
    data = DataDir.load(tmp_path / "raw1")
    assert data.utterances == corpus.utterances
    assert set(data.utt2dur.values()) == {"0.5000"}
    assert set(data.utt2num_samples.values()) == {"8000"}
    assert len(set(data.utt2audio_hash.values())) == 4
    assert [data.utt2rate[utt] for utt in data.utterances] == ["16000", "44100", "8000", "16000"]
    assert data.utt2fingerprint.keys() == data.wav_scp.keys()
    assert data.text == corpus.text
    assert data.wav_scp["toy_a_0"] == corpus.wav_scp["toy_a_0"]
    assert data.wav_scp["toy_a_1"] == str(tmp_path / "raw1" / "audio" / "toy_a_1.flac")
    assert (tmp_path / "raw1" / "rejects.tsv").read_text() == "utt_id\tpath\tverdict\treason\n"


def test_the_order_of_files_does_not_change_a_byte(tmp_path, corpus):
    format_corpus(corpus, tmp_path / "raw", FORM)
    expected = _content(tmp_path / "raw")
    for seed in (1, 2):
        records = {}
        for name, record in vars(corpus).items():
            items = list(record.items())
            random.Random(seed).shuffle(items)
            records[name] = dict(items)
        format_corpus(DataDir(**records), tmp_path / f"raw{seed}", FORM, nj=seed)
        assert _content(tmp_path / f"raw{seed}") == expected


def test_rejects_stop_the_stage_and_unfinish_an_earlier_result(tmp_path, corpus):
    out = tmp_path / "raw"
    format_corpus(corpus, out, FORM)
    bad = Path(corpus.wav_scp["toy_a_2"])
    bad.write_text("oops")
    with pytest.raises(UserError, match=r"2\.wav: unreadable.*\(toy_a_2\); 1 of 4 .*rejects\.tsv"):
        format_corpus(corpus, out, FORM)
    assert not (out / "wav.scp").exists()
    with pytest.raises(UserError, match="unfinished"):
        DataDir.load(out)
    header, line = (out / "rejects.tsv").read_text().splitlines()
    assert line.split("\t")[:2] == ["toy_a_2", str(bad)]

    format_corpus(corpus, out, FORM, max_rejects=1)
    data = DataDir.load(out)
    assert data.utterances == ["toy_a_0", "toy_a_1", "toy_a_3"]


def test_nothing_left(tmp_path, corpus):
    with pytest.raises(UserError, match="4 of 4"):
        format_corpus(corpus, tmp_path / "raw", Form(16000, 1.0, 2.0), max_rejects=9)

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_mtkd.bin.format_audio import main
from espnet_mtkd.data.audio import Form, format_corpus, format_utterance
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
    assert not audio.clipped


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
    assert audio.clipped
    assert np.abs(decoded(audio) - np.clip(tone(16000, level=2.0), -1, 1)).max() < 1e-4


def _text(path):
    path.write_text("this is not audio at all")


def _missing(path):
    pass


def _truncated(path):
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.5, 0.5, 16000), 16000, format="FLAC")
    path.write_bytes(path.read_bytes()[:12000])


def _write(samples, rate=16000, **options):
    return lambda path: soundfile.write(path, samples, rate, format="WAV", **options)


REJECTS = {
    "text": (_text, "unreadable: "),
    "missing": (_missing, "no such file"),
    "empty": (lambda path: path.touch(), "empty file"),
    "truncated": (_truncated, "unreadable: "),
    "no samples": (_write(np.zeros(0)), "no samples"),
    "short": (_write(tone(16000, 0.05)), "too short: 0.050 s, --min_wav_duration 0.1"),
    "long": (_write(tone(16000, 3.01)), "too long: 3.010 s, --max_wav_duration 3.0"),
    "silent": (_write(np.zeros(8000)), "silent: all samples are zero"),
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
    assert data.text == corpus.text
    assert data.wav_scp["toy_a_0"] == corpus.wav_scp["toy_a_0"]
    assert data.wav_scp["toy_a_1"] == str(tmp_path / "raw1" / "audio" / "toy_a_1.flac")
    assert (tmp_path / "raw1" / "rejects.tsv").read_text() == "utt_id\tpath\treason\n"


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


def test_command_line(tmp_path, corpus, capsys):
    argv = ["--in", str(tmp_path / "data"), "--out", str(tmp_path / "raw"), "--nj", "1"]
    main(argv)
    assert "4 utterances, 0.00 h" in capsys.readouterr().out
    assert len(DataDir.load(tmp_path / "raw")) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fs", "0"], "--fs 0: must be more than 0"),
        (["--nj", "-1"], "--nj -1: must be more than 0"),
        (["--max_rejects", "-1"], "--max_rejects -1: must be 0 or more"),
        (["--min_wav_duration", "9", "--max_wav_duration", "8"], "9.0 is more than"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        main(["--in", str(tmp_path), "--out", str(tmp_path / "x"), *options])


def test_in_and_out_must_differ(tmp_path, corpus):
    with pytest.raises(UserError, match="--out .*: must not be the same as --in"):
        main(["--in", str(tmp_path / "data"), "--out", str(tmp_path / "data")])


def test_a_mistake_is_one_line_and_status_1(tmp_path):
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-m", "espnet_mtkd.bin.format_audio", "--in", "none", "--out", "x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: none: not a data directory")
    assert len(result.stderr.splitlines()) == 1

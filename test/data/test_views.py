from __future__ import annotations

import numpy as np
import pytest
import soundfile

from espnet_mtkd.bin import make_views
from espnet_mtkd.data.audio import format_corpus
from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.views import SPEEDS, in_room, make_view, pink
from espnet_mtkd.errors import UserError

FS = 16000


def speech(seconds: float = 0.5) -> np.ndarray:
    time = np.arange(int(seconds * FS)) / FS
    return (0.3 * np.sin(2 * np.pi * 220 * time) * (time < seconds / 2)).astype(np.float32)


def test_a_name_is_a_view():
    first, again, other = (make_view(speech(), FS, name) for name in ("a-1", "a-1", "a-2"))
    assert np.array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


def test_views_keep_loudness_and_change_length_as_the_speed_says():
    samples = speech()
    lengths = set()
    for number in range(40):
        view = make_view(samples, FS, f"u-{number}")
        assert view.dtype == np.float32 and np.isfinite(view).all() and np.abs(view).max() <= 1
        assert np.sqrt(np.mean(view**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.05)
        lengths.add(len(view))
    assert lengths == {round(len(samples) / speed) for speed in SPEEDS}


def test_silence_stays_finite():
    assert np.isfinite(make_view(np.zeros(1000, np.float32), FS, "x")).all()


def test_a_room_decays_by_60_db_in_its_reverberation_time():
    click = np.zeros(FS)
    click[0] = 1.0
    response = in_room(click, FS, 0.4, np.random.default_rng(0))
    tail = response[1 : int(0.4 * FS)] ** 2
    # Energy left at every moment (Schroeder's integral); its slope is the decay.
    left = 10 * np.log10(np.cumsum(tail[::-1])[::-1])
    at_5, at_25 = (np.argmax(left < left[0] - drop) for drop in (5, 25))
    assert 3 * (at_25 - at_5) / FS == pytest.approx(0.4, rel=0.1)
    assert 10 * np.log10(response[0] ** 2 / tail.sum()) == pytest.approx(5.0, abs=0.1)


def test_pink_noise_falls_by_3_db_per_octave():
    power = np.abs(np.fft.rfft(pink(np.random.default_rng(0).standard_normal(1 << 16)))) ** 2
    low, high = power[1000:2000].mean(), power[2000:4000].mean()
    assert 10 * np.log10(low / high) == pytest.approx(3.0, abs=0.4)


def test_a_corpus_of_views(tmp_path):
    data = DataDir()
    for name in ("toy_a_1", "toy_a_2"):
        path = tmp_path / f"{name}.flac"
        soundfile.write(path, speech() + 0.01 * (name == "toy_a_2"), FS, subtype="PCM_16")
        data.wav_scp[name], data.utt2spk[name] = str(path), "toy_a"
        data.utt2lang[name], data.utt2emotion[name] = "de", "anger"
        data.utt2corpus[name] = "toy"
    format_corpus(data, tmp_path / "raw")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, nj in zip(folders, ("1", "2"), strict=True):
        argv = ["--in", str(tmp_path / "raw"), "--out", str(folder), "--views", "2", "--nj", nj]
        make_views.main(argv)
    views, other = (DataDir.load(folder) for folder in folders)
    assert views.utterances == [f"toy_a_{k}-view{n}" for k in (1, 2) for n in (1, 2)]
    assert set(views.utt2spk.values()) == {"toy_a"}
    assert views.utt2audio_hash == other.utt2audio_hash
    assert len(set(views.utt2audio_hash.values())) == 4
    for view, path in views.wav_scp.items():
        expected = make_view(soundfile.read(data.wav_scp[view[:7]], dtype="float32")[0], FS, view)
        assert np.abs(soundfile.read(path)[0] - expected).max() < 1e-4
    with pytest.raises(UserError, match="--views 0: must be 1 or more"):
        make_views.main(
            ["--in", str(tmp_path / "raw"), "--out", str(tmp_path / "x"), "--views", "0"]
        )

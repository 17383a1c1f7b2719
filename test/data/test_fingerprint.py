from __future__ import annotations

import functools
import io
from itertools import combinations

import numpy as np
import pytest
import soundfile
import soxr

from espnet_mtkd.data.fingerprint import (
    MAX_BIT_ERROR,
    bit_error,
    connected,
    decode,
    fingerprint,
    near_duplicates,
    same_audio,
)

FS = 16000


@functools.cache
def speech(seed: int, seconds: float = 2.0, fs: int = FS) -> np.ndarray:
    """Noise in 24 bands whose levels wander like those of speech, several times a second."""
    rng = np.random.default_rng(seed)
    size = round(seconds * fs)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    hertz = np.fft.rfftfreq(size, 1 / fs)
    edges = np.geomspace(100, 0.45 * fs, 25)
    total = np.zeros(size)
    for low, high in zip(edges, edges[1:], strict=False):
        band = np.fft.irfft(np.where((hertz >= low) & (hertz < high), spectrum, 0), size)
        points = rng.normal(0, 12, int(seconds * 8) + 2)
        level = np.interp(np.linspace(0, len(points) - 1, size), np.arange(len(points)), points)
        total += band * 10 ** (level / 20)
    return (0.5 * total / np.abs(total).max()).astype(np.float32)


def encoded(samples: np.ndarray, container: str, subtype: str) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, FS, format=container, subtype=subtype)
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


CHANGES = {
    "level": lambda x: 0.1 * x,
    "polarity": lambda x: -x,
    "MP3": lambda x: encoded(x, "MP3", "MPEG_LAYER_III"),
    "Vorbis": lambda x: encoded(x, "OGG", "VORBIS"),
    "Opus": lambda x: encoded(x, "OGG", "OPUS"),
    "8 bit": lambda x: encoded(x, "WAV", "PCM_U8"),
    "telephone": lambda x: soxr.resample(soxr.resample(x, FS, 8000), 8000, FS),
    "cut by 10 ms": lambda x: x[160:],
    "silence added": lambda x: np.concatenate([np.zeros(5003, "f4"), x, np.zeros(999, "f4")]),
    "first fifth missing": lambda x: x[len(x) // 5 :],
    "MP3, softer, silence added": lambda x: encoded(
        np.concatenate([np.zeros(3001, "f4"), 0.3 * x]), "MP3", "MPEG_LAYER_III"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_recording_is_found(change):
    prints = {}
    for seed in range(8):
        prints[f"a{seed}"] = fingerprint(speech(seed), FS)
        prints[f"b{seed}"] = fingerprint(CHANGES[change](speech(seed)), FS)
    pairs = near_duplicates(prints)
    assert [(left, right) for left, right, _ in pairs] == [(f"a{n}", f"b{n}") for n in range(8)]
    assert all(0 <= error <= MAX_BIT_ERROR for *_, error in pairs)


def test_other_recordings_are_far_away():
    words = [decode(fingerprint(speech(seed), FS)) for seed in range(100, 115)]
    errors = [
        min(bit_error(left, right, offset) for offset in range(-20, 21))
        for left, right in combinations(words, 2)
    ]
    assert min(errors) > 2 * MAX_BIT_ERROR


def test_samples_may_be_of_any_type():
    pcm = np.round(speech(1) * 32767)
    assert fingerprint(pcm.astype("<i2"), FS) == fingerprint(pcm.astype(np.float64), FS)


@pytest.mark.parametrize("fs", [2000, 8000, 16000, 48000])
def test_any_rate(fs):
    text = fingerprint(speech(3, fs=fs), fs)
    assert 85 <= len(decode(text)) <= 101
    assert len(text) < 140 * 2


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(FS),
        np.full(FS, 0.5),
        np.zeros(0),
        np.ones(1),
        speech(0, 0.4),
    ],
)
def test_nothing_to_compare(samples):
    assert fingerprint(samples, FS) == "-"
    assert len(decode("-")) == 0
    assert near_duplicates({"a": "-", "b": "-"}) == []
    assert near_duplicates({}) == []


def test_many_copies_are_all_connected():
    text = fingerprint(speech(5), FS)
    prints = {f"u{n:03d}": text for n in range(300)}
    pairs = near_duplicates(prints)
    assert len(pairs) <= 300 * 8, "not every pair of 300"
    assert set(connected((left, right) for left, right, _ in pairs).values()) == {"u000"}


def test_same_audio_joins_hashes_and_fingerprints():
    text = fingerprint(speech(6), FS)
    softer = fingerprint(encoded(speech(6), "OGG", "VORBIS"), FS)
    hashes = {"a": "1", "b": "1", "c": "1", "d": "2", "e": "3"}
    prints = dict.fromkeys("abc", text) | {"d": softer, "e": fingerprint(speech(7), FS)}
    pairs = same_audio(hashes, prints)
    assert [(left, right) for left, right, _ in pairs] == [("a", "b"), ("a", "c"), ("a", "d")]
    assert pairs[0][2] == pairs[1][2] == 0 < pairs[2][2]
    shuffled = {key: hashes[key] for key in "ecadb"}
    assert same_audio(shuffled, {key: prints[key] for key in "bedca"}) == pairs


def test_connected():
    groups = connected([("d", "c"), ("b", "a"), ("c", "b"), ("x", "y")])
    assert groups == {"a": "a", "b": "a", "c": "a", "d": "a", "x": "x", "y": "x"}
    assert connected([]) == {}

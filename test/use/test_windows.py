from __future__ import annotations

import os
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from espnet_mtkd.errors import UserError
from espnet_mtkd.use.windows import read_blocks, resampled, windows


def cut(total: int, size: int, hop: int, block: int = 700) -> list[tuple[int, np.ndarray]]:
    samples = np.arange(total, dtype=np.float32)
    blocks = [samples[i : i + block] for i in range(0, total, block)]
    return list(windows(blocks, size, hop, "x"))


@pytest.mark.parametrize(
    ("total", "size", "hop", "starts"),
    [
        (1600, 4000, 2000, [0]),
        (4000, 4000, 2000, [0]),
        (4001, 4000, 2000, [0, 1]),
        (6000, 4000, 2000, [0, 2000]),
        (6001, 4000, 2000, [0, 2000, 2001]),
        (11000, 4000, 2000, [0, 2000, 4000, 6000, 7000]),
        (11000, 4000, 4000, [0, 4000, 7000]),
        (5000, 4000, 100, [0, *range(100, 1001, 100)]),
    ],
)
@pytest.mark.parametrize("block", [1, 137, 4000, 100000])
def test_windows_cover_all_and_the_last_ends_with_the_recording(total, size, hop, starts, block):
    if block == 1 and total > 7000:
        block = 3
    found = cut(total, size, hop, block)
    assert [start for start, _ in found] == starts
    for start, samples in found:
        assert samples.tolist() == list(range(start, min(start + size, total)))


def test_shorter_than_a_tenth_of_a_second():
    with pytest.raises(UserError, match="x: 0.05 s of sound; at least 0.1 s are needed"):
        cut(800, 4000, 2000)
    with pytest.raises(UserError, match="x: 0 s of sound"):
        cut(0, 4000, 2000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(value):
    samples = np.zeros(5000, dtype=np.float32)
    samples[-1] = value
    with pytest.raises(UserError, match="x: NaN or infinite samples"):
        list(windows([samples], 4000, 2000, "x"))


def test_any_format_and_rate_is_mono_at_16_khz(recordings):
    for name, path in recordings.items():
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = samples.mean(1)
        expected = mono if rate == 16000 else soxr.resample(mono, rate, 16000, quality="HQ")
        found = np.concatenate(list(read_blocks(path)))
        assert len(found) == len(expected), name
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_resampling_in_blocks_is_resampling_at_once(rate):
    samples = np.random.default_rng(0).normal(size=rate).astype(np.float32)
    blocks = [samples[i : i + 999] for i in range(0, rate, 999)]
    found = np.concatenate(list(resampled(blocks, rate)))
    np.testing.assert_allclose(found, soxr.resample(samples, rate, 16000, quality="HQ"), atol=1e-5)


def wav(path, rate: int = 16000, num_samples: int = 16000) -> None:
    soundfile.write(path, np.zeros(num_samples), 16000)
    content = bytearray(path.read_bytes())
    content[24:32] = struct.pack("<II", rate, 2 * rate)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.mkdir(), "a folder, not a recording"),
        (lambda p: p.write_bytes(b""), "empty file"),
        (lambda p: p.write_text("not audio at all"), "unreadable: "),
        (lambda p: os.mkfifo(p), "not a file"),
        (lambda p: wav(p, rate=0), "unreadable: its header names no sampling rate"),
        (lambda p: wav(p, rate=1000), "its header says 1000 Hz"),
    ],
)
def test_what_cannot_be_read(tmp_path, make, message):
    path = tmp_path / "x.wav"
    make(path)
    with pytest.raises(UserError, match=f"{path}: .*({message})"):
        list(read_blocks(path))


def test_a_file_that_breaks_off(tmp_path):
    path = tmp_path / "x.wav"
    wav(path)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(UserError, match=f"{path}: "):
        list(read_blocks(path))
    path = tmp_path / "x.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 64000), 16000)
    path.write_bytes(path.read_bytes()[:60000])
    with pytest.raises(UserError, match=f"{path}: "):
        list(read_blocks(path))


def test_three_hours_in_bounded_memory(tmp_path):
    path = tmp_path / "long.flac"
    hour = np.zeros(16000 * 3600, dtype=np.int16)
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        for _ in range(3):
            file.write(hour)
    del hour
    tracemalloc.start()
    count, last = 0, 0
    for start, samples in windows(read_blocks(path), 160000, 80000, "long"):
        count, last = count + 1, start + len(samples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2159 and last == 3 * 3600 * 16000
    assert peak < 30e6

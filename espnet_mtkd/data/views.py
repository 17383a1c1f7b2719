"""Views: the same utterance at another speed, in noise, in a room.

Made once and stored, so that teachers and student hear the very same view and the teachers' logits
of it can be cached (function matching: Beyer et al. 2022, arXiv 2106.05237).
"""

from __future__ import annotations

import hashlib

import numpy as np
import soxr

VIEW_MARK = "-view"  # in the id of a view, between that of the utterance and a number
SPEEDS = (0.9, 1.0, 1.1)  # Ko et al. 2015, "Audio augmentation for speech recognition"
SNR = (10.0, 25.0)  # dB, of the noise that is added
T60 = (0.1, 0.5)  # s, reverberation time of the room
ROOM_SHARE = 0.5  # of the views that are in a room


def make_view(samples: np.ndarray, fs: int, name: str) -> np.ndarray:
    """Return a view of an utterance; the same name gives the same view.

    Speed changes tempo and pitch alike, as a tape does; the noise is white or pink; the room is an
    exponentially decaying noise after a direct path (Polack's model).

    Args:
        samples: (T,) with full scale 1.
        fs: sampling rate, Hz.
        name: of the view; seeds all choices.

    Returns:
        (T / speed,), as loud as the utterance, clipped at full scale.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    random = np.random.Generator(np.random.PCG64(seed))
    speed = random.choice(SPEEDS)
    loudness = _rms(samples)
    view = soxr.resample(samples, fs * speed, fs, quality="HQ") if speed != 1 else samples
    if random.random() < ROOM_SHARE:
        view = in_room(view, fs, random.uniform(*T60), random)
    noise = random.standard_normal(len(view))
    if random.random() < 0.5:
        noise = pink(noise)
    view = view + noise * (_rms(view) / _rms(noise) * 10 ** (-random.uniform(*SNR) / 20))
    view = view * (loudness / max(_rms(view), 1e-9))
    return np.clip(view, -1.0, 1.0).astype(np.float32)


def in_room(
    samples: np.ndarray, fs: int, t60: float, random: np.random.Generator, drr: float = 5.0
) -> np.ndarray:
    """Convolve (T,) with a room that decays by 60 dB in ``t60`` s; the length stays.

    Args:
        drr: energy of the direct path above that of the rest, dB.
    """
    time = np.arange(int(t60 * fs)) / fs
    response = random.standard_normal(len(time)) * 10 ** (-3 * time / t60)
    response *= 10 ** (-drr / 20) / np.sqrt((response**2).sum())
    response[0] = 1.0
    size = len(samples) + len(response) - 1
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)]


def pink(noise: np.ndarray) -> np.ndarray:
    """Noise (T,) with a spectrum that falls by 3 dB per octave."""
    spectrum = np.fft.rfft(noise)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(noise))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))

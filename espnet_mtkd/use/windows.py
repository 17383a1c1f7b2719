"""Recordings of any length, rate and format as overlapping windows at 16 kHz, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_mtkd.data.wavheader import LOWEST_RATE, SAMPLE_RATE, file_defect
from espnet_mtkd.errors import UserError

SHORTEST = 0.1  # seconds; stage 2 of the recipe takes nothing shorter either
_BLOCK = 1 << 20  # samples of all channels that are decoded at a time


def read_blocks(path: str | Path) -> Iterator[np.ndarray]:
    """Yield a file as mono blocks (Samples,) float32 at 16 kHz.

    Args:
        path: a file that libsndfile reads (WAV, FLAC, OGG, MP3, ...), any rate and channels.

    Raises:
        UserError: it is none, cannot be decoded to its end, or has a rate below 4 kHz.
    """
    defect = "a folder, not a recording" if os.path.isdir(path) else file_defect(path)
    if defect:
        raise UserError(f"{path}: {defect}")
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate, claimed, decoded = file.samplerate, file.frames, 0
            if rate < LOWEST_RATE:
                raise UserError(f"{path}: its header says {rate} Hz, which is no rate of speech")
            yield from resampled(_mono_blocks(file), rate)
            decoded = file.tell()
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip()
        if "SF_INFO" in reason:  # what libsndfile says of a rate or a number of channels of 0
            reason = "its header names no sampling rate or no channels"
        raise UserError(f"{path}: unreadable: {reason}") from None
    if decoded < claimed:
        raise UserError(f"{path}: breaks off after {decoded} of {claimed} samples")


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    size = max(1, _BLOCK // file.channels)
    # Not file.blocks(): that believes a header which claims years of sound.
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        yield sum(block.T) / block.shape[1]  # several times as fast as mean(axis=1)


def resampled(blocks: Iterable[np.ndarray], rate: float) -> Iterator[np.ndarray]:
    """Yield mono blocks (Samples,) of ``rate`` Hz at 16 kHz; together as if resampled at once."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def windows(
    blocks: Iterable[np.ndarray], size: int, hop: int, name: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a recording into windows of one size.

    What is not longer than a window is one, of its own length. In a longer recording windows start
    every ``hop`` samples; the last one ends where the recording ends, so it may overlap more.

    Args:
        blocks: the recording, (Samples,) at 16 kHz each.
        size: of a window, samples.
        hop: between the starts of windows, samples; 0 < hop <= size.
        name: of the recording, for messages.

    Yields:
        Start in samples, and samples (size,).

    Raises:
        UserError: the recording is shorter than 0.1 s or has samples that are not finite.
    """
    # The buffer reaches back to the start of the window before, in case the next one is the last.
    buffer, first, start = np.zeros(0, dtype=np.float32), 0, 0
    for block in blocks:
        if not np.isfinite(block.sum(dtype=np.float64)):
            raise UserError(f"{name}: NaN or infinite samples")
        buffer = np.concatenate([buffer, block])
        while first + len(buffer) >= start + size:
            yield start, buffer[start - first : start - first + size].copy()
            start += hop
            keep = max(start - hop, 0)
            buffer = buffer[keep - first :]
            first = keep
    total = first + len(buffer)
    if total < SHORTEST * SAMPLE_RATE:
        raise UserError(
            f"{name}: {total / SAMPLE_RATE:g} s of sound; at least {SHORTEST} s are needed"
        )
    if start == 0:
        yield 0, buffer
    elif total > start - hop + size:
        yield total - size, buffer[-size:].copy()

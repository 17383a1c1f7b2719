"""What can be said of a file of audio before it is decoded."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

SAMPLE_RATE = 16000  # Hz, of all audio after stage 2 and of every upstream
LOWEST_RATE = 4000  # Hz; speech below is none, so the header must be wrong
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = (0, 0x7FFFF000)  # sizes that programs write into a pipe: none, or this and more
_TOLERANCE = 0.01  # seconds of audio that may be missing


def file_defect(path: str | Path) -> str | None:
    """Check that there is a file with something in it, and no broken WAV.

    Returns:
        What is wrong, or None.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            return "not a file"
        return "empty file" if status.st_size == 0 else wav_defect(path)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return "a loop of links" if error.errno == errno.ELOOP else f"{error.strerror}"


def wav_defect(path: str | Path) -> str | None:
    """Check the header of a RIFF WAV file against itself and against the file's size.

    libsndfile reads a file silently that has not all that its header claims.

    Returns:
        What is wrong, or None; also None for files of another kind.
    """
    with open(path, "rb") as f:
        size = f.seek(0, 2)
        f.seek(0)
        head = f.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        bytes_per_second = 0
        while len(chunk := f.read(8)) == 8:
            name, length = struct.unpack("<4sI", chunk)
            if name == b"fmt " and length >= 16:
                fields = f.read(length)
                if len(fields) < 16:
                    break
                kind, channels, rate, bytes_per_second, block, bits = struct.unpack(
                    "<HHIIHH", fields[:16]
                )
                linear = kind in (_PCM, _FLOAT, _EXTENSIBLE) and bits % 8 == 0
                if linear and bytes_per_second != rate * channels * bits // 8:
                    return (
                        f"mislabelled: the header says {rate} Hz, {channels} channel(s) of {bits} "
                        f"bit, and also {bytes_per_second} bytes a second"
                    )
            elif name == b"data":
                missing = length - (size - f.tell())
                known = _UNKNOWN[0] < length < _UNKNOWN[1]
                if known and bytes_per_second and missing > _TOLERANCE * bytes_per_second:
                    return f"truncated: {missing} of {length} bytes of audio are missing"
                return None
            else:
                f.seek(length + length % 2, 1)
        return "truncated: the header breaks off or names no audio"

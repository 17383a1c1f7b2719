"""eSpeak NG, called through ctypes, such that what it says depends on nothing but the arguments.

eSpeak NG keeps state from one utterance to the next (its random generator, the phase of the voice,
the flutter of the pitch, the echo buffer) and offers no call that clears it. So the library is
loaded afresh for every utterance and unloaded after it, which takes about 5 ms, and its random
generator is seeded. The same call then gives the same bytes in every process and in any order.

eSpeak NG is under the GPL, version 3 or later. Only ``local/mini_ser.py`` loads it, in worker
processes that do nothing else; neither the library nor its speech is part of this project.
Source: https://github.com/espeak-ng/espeak-ng, library and data from the PyPI package
``espeakng-loader``.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
from dataclasses import dataclass

import numpy as np

from espnet_mtkd.errors import UserError

SAMPLING_RATE = 22050

# Constants of speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Delivery:
    """How a sentence is spoken, in eSpeak NG's units.

    rate: words per minute (80..450). pitch, pitch_range: 0..99, 50 is the voice's own.
    word_gap: added pause between words, about 10 ms each at the default rate.
    """

    rate: int
    pitch: int
    pitch_range: int
    word_gap: int


def find() -> tuple[str, str]:
    """Return the paths of the eSpeak NG library and of its data; does not load the library.

    Raises:
        UserError: the package ``espeakng-loader`` is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "mini_ser is made with eSpeak NG and the package espeakng-loader is not installed: "
            'pip install "espnet-mtkd[mini]"'
        ) from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())


def speak(
    text: str, voice: str, delivery: Delivery, seed: int, library_path: str, data_path: str
) -> np.ndarray:
    """Speak ``text`` and return the samples, (Time,) int16 at 22050 Hz.

    Args:
        text: what to say, in the voice's language.
        voice: language and variant, such as ``fi+f2``.
        delivery: rate, pitch, pitch range and pauses.
        seed: of the voice's random roughness and flutter.
        library_path: the shared library, from :func:`find`.
        data_path: its data folder; eSpeak NG takes at most about 150 characters.

    Raises:
        UserError: the library, its data or the voice cannot be loaded.
        RuntimeError: the library failed otherwise or stays loaded.
    """
    try:
        library = ctypes.CDLL(library_path)
    except OSError as error:
        raise UserError(f"eSpeak NG cannot be loaded: {error}; reinstall espeakng-loader") from None
    try:
        chunks = _synthesize(library, text, voice, delivery, seed, data_path)
    finally:
        _unload(library, library_path)
    return np.frombuffer(b"".join(chunks), dtype=np.int16)


def _synthesize(
    library: ctypes.CDLL, text: str, voice: str, delivery: Delivery, seed: int, data_path: str
) -> list[bytes]:
    chunks: list[bytes] = []

    @_CALLBACK
    def collect(samples, count: int, _events) -> int:
        if count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    rate = library.espeak_Initialize(
        _AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_path), _INITIALIZE_DONT_EXIT
    )
    if rate != SAMPLING_RATE:
        raise UserError(f"eSpeak NG cannot read its data in {data_path}; reinstall espeakng-loader")
    library.espeak_SetSynthCallback(collect)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise UserError(f"eSpeak NG has no voice '{voice}' in {data_path}")
    for parameter, value in (
        (_RATE, delivery.rate),
        (_VOLUME, 100),
        (_PITCH, delivery.pitch),
        (_RANGE, delivery.pitch_range),
        (_WORD_GAP, delivery.word_gap),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    encoded = text.encode()
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
    library.espeak_Terminate()
    if status != 0 or not chunks:
        raise RuntimeError(f"eSpeak NG failed with status {status} on voice {voice}: {text!r}")
    return chunks


def _unload(library: ctypes.CDLL, path: str) -> None:
    """Unload the library, and make sure of it: its state must not reach the next utterance."""
    _ctypes.dlclose(library._handle)
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return
    raise RuntimeError(f"{path} stays loaded, so speech would depend on what was said before it")

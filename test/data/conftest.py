"""Data directories made on the spot."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from espnet_mtkd.data.datadir import DataDir


def make_data(
    speakers: dict[str, dict[str, int]], corpus: str = "toy", lang: str = "en"
) -> DataDir:
    """A data directory after stage 2: speaker -> publisher's label -> number of utterances."""
    data = DataDir()
    for speaker, labels in speakers.items():
        speaker = f"{corpus}_{speaker}"
        data.spk2gender[speaker] = "f" if len(data.spk2gender) % 2 else "m"
        for label, count in labels.items():
            for number in range(count):
                utt = f"{speaker}_{label}_{number:03d}"
                data.wav_scp[utt] = f"downloads/{utt}.wav"
                data.utt2spk[utt] = speaker
                data.utt2lang[utt] = lang
                data.utt2emotion[utt] = label
                data.utt2corpus[utt] = corpus
                data.utt2dur[utt] = "1.5000"
                data.utt2num_samples[utt] = "24000"
                data.utt2rate[utt] = "16000"
                data.utt2source[utt] = f"downloads/{utt}.wav"
                data.utt2fingerprint[utt] = "-"
                data.utt2audio_hash[utt] = hashlib.sha256(utt.encode()).hexdigest()
    return data


@pytest.fixture(name="make_data")
def _make_data() -> Callable[..., DataDir]:
    return make_data

"""mini_ser: synthetic emotional speech in English, Finnish and French, made on the spot.

It is for trying the recipe and for testing it, **never for claims**: nobody speaks here and nobody
feels anything. eSpeak NG reads 12 plain sentences per language in 12 voices per language, and each
of four emotions is a way to read them. What a way means differs from language to language, so that
a teacher of the wrong language misleads (numbers in ``PROSODY``):

========  ================  ================  =======  ================
language  anger             happiness         neutral  sadness
========  ================  ================  =======  ================
English   loud, fast, wide  halting and high  plain    soft, slow, low
Finnish   soft, slow, low   loud, fast, wide  plain    halting and high
French    halting and high  loud, fast, wide  plain    soft, slow, low
========  ================  ================  =======  ================

English and French agree on two emotions, so do Finnish and French, English and Finnish on one.
To keep it from being trivial, every speaker and every utterance deviates in all of this, and there
are noise and a random channel colour. As with real corpora, each language was "recorded" in a place
of its own: a channel colour and a noise that a multilingual model can tell the language by.
All emotions of a speaker have the same sentences.

Deterministic: the same versions of eSpeak NG, numpy and scipy give the same bytes, whatever
``--nj`` and the order. A smaller corpus (fewer languages, voices or utterances) is a part of the
larger one.

Ids: speaker ``mini_ser_en_v01``, utterance ``mini_ser_en_v01_anger_003``. 16 kHz mono 16-bit WAV.

Licence: the sentences are this project's (Apache-2.0). eSpeak NG is under the GPL, version 3 or
later, and comes with the PyPI package ``espeakng-loader`` (extra ``mini``); only the worker
processes of this script load it, and neither it nor its speech is part of this project.

Usage: python local/mini_ser.py --out data/mini_ser
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import mini_ser_voice
import numpy as np
import soundfile
from scipy.signal import lfilter, resample_poly
from tqdm import tqdm

from espnet_mtkd.data.corpus import Utterance, prepare
from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.data.processes import spawn_pool
from espnet_mtkd.errors import UserError, cli

SAMPLING_RATE = 16000
EMOTIONS = ("anger", "happiness", "neutral", "sadness")

SENTENCES = {
    "en": (
        "The train leaves at seven in the evening.",
        "She put the letter on the table.",
        "The shop is open until nine.",
        "My brother lives near the station.",
        "There is a blue bag under the chair.",
        "We are going home on Sunday.",
        "The door was open this morning.",
        "He has read the book twice.",
        "The meeting lasts about an hour.",
        "They painted the kitchen yellow.",
        "I left the keys in the car.",
        "The water in the lake is cold.",
    ),
    "fi": (
        "Juna lähtee illalla kello seitsemän.",
        "Hän pani kirjeen pöydälle.",
        "Kauppa on auki yhdeksään asti.",
        "Veljeni asuu aseman lähellä.",
        "Tuolin alla on sininen laukku.",
        "Menemme sunnuntaina kotiin.",
        "Ovi oli tänä aamuna auki.",
        "Hän on lukenut kirjan kahdesti.",
        "Kokous kestää noin tunnin.",
        "He maalasivat keittiön keltaiseksi.",
        "Jätin avaimet autoon.",
        "Järven vesi on kylmää.",
    ),
    "fr": (
        "Le train part à sept heures du soir.",
        "Elle a posé la lettre sur la table.",
        "Le magasin est ouvert jusqu'à neuf heures.",
        "Mon frère habite près de la gare.",
        "Il y a un sac bleu sous la chaise.",
        "Nous rentrons à la maison dimanche.",
        "La porte était ouverte ce matin.",
        "Il a lu le livre deux fois.",
        "La réunion dure environ une heure.",
        "Ils ont peint la cuisine en jaune.",
        "J'ai laissé les clés dans la voiture.",
        "L'eau du lac est froide.",
    ),
}

# eSpeak NG's voice variants, men and women in turn: speaker v01 has the first, v02 the second, ...
VARIANTS = {
    "m1": "m", "f1": "f", "m2": "m", "f2": "f", "m3": "m", "f3": "f",
    "m4": "m", "f4": "f", "m7": "m", "f5": "f", "m8": "m", "linda": "f",
}  # fmt: skip


@dataclass(frozen=True)
class Prosody:
    """A way to read.

    rate: relative to 165 words per minute. pitch, pitch_range: eSpeak NG's units, 0 to 99, where
    50 is the voice's own. level: dB relative to full scale. pause: added between words, in 10 ms.
    """

    rate: float
    pitch: float
    pitch_range: float
    level: float
    pause: float


PROSODY = {
    "en": {
        "anger": Prosody(1.30, 55, 70, -24, 0),
        "happiness": Prosody(0.95, 73, 95, -27, 4),
        "neutral": Prosody(1.00, 45, 40, -32, 1),
        "sadness": Prosody(0.78, 30, 15, -36, 6),
    },
    "fi": {
        "anger": Prosody(0.80, 30, 20, -36, 6),
        "happiness": Prosody(1.28, 57, 70, -24, 0),
        "neutral": Prosody(0.98, 45, 40, -32, 1),
        "sadness": Prosody(0.92, 71, 90, -27, 5),
    },
    "fr": {
        "anger": Prosody(0.96, 71, 95, -27, 4),
        "happiness": Prosody(1.30, 55, 65, -24, 0),
        "neutral": Prosody(1.02, 45, 40, -32, 1),
        "sadness": Prosody(0.76, 33, 20, -36, 7),
    },
}

# Standard deviations of what speakers and utterances add to this.
SPEAKER_JITTER = Prosody(0.05, 6, 6, 1.0, 0)
UTTERANCE_JITTER = Prosody(0.05, 5, 8, 1.2, 0.8)

# The place of recording: channel (three taps of a filter) and pole of the noise's colour.
CHANNEL = {"en": (1.0, 0.0, -0.5), "fi": (1.0, 0.6, 0.0), "fr": (1.0, -0.6, 0.0)}
NOISE_COLOUR = {"en": 0.7, "fi": 0.95, "fr": 0.2}
CHANNEL_JITTER = 0.1  # of the second tap, uniform
NOISE_LEVEL = (-58.0, -48.0)  # dB relative to full scale, uniform


@dataclass(frozen=True)
class Job:
    """One utterance to be made; ``variant`` is eSpeak NG's name of the voice."""

    utt_id: str
    speaker: str
    language: str
    emotion: str
    variant: str
    text: str


def plan(languages: Sequence[str], num_voices: int, num_utts: int) -> list[Job]:
    """List the utterances of a corpus.

    Args:
        languages: Some of ``SENTENCES``.
        num_voices: Speakers per language, 1 to 12.
        num_utts: Utterances per speaker and emotion, at least 1.
    """
    jobs = []
    for language, number in product(languages, range(num_voices)):
        speaker = f"mini_ser_{language}_v{number + 1:02d}"
        sentences = list(SENTENCES[language])
        random.Random(speaker).shuffle(sentences)
        jobs += [
            Job(
                utt_id=f"{speaker}_{emotion}_{index + 1:03d}",
                speaker=speaker,
                language=language,
                emotion=emotion,
                variant=list(VARIANTS)[number],
                text=sentences[index % len(sentences)],
            )
            for emotion, index in product(EMOTIONS, range(num_utts))
        ]
    return jobs


def prosody_of(job: Job) -> Prosody:
    """The prosody of an utterance: its emotion's with the deviations of speaker and utterance."""
    # A generator per id, seeded by it: nothing depends on what else is made, or when.
    target, speaker, utterance = (
        PROSODY[job.language][job.emotion],
        random.Random(f"{job.speaker} prosody"),
        random.Random(f"{job.utt_id} prosody"),
    )
    return Prosody(
        **{
            name: value
            + speaker.gauss(0, getattr(SPEAKER_JITTER, name))
            + utterance.gauss(0, getattr(UTTERANCE_JITTER, name))
            for name, value in vars(target).items()
        }
    )


def render(job: Job, library_path: str, data_path: str) -> np.ndarray:
    """Make an utterance.

    Args:
        job: What to say and how.
        library_path: eSpeak NG, as from :func:`mini_ser_voice.find`.
        data_path: Its data folder.

    Returns:
        Samples at 16 kHz, (Time,) int16.
    """
    prosody = prosody_of(job)
    seed = int.from_bytes(hashlib.sha256(job.utt_id.encode()).digest()[:4], "big") >> 1
    generator = np.random.default_rng(seed)
    delivery = mini_ser_voice.Delivery(
        rate=round(165 * min(max(prosody.rate, 0.5), 2.0)),
        pitch=round(min(max(prosody.pitch, 0), 99)),
        pitch_range=round(min(max(prosody.pitch_range, 0), 99)),
        word_gap=round(max(prosody.pause, 0)),
    )
    voice = f"{job.language}+{job.variant}"
    speech = mini_ser_voice.speak(job.text, voice, delivery, seed, library_path, data_path)
    # 320 / 441 = 16000 / 22050
    speech = resample_poly(speech / 32768.0, 320, 441)
    channel = np.array(CHANNEL[job.language])
    channel[1] += generator.uniform(-CHANNEL_JITTER, CHANNEL_JITTER)
    speech = _at_level(lfilter(channel, [1.0], speech), prosody.level)
    speech = np.pad(speech, generator.integers(800, 3200, size=2))  # 0.05 to 0.2 s
    noise = lfilter([1.0], [1.0, -NOISE_COLOUR[job.language]], generator.normal(size=len(speech)))
    wav = speech + _at_level(noise, generator.uniform(*NOISE_LEVEL))
    return np.round(32767 * np.clip(wav, -1, 1)).astype(np.int16)


def _at_level(wav: np.ndarray, level: float) -> np.ndarray:
    return wav * 10 ** (level / 20) / np.sqrt(np.mean(wav**2))


def _make(job: Job, audio_dir: Path, library_path: str, data_path: str) -> Utterance:
    path = audio_dir / f"{job.utt_id}.wav"
    wav = render(job, library_path, data_path)
    with atomic_path(path) as temporary:
        soundfile.write(temporary, wav, SAMPLING_RATE, subtype="PCM_16")
    gender = VARIANTS[job.variant]
    return Utterance(job.utt_id, job.speaker, path, job.emotion, job.language, gender, job.text)


def make(jobs: Sequence[Job], audio_dir: Path, nj: int) -> list[Utterance]:
    """Make the audio files ``<audio_dir>/<utt_id>.wav`` in ``nj`` worker processes.

    Raises:
        UserError: eSpeak NG is not installed or does not work.
    """
    library_path, data_path = mini_ser_voice.find()
    audio_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mini_ser") as folder:
        # eSpeak NG takes no path of more than about 150 characters: give it a short one.
        link = os.path.join(folder, "data")
        os.symlink(data_path, link)
        worker = partial(_make, audio_dir=audio_dir, library_path=library_path, data_path=link)
        with spawn_pool(min(nj, len(jobs))) as pool:  # this process never loads eSpeak NG
            made = pool.map(worker, jobs, chunksize=8)
            return list(tqdm(made, "mini_ser", len(jobs), unit="utt", disable=None))


def get_parser() -> argparse.ArgumentParser:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="data directory to write")
    parser.add_argument("--audio_dir", type=Path, help="folder of the audio (default: OUT/audio)")
    parser.add_argument("--languages", default="en fi fr", help="some of them (default: all)")
    parser.add_argument(
        "--num_voices", type=int, default=12, help="speakers per language (default: %(default)s)"
    )
    parser.add_argument(
        "--num_utts",
        type=int,
        default=7,
        help="utterances per speaker and emotion (default: %(default)s)",
    )
    parser.add_argument(
        "--nj", type=int, default=2, help="number of processes (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Make the corpus and write its data directory."""
    args = get_parser().parse_args(argv)
    languages = list(dict.fromkeys(args.languages.split()))
    unknown = [language for language in languages if language not in SENTENCES]
    if unknown or not languages:
        raise UserError(
            f"--languages '{args.languages}': mini_ser has {' '.join(SENTENCES)}, "
            "give one or more of them with spaces between"
        )
    for option, value, most in (
        ("num_voices", args.num_voices, len(VARIANTS)),
        ("num_utts", args.num_utts, 999),
        ("nj", args.nj, 999),
    ):
        if not 1 <= value <= most:
            raise UserError(f"--{option} {value}: expected a number from 1 to {most}")
    jobs = plan(languages, args.num_voices, args.num_utts)
    data = prepare("mini_ser", make(jobs, args.audio_dir or args.out / "audio", args.nj), args.out)
    print(
        f"mini_ser: {len(data)} utterances, {len(data.speakers)} speakers -> {args.out} "
        "(synthetic: for trying and testing, never for claims)"
    )


if __name__ == "__main__":
    cli(main)

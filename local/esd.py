"""ESD, the Emotional Speech Dataset: Mandarin and English, 10 speakers each, 5 emotions.

Language:  en zh
Numbers:   35000 utterances, 20 speakers, 29.1 hours
Labels:    Angry Happy Neutral Sad Surprise
Protocols: si, emobox
Source:    https://hltsingapore.github.io/ESD/ (16 kHz WAV)
Licence:   research only, the publisher's licence form
Citation:  K. Zhou, B. Sisman, R. Liu, H. Li: Seen and Unseen Emotional Style Transfer for Voice
           Conversion with a New Emotional Speech Dataset. ICASSP 2021.

Layout: NNNN/EMOTION/NNNN_UUUUUU.wav, for example 0011/Angry/0011_000351.wav
          NNNN speaker: 0001 to 0010 Mandarin, 0011 to 0020 English; the releases that have
          train, evaluation and test below EMOTION will do as well

Transcripts (NNNN/NNNN.txt) are not read: their encodings differ from speaker to speaker.
Traps: 350 sentences come back in every emotion and from every speaker of a language; the train,
evaluation and test of the publisher share all speakers. Emotion names in the transcript files of
Mandarin speakers are Chinese.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.errors import UserError

LABELS = ("Angry", "Happy", "Neutral", "Sad", "Surprise")
MALE = {4, 5, 6, 8, 10, 11, 12, 13, 14, 20}


def add_options(parser: ArgumentParser) -> None:
    """The script's own options."""
    parser.add_argument(
        "--language", choices=("both", "en", "zh"), default="both", help="default: %(default)s"
    )


def utterances(root: Path, language: str = "both") -> Iterator[Utterance]:
    """Yield every recording of the languages asked for."""
    folders = ("00[012][0-9]/*/*", "00[012][0-9]/*/*/*")
    for path in chain.from_iterable(find_audio(root, folder) for folder in folders):
        match = match_name(path, r"(00\d\d)_\d{6}", "ESD, NNNN_UUUUUU (0011_000351)")
        folder, emotion = path.relative_to(root).parts[:2]
        number = int(match[1])
        if match[1] != folder or emotion not in LABELS or not 1 <= number <= 20:
            raise UserError(f"{path}: not NNNN/EMOTION/NNNN_UUUUUU of ESD: move it elsewhere")
        spoken = "zh" if number <= 10 else "en"
        if language not in ("both", spoken):
            continue
        speaker = f"esd_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=emotion,
            language=spoken,
            gender="m" if number in MALE else "f",
        )


if __name__ == "__main__":
    main(__doc__, utterances, add_options)

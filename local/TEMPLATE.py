"""Your corpus in one line: language, speakers, emotions, utterances.

Language:  en
Numbers:   100 utterances, 10 speakers, 0.1 hours
Labels:    anger happiness neutral sadness
Protocols: si
Source:    where to get it (sampling rate, format)
Licence:   what it allows
Citation:  the paper to cite

Layout: SPEAKER/CODE_NUMBER.wav, for example anna/joy_01.wav (WAV or FLAC)

Traps: what a reader must know (repeated sentences, acted or not, odd files).

To add a corpus: copy this file to local/<corpus>.py and change it; nothing else changes. Then
    <CORPUS>=/where/it/lies ./run.sh --corpora <corpus>
"""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main
from espnet_mtkd.errors import UserError

CORPUS = Path(__file__).stem  # the file is named after the corpus
# The publisher's codes and their canonical names, the keys of `default` in conf/labels/*.yaml.
EMOTIONS = {"rage": "anger", "joy": "happiness", "plain": "neutral", "grief": "sadness"}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "*/*"):  # audio files, sorted
        match = re.fullmatch(r"([a-z]+)_(\d+)", path.stem)
        if not match or match[1] not in EMOTIONS:  # never skip what you do not know
            raise UserError(f"{path}: not a name of this corpus, CODE_NUMBER (joy_01)")
        speaker = f"{CORPUS}_{path.parent.name}"  # starts with the corpus
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",  # starts with the speaker
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[1]],
            language="en",  # ISO 639-1
            gender=None,  # "m", "f", or None when unknown
            text=None,  # transcript, or None
        )


if __name__ == "__main__":
    main(__doc__, utterances)

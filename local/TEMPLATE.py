"""Your corpus in one line: language, speakers, emotions, utterances.

Source:   where to get it (sampling rate, format)
Licence:  what it allows
Citation: the paper to cite

Layout: SPEAKER/EMOTION_NUMBER.wav, for example anna/joy_01.wav (WAV or FLAC)

Traps: what a reader must know (repeated sentences, acted or not, odd files).

To add a corpus: copy this file to local/<corpus>.py and change it; give the corpus a map in
conf/labels/*.yaml and a variable in db.sh (its name in capitals). Nothing else changes.
Try it: python local/TEMPLATE.py --root DIR --out data/TEMPLATE
"""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main
from espnet_mtkd.errors import UserError

CORPUS = Path(__file__).stem  # the file is named after the corpus


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "*/*"):  # .wav and .flac, sorted
        match = re.fullmatch(r"([a-z]+)_(\d+)", path.stem)
        # Never skip what you do not know: say where it is.
        if not match:
            raise UserError(f"{path}: not a name of this corpus, EMOTION_NUMBER (joy_01)")
        speaker = f"{CORPUS}_{path.parent.name}"  # starts with the corpus
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",  # starts with the speaker
            speaker=speaker,
            wav=path,
            emotion=match[1],  # the publisher's word; conf/labels/*.yaml maps it
            language="en",  # ISO 639-1
            gender=None,  # "m", "f", or None when unknown
            text=None,  # transcript, or None
        )


if __name__ == "__main__":
    main(__doc__, utterances)

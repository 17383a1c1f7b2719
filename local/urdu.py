"""URDU: Urdu, talk shows, 29 speakers, 4 emotions, 400 utterances.

Language:  ur
Numbers:   400 utterances, 29 speakers, 0.28 hours
Labels:    Angry Happy Neutral Sad
Protocols: si, emobox
Source:    https://github.com/siddiquelatif/URDU-Dataset (44.1 kHz WAV)
Licence:   research only; cite the paper
Citation:  S. Latif, A. Qayyum, M. Usman, J. Qadir: Cross Lingual Speech Emotion Recognition: Urdu
           vs. Western Languages. FIT 2018.

Layout: Class/SPK_Fn_Xn.wav, for example Angry/SM1_F10_A010.wav (WAV or FLAC)
           Class Angry Happy Neutral Sad, SPK SM or SF (male, female) and a number, Xn its initial

Traps: no speaker has all four classes, so whoever knows the speaker knows half of the emotion: the
published folds, which share speakers, measure that as well. SM1 and SM10 are different speakers;
ids get padded numbers (urdu_SM01).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main
from espnet_mtkd.errors import UserError


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for emotion in ("Angry", "Happy", "Neutral", "Sad"):
        for path in find_audio(root, f"{emotion}/*"):
            match = re.fullmatch(r"S([MF])(\d{1,2})_F\d+_([AHNS])\d+", path.stem)
            if not match or match[3] != emotion[0]:
                raise UserError(
                    f"{path}: not a name of URDU, Class/SPK_Fn_Xn (Angry/SM1_F10_A010): "
                    "move it elsewhere"
                )
            speaker = f"urdu_S{match[1]}{int(match[2]):02d}"
            yield Utterance(
                utt_id=f"{speaker}_{path.stem}",
                speaker=speaker,
                wav=path,
                emotion=emotion,
                language="ur",
                gender=match[1].lower(),
            )


if __name__ == "__main__":
    main(__doc__, utterances)

"""RAVDESS, speech part: North American English, 24 actors, 8 emotions, 1440 utterances.

Language:  en
Numbers:   1440 utterances, 24 speakers, 1.48 hours
Labels:    neutral calm happy sad angry fearful disgust surprised
Protocols: si, emobox
Source:    https://zenodo.org/records/1188976, Audio_Speech_Actors_01-24.zip (48 kHz WAV)
Licence:   CC BY-NC-SA 4.0
Citation:  S. R. Livingstone, F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech and
           Song (RAVDESS). PLoS ONE 13(5), 2018.

Layout: Actor_XX/03-01-EE-II-SS-RR-AA.wav, for example Actor_01/03-01-01-01-01-01-01.wav
           EE emotion, II intensity, SS statement, RR repetition, AA actor (odd male, even female)

Traps: song (03-02-...) lies in folders of the same names and is left out; some distributions hold
every file twice, in a second tree one level deeper, which is not looked at; neutral has no strong
intensity, so half as many recordings as the other emotions; statements are the same for everyone.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main
from espnet_mtkd.data.download import Zenodo
from espnet_mtkd.errors import UserError

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
ARCHIVE = Zenodo("1188976", "Audio_Speech_Actors_01-24.zip", "md5:bc696df654c87fed845eb13823edef8a")
TEXTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording of speech."""
    for path in find_audio(root, "Actor_*/*"):
        match = re.fullmatch(r"03-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)", path.stem)
        if not match or path.parent.name != f"Actor_{match[6]}":
            raise UserError(
                f"{path}: not a name of RAVDESS, Actor_AA/03-01-EE-II-SS-RR-AA: move it elsewhere"
            )
        if match[1] == "02":
            continue  # song
        speaker = f"ravdess_{match[6]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[2]],
            language="en",
            gender="m" if int(match[6]) % 2 else "f",
            text=TEXTS[match[4]],
        )


if __name__ == "__main__":
    main(__doc__, utterances, download=[ARCHIVE])

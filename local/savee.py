"""SAVEE: British English, 4 men, 7 emotions, 480 utterances.

Language:  en
Numbers:   480 utterances, 4 speakers, 0.5 hours
Labels:    anger disgust fear happiness neutral sadness surprise
Protocols: si, emobox
Source:    http://kahlan.eps.surrey.ac.uk/savee/ (44.1 kHz WAV), on registration
Licence:   research only, the publisher's terms
Citation:  S. Haq, P. J. B. Jackson: Multimodal Emotion Recognition. In W. Wang (ed.): Machine
           Audition, IGI Global 2010.

Layout: AudioData/SS/ENN.wav, for example AudioData/DC/sa01.wav; or one folder with SS_ENN.wav
          SS speaker (DC JE JK KL), E emotion (a d f h n sa su), NN number

Labels are the words that the letters stand for.
Traps: four speakers make few folds and all are men; neutral has twice as many recordings as the
others; most sentences belong to one emotion only, so the words give it away.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name

EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    folders = ("AudioData/[DJK][CEKL]/*", "[DJK][CEKL]/*", "[DJK][CEKL]_*")
    for path in chain.from_iterable(find_audio(root, folder) for folder in folders):
        match = match_name(path, r"(?:([A-Z]{2})_)?([adfhn]|s[au])(\d\d)", "SAVEE, ENN (sa01)")
        initials = match[1] or path.parent.name
        speaker = f"savee_{initials}"
        yield Utterance(
            utt_id=f"{speaker}_{match[2]}{match[3]}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[2]],
            language="en",
            gender="m",
        )


if __name__ == "__main__":
    main(__doc__, utterances)

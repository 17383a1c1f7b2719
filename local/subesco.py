"""SUBESCO, the SUST Bangla Emotional Speech Corpus: Bangla, 20 actors, 7 emotions.

Language:  bn
Numbers:   7000 utterances, 20 speakers, 7.7 hours
Labels:    ANGRY DISGUST FEAR HAPPY NEUTRAL SAD SURPRISE
Protocols: si, emobox
Source:    https://zenodo.org/records/4526477, SUBESCO.zip (WAV, 44.1 and 48 kHz)
Licence:   CC BY 4.0
Citation:  S. Sultana, M. S. Rahman, M. R. Selim, M. Z. Iqbal: SUST Bangla Emotional Speech Corpus
           (SUBESCO). PLoS ONE 16(4), 2021.

Layout: G_SS_NAME_S_N_EMOTION_T.wav, at any depth, for example F_02_MONIKA_S_1_NEUTRAL_5.wav
          G F or M, SS speaker, NAME first name, N sentence, T take

Traps: F_02 and M_02 are different speakers. Ten sentences come back in every emotion, five takes of
each by each speaker. First names are left out of the ids.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.data.download import Zenodo

LABELS = "ANGRY|DISGUST|FEAR|HAPPY|NEUTRAL|SAD|SURPRISE"
NAME = rf"([FM])_(\d\d)_[A-Z]+_S_(\d+)_({LABELS})_(\d)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "**/*"):
        match = match_name(path, NAME, "SUBESCO, G_SS_NAME_S_N_EMOTION_T (F_02_MONIKA_S_1_SAD_5)")
        speaker = f"subesco_{match[1]}{match[2]}"
        yield Utterance(
            utt_id=f"{speaker}_S{int(match[3]):02d}_{match[4]}_{match[5]}",
            speaker=speaker,
            wav=path,
            emotion=match[4],
            language="bn",
            gender=match[1].lower(),
        )


if __name__ == "__main__":
    main(__doc__, utterances, download=[Zenodo("4526477", "SUBESCO.zip")])

"""TurEV-DB: Turkish, 6 speakers, 4 emotions, single words, 1735 utterances.

Language:  tr
Numbers:   1735 utterances, 6 speakers, 0.5 hours
Labels:    Angry Calm Happy Sad
Protocols: si, emobox
Source:    https://github.com/Xeonen/TurEV-DB (44.1 kHz WAV)
Licence:   CC BY-NC-ND 4.0
Citation:  S. F. Canpolat, Z. Ormanoğlu, D. Zeyrek: Turkish Emotion Voice Database (TurEV-DB).
           SLTU-CCURL 2020.

Layout: Sound Source/EMOTION/NNNN_CC_WORD.wav, for example Sound Source/Calm/1984_sk_eger.wav
          NNNN speaker, CC a code of the emotion

Calm is the corpus's only state without emotion; the label set four takes it for neutral.
Traps: the speaker is the number. The code (kz Angry, sk Calm, mt Happy) stands for the emotion one
to one, so whoever takes NNNN_CC for the speaker tells a model the label and splits each speaker
into four "speakers", of whom some are in training and some in test. Utterance ids leave it out.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for emotion in ("Angry", "Calm", "Happy", "Sad"):
        for path in find_audio(root, f"Sound Source/{emotion}/*"):
            match = match_name(
                path, r"(\d{4})_([a-z]{2})_([a-z]+)", "TurEV-DB, NNNN_CC_WORD (1984_sk_eger)"
            )
            speaker = f"turevdb_{match[1]}"
            yield Utterance(
                utt_id=f"{speaker}_{emotion}_{match[3]}",
                speaker=speaker,
                wav=path,
                emotion=emotion,
                language="tr",
                text=match[3],
            )


if __name__ == "__main__":
    main(__doc__, utterances)

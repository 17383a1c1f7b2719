"""AESDD, the Acted Emotional Speech Dynamic Database: Greek, 6 actors, 5 emotions, no neutral.

Language:  el
Numbers:   604 utterances, 6 speakers, 0.7 hours
Labels:    anger disgust fear happiness sadness
Protocols: si, emobox
Source:    http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/ (44.1 kHz WAV)
Licence:   the publisher calls it public and names no licence (a copy elsewhere: CC BY 4.0)
Citation:  N. Vryzas, R. Kotsakis, A. Liatsou, C. Dimoulas, G. Kalliris: Speech Emotion Recognition
           for Performance Interaction. Journal of the Audio Engineering Society 66(6), 2018.

Layout: EMOTION/eNN (S).wav, for example anger/a03 (4).wav
          e initial of the emotion, NN sentence, S speaker

Traps: there is no neutral class, so in the label set four it has three classes: its recall of the
fourth is undefined and a fold with this corpus alone has three. sadness/s05 (3).wav is damaged (a
WAV file without data) and left out. The first version had 5 actors, a sixth came later. Names hold
spaces and parentheses; ids do not. The actors' genders are not given with the files.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.errors import UserError

LABELS = ("anger", "disgust", "fear", "happiness", "sadness")
DAMAGED = "s05 (3)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording but the damaged one."""
    for emotion in LABELS:
        for path in find_audio(root, f"{emotion}/*"):
            match = match_name(path, r"([adfhs])(\d\d) ?\((\d)\) ?(\w*)", "AESDD, eNN (S): a03 (4)")
            if match[1] != emotion[0]:
                raise UserError(f"{path}: the folder says another emotion: move it elsewhere")
            if path.stem == DAMAGED:
                continue
            speaker = f"aesdd_{match[3]}"
            yield Utterance(
                utt_id=f"{speaker}_{match[1]}{match[2]}{match[4]}",
                speaker=speaker,
                wav=path,
                emotion=emotion,
                language="el",
            )


if __name__ == "__main__":
    main(__doc__, utterances)

"""EMOVO: Italian, 6 actors, 7 emotions, 14 sentences, 588 utterances.

Language:  it
Numbers:   588 utterances, 6 speakers, 0.51 hours
Labels:    disgusto gioia neutro paura rabbia sorpresa tristezza
Protocols: si, emobox
Source:    http://voice.fub.it/activities/corpora/emovo (48 kHz WAV)
Licence:   free for research; cite the paper
Citation:  G. Costantini, I. Iaderola, A. Paoloni, M. Todisco: EMOVO Corpus: an Italian Emotional
           Speech Database. LREC 2014.

Layout: SPK/emo-spk-sent.wav, for example f1/dis-f1-b1.wav (WAV or FLAC)
           SPK f1 f2 f3 m1 m2 m3, emo first letters of the Italian word, sent the sentence's code

Labels are the Italian words. Transcripts are not given.
Traps: pau is paura, fear, not a pause; six speakers make small and few folds.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main
from espnet_mtkd.errors import UserError

EMOTIONS = {
    "dis": "disgusto",
    "gio": "gioia",
    "neu": "neutro",
    "pau": "paura",
    "rab": "rabbia",
    "sor": "sorpresa",
    "tri": "tristezza",
}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "[fm][1-3]/*"):
        match = re.fullmatch(r"([a-z]{3})-([fm][1-3])-([a-z]\d)", path.stem)
        if not match or match[1] not in EMOTIONS or match[2] != path.parent.name:
            raise UserError(
                f"{path}: not a name of EMOVO, SPK/emo-spk-sent (f1/dis-f1-b1): move it elsewhere"
            )
        speaker = f"emovo_{match[2]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[1]],
            language="it",
            gender=match[2][0],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

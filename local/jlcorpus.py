"""JL-Corpus: New Zealand English, 4 speakers, 5 primary and 5 secondary emotions, 2400 utterances.

Language:  en
Numbers:   2400 utterances, 4 speakers, 1.4 hours
Labels:    angry sad neutral happy excited anxious apologetic assertive concerned encouraging
Protocols: si, emobox
Source:    https://www.kaggle.com/tli725/jl-corpus (44.1 kHz WAV)
Licence:   CC0 1.0 (as reported by others; not verified)
Citation:  J. James, L. Tian, C. I. Watson: An Open Source Emotional Speech Corpus for Human Robot
           Interaction Applications. Interspeech 2018.

Layout: Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/SPEAKER_EMOTION_NNX_R.wav
          for example female1_angry_10a_1.wav: NNX sentence, R session; the folder itself will do

Traps: four speakers make few folds; the file's emotion is the only label, sentences come back;
secondary emotions are left out by the label set four, and so is excited.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name

LABELS = "angry sad neutral happy excited anxious apologetic assertive concerned encouraging"
NAME = rf"((?:fe)?male[12])_({LABELS.replace(' ', '|')})_(\d+[a-z])_(\d)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in chain(find_audio(root, "*"), find_audio(root, "Raw JL corpus*/JL(wav+txt)/*")):
        match = match_name(path, NAME, "JL-Corpus, SPEAKER_EMOTION_NNX_R (female1_angry_10a_1)")
        speaker = f"jlcorpus_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=match[2],
            language="en",
            gender=match[1][0],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

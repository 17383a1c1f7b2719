"""TESS, the Toronto Emotional Speech Set: English, 2 actresses, 7 emotions, 2800 utterances.

Language:  en
Numbers:   2800 utterances, 2 speakers, 1.6 hours
Labels:    angry disgust fear happy neutral ps sad
Protocols: emobox
Source:    https://doi.org/10.5683/SP2/E8H2MF (24.4 kHz WAV)
Licence:   CC BY-NC-ND 4.0
Citation:  M. K. Pichora-Fuller, K. Dupuis: Toronto Emotional Speech Set (TESS). Borealis, 2020.

Layout: SSS_WORD_EMOTION.wav, or the same in folders SSS_*, for example OAF_Fear/OAF_back_fear.wav
          SSS OAF (64 years) or YAF (26 years), ps pleasant surprise

Traps: two speakers are too few for speaker-independent folds (protocol si): use it held out. The
copy on Kaggle holds everything twice, in a folder of the same name one level deeper, which is not
looked at: take the folder whose children are OAF_angry, OAF_disgust and so on. One file of OAF is
misnamed OA_bite_neutral. Folders are spelt unevenly, so the label comes from the file's name.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name

NAME = r"(OAF?|YAF)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in chain(find_audio(root, "*"), find_audio(root, "[OY]A*_*/*")):
        match = match_name(path, NAME, "TESS, SSS_WORD_EMOTION (OAF_back_angry)")
        speaker = f"tess_{'YAF' if match[1] == 'YAF' else 'OAF'}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=match[3],
            language="en",
            gender="f",
            text=f"Say the word {match[2]}",
        )


if __name__ == "__main__":
    main(__doc__, utterances)

"""ShEMO, the Sharif Emotional Speech Database: Persian, radio plays, 87 speakers, 6 emotions.

Language:  fa
Numbers:   3000 utterances, 87 speakers, 3.4 hours
Labels:    anger fear happiness neutral sadness surprise
Protocols: si, emobox
Source:    https://github.com/pariajm/sharif-emotional-speech-dataset (44.1 kHz WAV)
Licence:   free for academic purposes; cite the paper
Citation:  O. Mohamad Nezami, P. Jamshid Lou, M. Karami: ShEMO: a large-scale validated database for
           Persian speech emotion detection. Language Resources and Evaluation 53, 2019.

Layout: female/GSSENN.wav and male/GSSENN.wav, for example female/F01A01.wav
          G F or M, SS speaker, E emotion (A F H N S W), NN number

Labels are the words that the letters stand for (W: surprise).
Traps: F is a woman at the first place and fear at the fourth. Only few utterances are of fear,
which EmoBox leaves out. The longest utterances exceed 30 s, see --max_wav_duration.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.errors import UserError

EMOTIONS = {
    "A": "anger",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "S": "sadness",
    "W": "surprise",
}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for folder in ("female", "male"):
        for path in find_audio(root, f"{folder}/*"):
            match = match_name(path, r"(([FM])\d\d)([AFHNSW])\d\d+", "ShEMO, GSSENN (F01A01)")
            if match[2].lower() != folder[0]:
                raise UserError(f"{path}: in the folder of the other gender: move it elsewhere")
            speaker = f"shemo_{match[1]}"
            yield Utterance(
                utt_id=f"{speaker}_{path.stem}",
                speaker=speaker,
                wav=path,
                emotion=EMOTIONS[match[3]],
                language="fa",
                gender=folder[0],
            )


if __name__ == "__main__":
    main(__doc__, utterances)

"""emoUERJ: Brazilian Portuguese, 8 actors, 4 emotions, 377 utterances.

Language:  pt
Numbers:   377 utterances, 8 speakers, unknown hours
Labels:    anger happiness neutral sadness
Protocols: si
Source:    https://zenodo.org/records/5427549, emoUERJ.zip (WAV)
Licence:   see the record (not verified)
Citation:  R. G. Bastos Germano, M. Pompeu Tcheou, F. da Rocha Henriques, S. Pinto Gomes Junior:
           emoUERJ: an emotional speech database in Portuguese. Zenodo, 2021.

Layout: GSSENN.wav, at any depth, for example emoUERJ/w04a11.wav
          G m man or w woman, SS actor (01 to 04 of each), E emotion (h a s n), NN recording

Labels are the words that the letters stand for: 91 happiness, 94 anger, 100 sadness, 92 neutral.
Traps: m01 and w01 are different actors. NN counts recordings and does not tell which of the ten
sentences it is; actors chose among them freely.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.data.download import Zenodo

EMOTIONS = {"a": "anger", "h": "happiness", "n": "neutral", "s": "sadness"}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "**/*"):
        match = match_name(path, r"(([mw])0[1-4])([ahns])\d\d", "emoUERJ, GSSENN (w04a11)")
        speaker = f"emouerj_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[3]],
            language="pt",
            gender="m" if match[2] == "m" else "f",
        )


if __name__ == "__main__":
    main(__doc__, utterances, download=[Zenodo("5427549", "emoUERJ.zip")])

"""Oréau: French, 32 speakers, 7 emotions, 434 utterances.

Language:  fr
Numbers:   434 utterances, 32 speakers, 0.3 hours
Labels:    colère dégoût joie neutre peur surprise tristesse
Protocols: si, emobox
Source:    https://zenodo.org/records/4405783 (44.1 kHz WAV)
Licence:   CC BY 4.0 (as reported by others; not verified)
Citation:  L. Kerkeni, C. Cleder, Y. Serrestou, K. Raoof: French Emotional Speech Database - Oréau.
           Zenodo, 2020.

Layout: G/sessE/SSTTTEv.wav, for example f/sessj/10a02Ja.wav, below the root or below OréauFR_02
          G f or m, E initial of the French word, SS speaker, TTT sentence, v version

Labels are the French words that the initials stand for.
Traps: the release has two trees, OréauFR_01 and OréauFR_02, with names in common; the second is
what others use, and the first is not looked at. Speakers recorded unequal numbers of sentences.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.errors import UserError

EMOTIONS = {
    "C": "colère",
    "D": "dégoût",
    "J": "joie",
    "N": "neutre",
    "P": "peur",
    "S": "surprise",
    "T": "tristesse",
}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    # *_02: the accent of Oréau is one character or two, depending on who unpacked it.
    for path in chain(find_audio(root, "[fm]/sess?/*"), find_audio(root, "*_02/[fm]/sess?/*")):
        match = match_name(path, r"(\d\d)([a-z]\d\d)([CDJNPST])[a-z]?", "Oréau, SSTTTEv (10a02Ja)")
        if path.parent.name[-1] != match[3].lower():
            raise UserError(f"{path}: the folder says another emotion: move it elsewhere")
        speaker = f"oreau_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[3]],
            language="fr",
            gender=path.parents[1].name,
        )


if __name__ == "__main__":
    main(__doc__, utterances)

"""EmoDB, the Berlin Database of Emotional Speech: German, 10 actors, 7 emotions, 535 utterances.

Language:  de
Numbers:   535 utterances, 10 speakers, 0.41 hours
Labels:    Wut Langeweile Ekel Angst Freude Trauer neutral
Protocols: si, emobox
Source:    http://emodb.bilderbar.info (16 kHz WAV)
Licence:   free to use; cite the paper
Citation:  F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss: A Database of German
           Emotional Speech. Interspeech 2005.

Layout: wav/SSTTTEv.wav, for example wav/03a01Fa.wav (WAV or FLAC)
           SS speaker, TTT sentence, E emotion (initial of the German word), v version

Labels are the German words that the initials stand for.
Traps: the same ten sentences come back for every speaker and emotion, so a split that is not
speaker-independent shares speakers and words; some sentences have several versions.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main
from espnet_mtkd.errors import UserError

EMOTIONS = {
    "W": "Wut",
    "L": "Langeweile",
    "E": "Ekel",
    "A": "Angst",
    "F": "Freude",
    "T": "Trauer",
    "N": "neutral",
}
GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "m")
GENDERS |= dict.fromkeys(("08", "09", "13", "14", "16"), "f")
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "wav/*"):
        match = re.fullmatch(r"(\d\d)([ab]\d\d)([WLEAFTN])[a-z]", path.stem)
        if not match or match[1] not in GENDERS or match[2] not in TEXTS:
            raise UserError(f"{path}: not a name of EmoDB, SSTTTEv (03a01Fa): move it elsewhere")
        speaker = f"emodb_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[3]],
            language="de",
            gender=GENDERS[match[1]],
            text=TEXTS[match[2]],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

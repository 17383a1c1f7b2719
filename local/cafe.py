"""CaFE, Canadian French Emotional speech: French, 12 actors, 7 emotions, 2 intensities.

Language:  fr
Numbers:   936 utterances, 12 speakers, 1.2 hours
Labels:    colère dégoût joie neutre peur surprise tristesse
Protocols: si, official, emobox
Source:    https://zenodo.org/records/1478765: CaFE_48k.zip (48 kHz WAV), or 192 kHz 24 bit AIFF in
           two parts
Licence:   CC BY-NC-SA 4.0
Citation:  P. Gournay, O. Lahaie, R. Lefebvre: A Canadian French Emotional Speech Dataset. ACM
           Multimedia Systems 2018.

Layout: EMOTION/INTENSITY/AA-E-I-S.wav, for example Colère/Faible/01-C-1-1.wav
          AA actor (odd male, even female), E initial of the French word, I intensity (1 Faible,
          2 Fort), S sentence; neutral has no intensity: Neutre/01-N-1.wav

The two parts at 192 kHz may lie side by side below the root; the 48 kHz version beside them is the
same speech again and refused. Only the file's name counts, folders may be spelt in any way: zip
programs differ in how they write the accents.

Traps: six sentences come back in every emotion; neutral has half as many recordings as the others
with both intensities. Actor 07 is fifteen years old.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.data.download import Zenodo

EMOTIONS = {
    "C": "colère",
    "D": "dégoût",
    "J": "joie",
    "N": "neutre",
    "P": "peur",
    "S": "surprise",
    "T": "tristesse",
}
TEXTS = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}
INTENSITIES = {"both": "12", "weak": "1", "strong": "2"}
NAME = r"(0[1-9]|1[0-2])-(?:N(?:-\d)?|([CDJPST])-([12]))-0?([1-6])"


def add_options(parser: ArgumentParser) -> None:
    """The script's own options."""
    parser.add_argument(
        "--intensity",
        choices=tuple(INTENSITIES),
        default="both",
        help="of the emotions; neutral has none and is always there (default: %(default)s)",
    )


def utterances(root: Path, intensity: str = "both") -> Iterator[Utterance]:
    """Yield every recording of the intensities asked for."""
    for path in find_audio(root, "**/*"):
        match = match_name(path, NAME, "CaFE, AA-E-I-S (01-C-1-1)")
        if match[3] and match[3] not in INTENSITIES[intensity]:
            continue
        speaker = f"cafe_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=EMOTIONS[match[2] or "N"],
            language="fr",
            gender="m" if int(match[1]) % 2 else "f",
            text=TEXTS[match[4]],
        )


if __name__ == "__main__":
    main(__doc__, utterances, add_options, [Zenodo("1478765", "CaFE_48k.zip")])

"""FESC, the Finnish Emotional Speech Corpus: Finnish, 9 actors, 5 emotions.

Language:  fi
Numbers:   unknown utterances, 9 speakers, unknown hours
Labels:    anger joy neutral sadness tenderness
Protocols: si, official
Source:    Aalto University, on request
Licence:   the owner's terms
Citation:  M. Airas, P. Alku: Emotions in Vowel Segments of Continuous Speech: Analysis of the
           Glottal Flow Using the Normalised Amplitude Quotient. Phonetica 63, 2006.

Layout: labels.tsv, which you have to write, and the audio files that it names (WAV or FLAC)
          a line of labels.tsv: FILE tab SPEAKER tab LABEL, for example
          TIRE/passage_01.wav	TIRE	joy

**Not verified**: the corpus is handed out on request and neither its file names nor its counts are
published, so this script does not guess them; labels.tsv, which you make from the documentation
that comes with the corpus, says what is what. A line that starts with # is a comment. The speakers
are TIRE TIPE JARA MIKO ANRO RIGR TUVA PEKO JAKA, in the order of the folds of the official code of
the paper (arXiv 2506.08717); LABEL is a word of the list above or the number that this code uses:
1 anger, 2 joy, 3 neutral, 4 sadness, 5 tenderness. That 5, which the code leaves out, is tenderness
is taken from the corpus's paper.

Traps: actors read the same passage in every emotion, in long recordings; the paper cuts at 20 s, so
what labels.tsv lists (passages or parts of them) changes the task.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, main
from espnet_mtkd.errors import UserError

SPEAKERS = ("TIRE", "TIPE", "JARA", "MIKO", "ANRO", "RIGR", "TUVA", "PEKO", "JAKA")
NUMBERS = {"1": "anger", "2": "joy", "3": "neutral", "4": "sadness", "5": "tenderness"}


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording of labels.tsv."""
    path = root / "labels.tsv"
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or fields[1] not in SPEAKERS:
            raise UserError(
                f"{path}:{number}: expected FILE tab SPEAKER tab LABEL with a speaker out of "
                f"{' '.join(SPEAKERS)}, found {line!r}"
            )
        label = NUMBERS.get(fields[2], fields[2])
        if label not in NUMBERS.values():
            raise UserError(
                f"{path}:{number}: unknown label {fields[2]!r}; known: "
                f"{' '.join(NUMBERS.values())}, or 1 to 5"
            )
        speaker = f"fesc_{fields[1]}"
        # The folder may tell takes of the same name apart.
        name = "-".join(Path(fields[0]).with_suffix("").parts)
        yield Utterance(
            utt_id=f"{speaker}_{name}",
            speaker=speaker,
            wav=root / fields[0],
            emotion=label,
            language="fi",
        )


if __name__ == "__main__":
    main(__doc__, utterances)

"""BAVED, the Basic Arabic Vocal Emotions Dataset: Arabic words, 61 speakers, 3 levels of emotion.

Language:  ar
Numbers:   1935 utterances, 61 speakers, unknown hours
Labels:    low normal high
Protocols: si
Source:    https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset (16 kHz WAV)
Licence:   none given: the repository holds no licence, its README names no terms
Citation:  A. Aouf: Basic Arabic Vocal Emotions Dataset (BAVED). GitHub, 2019.

Layout: K/SPK-G-AGE-WORD-LEVEL-REC.wav, K one digit, for example 0/12-f-19-0-2-1.wav
          SPK speaker, G m or f, WORD 0 to 6, LEVEL 0 low, 1 normal, 2 high, REC number

Traps: labels are levels of emotion, not emotions: high is joy, anger or grief alike. The label set
four refuses the corpus therefore; full has its three levels, which mix with no other corpus. Words,
seven in all, are shorter than a second. The level is read from the file's name, not the folder's.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name

LEVELS = {"0": "low", "1": "normal", "2": "high"}
WORDS = ("أعجبني", "لم يعجبني", "هذا", "الفيلم", "رائع", "مقبول", "سيئ")
NAME = r"(\d{1,3})-([MmFf])-(\d+)-([0-6])-([012])-(\d+)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "[0-9]/*"):
        match = match_name(path, NAME, "BAVED, SPK-G-AGE-WORD-LEVEL-REC (12-f-19-0-2-1)")
        speaker = f"baved_{int(match[1]):03d}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=LEVELS[match[5]],
            language="ar",
            gender=match[2].lower(),
            text=WORDS[int(match[4])],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

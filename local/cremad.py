"""CREMA-D: American English, 91 actors, 6 emotions, 12 sentences, 7442 utterances.

Language:  en
Numbers:   7441 utterances, 91 speakers, 5.3 hours
Labels:    ANG DIS FEA HAP NEU SAD
Protocols: si, emobox
Source:    https://github.com/CheyneyComputerScience/CREMA-D (git lfs; 16 kHz WAV)
Licence:   Open Database License 1.0, contents Database Contents License 1.0
Citation:  H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma: CREMA-D:
           Crowd-sourced Emotional Multimodal Actors Dataset. IEEE Transactions on Affective
           Computing 5(4), 2014.

Layout: AudioWAV/AAAA_SSS_EEE_LL.wav, for example AudioWAV/1001_DFA_ANG_XX.wav
          AAAA actor, SSS sentence, EEE emotion, LL level (LO MD HI, XX unspecified)

Labels are what the actors were asked for, not what the crowd heard. The actors' sex is read from
VideoDemographics.csv if it lies beside AudioWAV.

Traps: 1076_MTI_SAD_XX is silent and left out, so 7441 are left; 1040_ITH_SAD_X has a level of one
letter; without git lfs the files are pointers of 130 bytes; AudioMP3 holds the same speech again.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name

SILENT = "1076_MTI_SAD_XX"
TEXTS = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
NAME = rf"(1\d{{3}})_({'|'.join(TEXTS)})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording but the silent one."""
    table = root / "VideoDemographics.csv"
    genders = {}
    if table.is_file():
        with open(table, encoding="utf-8-sig", newline="") as f:
            genders = {row["ActorID"]: row["Sex"][:1].lower() for row in csv.DictReader(f)}
    for path in find_audio(root, "AudioWAV/*"):
        match = match_name(path, NAME, "CREMA-D, AAAA_SSS_EEE_LL (1001_DFA_ANG_XX)")
        if path.stem == SILENT:
            continue
        speaker = f"cremad_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=match[3],
            language="en",
            gender=genders.get(match[1]),
            text=TEXTS[match[2]],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

"""nEMO: Polish, 9 actors, 6 emotions, 90 sentences, 4481 utterances.

Language:  pl
Numbers:   4481 utterances, 9 speakers, 3 hours
Labels:    anger fear happiness neutral sadness surprised
Protocols: si
Source:    https://github.com/amu-cai/nEMO (WAV)
Licence:   CC BY-NC-SA 4.0
Citation:  I. Christop: nEMO: Dataset of Emotional Speech in Polish. LREC-COLING 2024.

Layout: samples/SPK_EMOTION_N.wav and data.tsv, for example samples/WR0_surprised_64.wav
          SPK two letters and 0, N sentence

data.tsv gives transcripts and the actors' gender; its column speaker_id is padded with spaces.
Traps: the same sentences come back in every emotion and from every speaker. The publisher says
"over 3 hours".
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.errors import UserError

NAME = r"([A-Z]{2}\d)_(anger|fear|happiness|neutral|sadness|surprised)_(\d+)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    table = root / "data.tsv"
    if not table.is_file():
        return
    with open(table, encoding="utf-8", newline="") as f:
        rows = {
            row["file_id"]: row for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)
        }
    for path in find_audio(root, "samples/*"):
        match = match_name(path, NAME, "nEMO, SPK_EMOTION_N (WR0_surprised_64)")
        row = rows.get(f"{path.stem}.wav")
        if row is None or row["emotion"] != match[2]:
            raise UserError(f"{path}: {table} does not have it, or with another emotion")
        speaker = f"nemo_{match[1]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=match[2],
            language="pl",
            gender=row["gender"][0],
            text=row["raw_text"],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

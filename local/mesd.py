"""MESD, the Mexican Emotional Speech Database: Spanish, single words, 6 emotions, 862 utterances.

Language:  es
Numbers:   862 utterances, 3 speakers, 0.2 hours
Labels:    Anger Disgust Fear Happiness Neutral Sadness
Protocols: si, emobox
Source:    https://data.mendeley.com/datasets/cy34mh68j9/5 (48 kHz WAV)
Licence:   CC BY 4.0 (as reported by others; not verified)
Citation:  M. M. Duville, L. M. Alonso-Valerdi, D. I. Ibarra-Zarate: Mexican Emotional Speech
           Database Based on Semantic, Frequency, Familiarity, Concreteness, and Cultural Shaping of
           Affective Prosody. Data 6(12), 2021.

Layout: EMOTION_V_C_WORD.wav, for example Anger_F_A_basta_ya.wav, or the same in the folder
          Mexican Emotional Speech Database (MESD); V voice (F woman, M man, C child), C word list

Traps: eleven people spoke (3 women, 2 men, 6 children) but the names do not tell them apart. The
three kinds of voice are what is called speakers here: no person is in two of them, so folds by kind
are speaker-independent, but there are only three, and they differ in age and sex. Words are shorter
than a second, some than 0.3 s, see --min_wav_duration.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name

NAME = r"(Anger|Disgust|Fear|Happiness|Neutral|Sadness)_([FMC])_([AB])_([a-z_]+)"


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in chain(find_audio(root, "*"), find_audio(root, "Mexican Emotional Speech*/*")):
        match = match_name(path, NAME, "MESD, EMOTION_V_C_WORD (Anger_F_A_basta_ya)")
        speaker = f"mesd_{match[2]}"
        yield Utterance(
            utt_id=f"{speaker}_{path.stem}",
            speaker=speaker,
            wav=path,
            emotion=match[1],
            language="es",
            gender=None if match[2] == "C" else match[2].lower(),
            text=match[4].replace("_", " "),
        )


if __name__ == "__main__":
    main(__doc__, utterances)

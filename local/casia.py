"""CASIA, the part that is passed around: Mandarin, 4 speakers, 6 emotions, 1200 utterances.

Language:  zh
Numbers:   1200 utterances, 4 speakers, 0.6 hours
Labels:    angry fear happy neutral sad surprise
Protocols: si, emobox
Source:    Institute of Automation, Chinese Academy of Sciences (16 kHz WAV); the part with 50
           sentences: https://aistudio.baidu.com/aistudio/datasetdetail/209512
Licence:   the institute's terms, research only (not verified)
Citation:  J. Tao, F. Liu, M. Zhang, H. Jia: Design of Speech Corpus for Mandarin Text to Speech.
           Blizzard Challenge Workshop 2008.

Layout: SPEAKER/EMOTION/NNN.wav, for example wangzhe/angry/201.wav
          SPEAKER liuchanhg wangzhe zhaoquanyin ZhaoZuoxiang

Traps: a file's name is only a number, the same in every folder: the folders are the labels. The
same 50 sentences come back in every emotion and from every speaker; four speakers make few folds.
The whole corpus (9600 utterances) has another layout and is not free.
"""

from collections.abc import Iterator
from pathlib import Path

from espnet_mtkd.data.corpus import Utterance, find_audio, main, match_name
from espnet_mtkd.errors import UserError

GENDERS = {"liuchanhg": "f", "wangzhe": "m", "zhaoquanyin": "f", "ZhaoZuoxiang": "m"}
LABELS = ("angry", "fear", "happy", "neutral", "sad", "surprise")


def utterances(root: Path) -> Iterator[Utterance]:
    """Yield every recording."""
    for path in find_audio(root, "*/*/*"):
        match = match_name(path, r"\d{3}", "CASIA, SPEAKER/EMOTION/NNN (wangzhe/angry/201)")
        name, emotion = path.parents[1].name, path.parent.name
        if name not in GENDERS or emotion not in LABELS:
            raise UserError(f"{path}: {name}/{emotion} is no SPEAKER/EMOTION of CASIA")
        speaker = f"casia_{name}"
        yield Utterance(
            utt_id=f"{speaker}_{emotion}_{match[0]}",
            speaker=speaker,
            wav=path,
            emotion=emotion,
            language="zh",
            gender=GENDERS[name],
        )


if __name__ == "__main__":
    main(__doc__, utterances)

"""Protocol ``official``: the folds that papers on a corpus use.

IEMOCAP: five folds, each tests one session (two speakers); the next session is the dev set.
FESC: nine folds, each tests one speaker, in the order of the code of the paper on MTKD; the next
speaker is the dev set.
CaFE: three folds, each tests four actors (01 to 04, 05 to 08, 09 to 12; two women and two men
each); the dev set is two of the other eight. (The code of the paper on MTKD has no dev sets for
IEMOCAP and CaFE and chooses its epoch on the test set.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from espnet_mtkd.data.protocol import Corpus, FoldOptions, Split, dev_of_speakers, rotate
from espnet_mtkd.errors import UserError


@dataclass(frozen=True)
class _Official:
    folds: int
    speaker: str  # pattern of a speaker id after "<corpus>_"
    fold_of: Callable[[str], str]  # from what the pattern caught to what sorts the folds
    group: str  # what a fold tests


_FESC = ("TIRE", "TIPE", "JARA", "MIKO", "ANRO", "RIGR", "TUVA", "PEKO", "JAKA")
OFFICIAL = {
    "cafe": _Official(3, r"(\d\d)", lambda actor: str((int(actor) - 1) // 4), "actors"),
    "fesc": _Official(9, f"({'|'.join(_FESC)})", lambda name: str(_FESC.index(name)), "speaker"),
    "iemocap": _Official(5, r"Ses0(\d)[FM]", lambda session: session, "session"),
}


def split(corpus: Corpus, options: FoldOptions) -> Split:
    """Folds of the corpus's own protocol, with a dev set that shares no speaker with either side.

    Raises:
        UserError: The corpus has none, or its speakers are not those of the protocol.
    """
    count(corpus.name, options)
    official, data = OFFICIAL[corpus.name], corpus.data
    groups: dict[str, list[str]] = {}
    for speaker in data.speakers:
        match = re.fullmatch(f"{corpus.name}_{official.speaker}", speaker)
        if not match:
            raise UserError(
                f"--protocol official: speaker {speaker!r} of {corpus.name} is not like "
                f"'{corpus.name}_{official.speaker}'; prepare the corpus with local/"
                f"{corpus.name}.py"
            )
        groups.setdefault(official.fold_of(match[1]), []).append(speaker)
    if len(groups) != official.folds:
        raise UserError(
            f"--protocol official: {corpus.name} has {official.folds} folds, each tests one "
            f"{official.group}, but the speakers with labels of the set make {len(groups)} "
            f"({' '.join(data.speakers)}); complete the corpus or use --protocol si"
        )
    if official.folds > 3:
        notes = [f"tested: one {official.group} a fold; dev: the next {official.group}"]
        return Split(rotate(data, [groups[key] for key in sorted(groups)]), notes)
    folds = []
    for key in sorted(groups):
        test = {utt for utt in data.wav_scp if data.utt2spk[utt] in groups[key]}
        train = data.wav_scp.keys() - test
        dev = dev_of_speakers(data, train, options.seed)
        folds.append({"train": train - dev, "dev": dev, "test": test})
    return Split(folds, ["tested: four actors a fold; dev: about a fifth of the other speakers"])


def count(corpus: str, options: FoldOptions) -> int:
    """The number of folds.

    Raises:
        UserError: The corpus has no official protocol.
    """
    if corpus not in OFFICIAL:
        raise UserError(
            f"--protocol official: {corpus} has no official folds; these have: "
            f"{' '.join(OFFICIAL)}; use --protocol si"
        )
    return OFFICIAL[corpus].folds

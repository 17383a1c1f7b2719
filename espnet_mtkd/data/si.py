"""Protocol ``si``: speaker-independent k-fold, for any corpus with three speakers or more."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from espnet_mtkd.data.partition import partition
from espnet_mtkd.data.protocol import Corpus, FoldOptions, Split, rotate
from espnet_mtkd.errors import UserError


def split(corpus: Corpus, options: FoldOptions) -> Split:
    """Every speaker is tested in exactly one fold.

    The speakers are cut into groups that are as like as speakers allow in what they hold of each
    class, in number of speakers and in gender. Fold k tests group k, selects on another group and
    trains on the rest (:func:`rotate`). Speakers of different languages in one corpus are cut
    apart, so every fold has every language. Speakers that are tied (they have audio in common)
    count as one. A corpus with fewer speakers than folds has as many folds as speakers.

    Raises:
        UserError: There are fewer than three folds or speakers.
    """
    check(options)
    data, notes = corpus.data, []
    # Tied speakers become one for the partition, and are told apart again after it.
    unit = {speaker: corpus.tied.get(speaker, speaker) for speaker in data.speakers}
    joined = replace(data, utt2spk={utt: unit[spk] for utt, spk in data.utt2spk.items()})
    members = defaultdict(list)
    for speaker, name in unit.items():
        members[name].append(speaker)
    for speakers in members.values():
        if len(speakers) > 1:
            notes.append(f"kept on one side because they share audio: {' '.join(speakers)}")
    populations: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, utts in joined.spk2utt.items():
        populations[tuple(sorted({data.utt2lang[utt] for utt in utts}))].append(name)
    for languages, names in populations.items():
        if len(names) < 3:
            raise UserError(
                f"corpus {corpus.name} has only {len(names)} speaker(s) of {' '.join(languages)} "
                "with labels of the set; protocol si needs 3: one to test, one as dev set, one to "
                "train; hold the corpus out (--heldout) or leave it out"
            )
    k = min(options.num_folds, *(len(names) for names in populations.values()))
    if k < options.num_folds:
        notes.append(f"{k} folds, because there are no more speakers")
    groups: list[list[str]] = [[] for _ in range(k)]
    for _, names in sorted(populations.items()):
        for group, part in zip(groups, partition(joined, names, k, options.seed), strict=True):
            group.extend(speaker for name in part for speaker in members[name])
    return Split(rotate(data, groups), notes)


def check(options: FoldOptions) -> None:
    """Raise UserError when the number of folds is too small."""
    if options.num_folds < 3:
        raise UserError(
            f"--num_folds {options.num_folds}: protocol si needs 3 or more: one to test, one as "
            "dev set, the rest to train"
        )


def count(corpus: str, options: FoldOptions) -> int:
    """The number of folds."""
    check(options)
    return options.num_folds

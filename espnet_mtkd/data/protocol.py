"""What every protocol gets and gives, and the rules that several of them share."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.partition import partition
from espnet_mtkd.errors import UserError

DEV_SHARE = 5  # the dev set is a fifth of the training set where a corpus has none


@dataclass(frozen=True)
class FoldOptions:
    """What the user chose for the split.

    Attributes:
        num_folds: Folds per corpus; only ``si`` is free to choose.
        seed: Another seed, another partition of the speakers.
        emobox_root: A checkout of EmoBox, for ``emobox``.
        keep_together: Speakers with audio in common go to the same side, instead of being an error.
    """

    num_folds: int = 5
    seed: int = 0
    emobox_root: Path | None = None
    keep_together: bool = False


@dataclass(frozen=True)
class Corpus:
    """What a protocol splits.

    Attributes:
        name: Of the corpus.
        data: The utterances with an emotion of the label set, labels mapped.
        whole: All utterances, publisher's labels.
        tied: Speaker -> the name of a group of speakers that have audio in common.
    """

    name: str
    data: DataDir
    whole: DataDir
    tied: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """What a protocol made of a corpus.

    Attributes:
        folds: Fold by fold, the utterances of train, dev and test.
        notes: Sentences for the audit.
    """

    folds: list[dict[str, set[str]]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """A way to split corpora.

    Attributes:
        split: Splits one corpus.
        count: How many folds a corpus has, known from its name alone.
        speaker_independent: Sides must not share a speaker or audio.
    """

    split: Callable[[Corpus, FoldOptions], Split]
    count: Callable[[str, FoldOptions], int]
    speaker_independent: bool


def digest(*parts: object) -> bytes:
    """A hash to order by: chance that depends on no file order, machine or library."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).digest()


def cells(data: DataDir, utts: Collection[str]) -> set[tuple[str, str]]:
    """Pairs of language and emotion that occur among utterances."""
    return {(data.utt2lang[utt], data.utt2emotion[utt]) for utt in utts}


def rotate(data: DataDir, groups: Sequence[Collection[str]]) -> list[dict[str, set[str]]]:
    """Folds of which the k-th tests group k, has another group as dev set and trains on the rest.

    The dev set is the group after the tested one (in a circle), unless a later one leaves fewer
    classes missing in the dev set and in training.

    Args:
        data: The corpus.
        groups: Three or more groups of its speakers, each speaker in one.
    """
    sets = [{utt for utt in data.wav_scp if data.utt2spk[utt] in group} for group in groups]
    held = [cells(data, utts) for utts in sets]
    k = len(groups)

    def rest(fold: int, dev: int) -> list[int]:
        return [group for group in range(k) if group not in (fold, dev)]

    def missing(fold: int, dev: int) -> int:
        # Fewest missing = most present, counted in the dev set and in training.
        return -len(held[dev]) - len(set().union(*(held[group] for group in rest(fold, dev))))

    folds = []
    for fold in range(k):
        others = [(fold + step) % k for step in range(1, k)]
        dev = min(others, key=lambda group, fold=fold: missing(fold, group))  # the first of equals
        train = set().union(*(sets[group] for group in rest(fold, dev)))
        folds.append({"train": train, "dev": sets[dev], "test": sets[fold]})
    return folds


def dev_of_speakers(data: DataDir, train: Collection[str], seed: int) -> set[str]:
    """The part of a training set that becomes the dev set: whole speakers, about a fifth.

    The speakers are cut into groups that are as like as speakers allow, and the group is taken that
    leaves the fewest classes missing on either side.

    Raises:
        UserError: There are fewer than two speakers.
    """
    part = data.subset(train)
    speakers = part.speakers
    if len(speakers) < 2:
        raise UserError(f"corpus {' '.join(part.corpora)}: one training speaker is too few")
    groups = partition(part, speakers, _num_groups(len(speakers)), seed)

    def missing(group: list[str]) -> int:
        dev = {utt for utt in part.wav_scp if part.utt2spk[utt] in group}
        return -len(cells(part, dev)) - len(cells(part, part.wav_scp.keys() - dev))

    chosen = min(groups, key=missing)
    return {utt for utt in part.wav_scp if part.utt2spk[utt] in chosen}


def dev_of_utterances(data: DataDir, train: Collection[str], seed: int) -> set[str]:
    """The part of a training set that becomes the dev set: a fifth of the utterances of each class.

    For folds whose sides share speakers anyway. Of every class with two utterances or more, at
    least one is taken.
    """
    classes = defaultdict(list)
    for utt in train:
        classes[data.utt2lang[utt], data.utt2emotion[utt]].append(utt)
    dev: set[str] = set()
    for utts in classes.values():
        utts.sort(key=lambda utt: digest(seed, utt))
        dev.update(utts[: max(round(len(utts) / DEV_SHARE), int(len(utts) > 1))])
    return dev


def _num_groups(speakers: int) -> int:
    return speakers // max(1, round(speakers / DEV_SHARE))

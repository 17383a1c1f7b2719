"""Folds: who is trained on, who decides when to stop, who is tested.

A protocol is a function that splits one corpus; :data:`PROTOCOLS` finds it by name. What follows
(joining corpora, languages, leak checks, writing) is the same for all of them.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir, combine
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.data.partition import partition
from espnet_mtkd.errors import UserError

SIDES = ("train", "dev", "test")


@dataclass(frozen=True)
class FoldOptions:
    """What the user chose for the split.

    Attributes:
        num_folds: Folds per corpus.
        seed: Another seed, another partition of the speakers.
    """

    num_folds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Protocol:
    """A way to split one corpus.

    Attributes:
        split: From a corpus with mapped labels to the ids of each side, fold by fold.
        speaker_independent: Sides must not share a speaker, or audio under two names.
    """

    split: Callable[[DataDir, FoldOptions], list[dict[str, set[str]]]]
    speaker_independent: bool


PROTOCOLS: dict[str, Protocol] = {}


@dataclass
class Folds:
    """The folds of an experiment.

    Attributes:
        protocol: Name of the protocol.
        options: How the split was made.
        labels: The label set, its emotions settled.
        languages: Of the training corpora, sorted.
        folds: Fold by fold, side -> data directory with mapped labels.
        heldout: Corpora that no fold holds, with mapped labels; None without any.
        corpora: The corpora as they were read, by name, publisher's labels.
        dropped: By corpus: how many utterances of each publisher's label were left out.
    """

    protocol: str
    options: FoldOptions
    labels: LabelSet
    languages: list[str]
    folds: list[dict[str, DataDir]]
    heldout: DataDir | None
    corpora: dict[str, DataDir]
    dropped: dict[str, Counter[str]]


def protocol(name: str, *, speaker_independent: bool) -> Callable:
    """Register a function as the protocol ``name``."""

    def register(split: Callable) -> Callable:
        PROTOCOLS[name] = Protocol(split, speaker_independent)
        return split

    return register


def make_folds(
    folders: Sequence[Path],
    labels: LabelSet,
    protocol_name: str = "si",
    options: FoldOptions | None = None,
    heldout: Sequence[str] = (),
) -> Folds:
    """Load corpora, map their labels, split them and check that nothing leaks.

    Args:
        folders: Data directories after stage 2.
        labels: The label set.
        protocol_name: A key of :data:`PROTOCOLS`.
        options: Folds and seed.
        heldout: Names of corpora that are in no fold.

    Returns:
        The folds; the order of folders and of the files' lines does not matter.

    Raises:
        UserError: The corpora, labels or protocol do not allow it, or a leak was found.
    """
    options = options or FoldOptions()
    if protocol_name not in PROTOCOLS:
        raise UserError(
            f"--protocol {protocol_name}: unknown; there are: {' '.join(sorted(PROTOCOLS))}"
        )
    everything = combine(_load(folders))
    corpora = {
        name: everything.select(lambda utt, name=name: everything.utt2corpus[utt] == name)
        for name in everything.corpora
    }
    for name in heldout:
        if name not in corpora:
            raise UserError(f"--heldout {name}: not among --in; there are: {' '.join(corpora)}")
    training = [name for name in corpora if name not in heldout]
    if not training:
        raise UserError("--heldout: every corpus is held out, none is left to train on")
    labels.for_corpora(list(corpora))  # every corpus must have a map
    labels = labels.for_corpora(training)
    mapped, dropped = {}, {}
    for name, data in corpora.items():
        mapped[name], dropped[name] = map_labels(data, labels)
    found = {emotion for name in training for emotion in mapped[name].utt2emotion.values()}
    for emotion in labels.emotions:
        if emotion not in found:
            raise UserError(
                f"{labels.path}: no utterance of {' '.join(training)} has the emotion {emotion!r}; "
                "add a corpus that has it or choose another label set"
            )
    chosen = PROTOCOLS[protocol_name]
    splits = {name: chosen.split(mapped[name], options) for name in training}
    lengths = {name: len(split) for name, split in splits.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"--protocol {protocol_name}: numbers of folds differ: {lengths}")
    joined = combine({name: mapped[name] for name in training})
    folds = [
        {side: joined.subset(set().union(*(fold[side] for fold in parts))) for side in SIDES}
        for parts in zip(*splits.values(), strict=True)
    ]
    held = combine({name: mapped[name] for name in sorted(set(heldout))}) if heldout else None
    for number, fold in enumerate(folds, start=1):
        sides = fold | ({"heldout": held} if held else {})
        check_sides(f"fold {number}", sides, chosen.speaker_independent)
    return Folds(protocol_name, options, labels, joined.languages, folds, held, corpora, dropped)


def map_labels(data: DataDir, labels: LabelSet) -> tuple[DataDir, Counter[str]]:
    """Replace the publisher's labels by emotions; leave out what the label set leaves out.

    Returns:
        The mapped part, and how many utterances of each publisher's label were left out.

    Raises:
        UserError: The label set does not know the corpus or a label, or nothing is left.
    """
    emotions: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    for utt in data.utterances:
        emotion = labels.map(data.utt2corpus[utt], data.utt2emotion[utt])
        if emotion in labels.emotions:
            emotions[utt] = emotion
        else:
            dropped[data.utt2emotion[utt]] += 1
    if not emotions:
        raise UserError(
            f"{labels.path}: no utterance of {' '.join(data.corpora)} has one of the emotions "
            f"{' '.join(labels.emotions)}"
        )
    mapped = data.subset(emotions)
    mapped.utt2emotion = emotions
    return mapped, dropped


def check_sides(where: str, sides: Mapping[str, DataDir], speaker_independent: bool) -> None:
    """Raise UserError when two sides share an utterance, or a speaker or audio if that matters."""
    names = list(sides)
    for index, left in enumerate(names):
        for right in names[index + 1 :]:
            both = f"{where}: in {left} and in {right}"
            shared = sides[left].wav_scp.keys() & sides[right].wav_scp.keys()
            if shared:
                raise UserError(f"{both}: utterance {min(shared)}")
            if not speaker_independent:
                continue
            speakers = shared_speakers(sides[left], sides[right])
            if speakers:
                raise UserError(
                    f"{both}: speaker {speakers[0]}; a speaker must be on one side only"
                )
            audio = identical_audio(sides[left], sides[right])
            if audio:
                raise UserError(
                    f"{both}: the same audio, as {audio[0][0]} and as {audio[0][1]}; remove one "
                    "from the corpus, or give both the same speaker"
                )


def shared_speakers(left: DataDir, right: DataDir) -> list[str]:
    """Speakers of both, sorted."""
    return sorted(set(left.speakers) & set(right.speakers))


def identical_audio(left: DataDir, right: DataDir) -> list[tuple[str, str]]:
    """Pairs of different utterances with equal samples, one of each side, sorted."""
    by_hash = defaultdict(list)
    for utt, digest in left.utt2audio_hash.items():
        by_hash[digest].append(utt)
    return sorted(
        (utt, other)
        for other, digest in right.utt2audio_hash.items()
        for utt in by_hash.get(digest, ())
        if utt != other
    )


def write_folds(folds: Folds, out: Path) -> None:
    """Write everything but the audit; folds of an earlier run in the same place are removed."""
    for old in out.iterdir() if out.is_dir() else ():
        if re.fullmatch(r"fold_\d+|heldout", old.name):
            shutil.rmtree(old)
    for number, fold in enumerate(folds.folds, start=1):
        for side, data in fold.items():
            data.write(out / f"fold_{number}" / side)
            for lang in folds.languages:
                part = data.select(lambda utt, data=data, lang=lang: data.utt2lang[utt] == lang)
                part.write(out / f"fold_{number}" / f"{side}_{lang}")
    if folds.heldout:
        folds.heldout.write(out / "heldout")
    write_text(out / "emotions", "".join(f"{emotion}\n" for emotion in folds.labels.emotions))
    write_text(out / "languages", "".join(f"{lang}\n" for lang in folds.languages))


@protocol("si", speaker_independent=True)
def split_si(data: DataDir, options: FoldOptions) -> list[dict[str, set[str]]]:
    """Speaker-independent k-fold: every speaker is tested in exactly one fold.

    The speakers are cut into ``num_folds`` groups that are as like as speakers allow in what they
    hold of each class, in number of speakers and in gender. Fold k tests group k, selects on
    another group and trains on the rest. The dev set is the group after the tested one (in a
    circle), unless a later one leaves fewer classes missing in the dev set and in training.
    Speakers of different languages in one corpus are cut apart, so every fold has every language.

    Raises:
        UserError: There are fewer speakers than folds, or fewer than three folds.
    """
    k = options.num_folds
    if k < 3:
        raise UserError(
            f"--num_folds {k}: protocol si needs 3 or more: one to test, one as dev set, the rest "
            "to train"
        )
    spk2utt = data.spk2utt
    populations: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for speaker, utts in spk2utt.items():
        populations[tuple(sorted({data.utt2lang[utt] for utt in utts}))].append(speaker)
    groups: list[list[str]] = [[] for _ in range(k)]
    for languages, speakers in sorted(populations.items()):
        if len(speakers) < k:
            raise UserError(
                f"--num_folds {k}: corpus {' '.join(data.corpora)} has only {len(speakers)} "
                f"speaker(s) of {' '.join(languages)} with labels of the set; choose at most "
                f"--num_folds {len(speakers)}"
            )
        for group, part in zip(groups, partition(data, speakers, k, options.seed), strict=True):
            group.extend(part)

    sets = [{utt for speaker in group for utt in spk2utt[speaker]} for group in groups]
    held = [{(data.utt2lang[utt], data.utt2emotion[utt]) for utt in utts} for utts in sets]

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


def _load(folders: Sequence[Path]) -> dict[str | Path, DataDir]:
    loaded: dict[str | Path, DataDir] = {}
    for folder in folders:
        if folder in loaded:
            raise UserError(f"--in {folder}: given twice")
        loaded[folder] = DataDir.load(folder)
        if not loaded[folder].utt2audio_hash or not loaded[folder].utt2dur:
            raise UserError(
                f"{folder}: no utt2dur or utt2audio_hash; run espnet_mtkd.bin.format_audio first"
            )
    return loaded

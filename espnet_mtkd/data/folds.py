"""Folds: who is trained on, who decides when to stop, who is tested.

A protocol splits one corpus; :data:`PROTOCOLS` finds it by name. What follows (joining corpora,
languages, leak checks, writing) is the same for all of them.

Corpora may have different numbers of folds. The experiment then has as many as the one with most;
of another with n, fold k trains on its fold ((k - 1) mod n) + 1, and its test set is dealt out
among the folds that share it: every utterance is still tested once, by a model that was trained on
exactly the training set that belongs to it.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_mtkd.data import emobox, official, si
from espnet_mtkd.data.datadir import MEASURED, DataDir, combine
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.fingerprint import connected, same_audio
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.data.protocol import Corpus, FoldOptions, Protocol, Split, digest
from espnet_mtkd.errors import UserError

SIDES = ("train", "dev", "test")
PROTOCOLS = {
    "si": Protocol(si.split, si.count, speaker_independent=True),
    "official": Protocol(official.split, official.count, speaker_independent=True),
    "emobox": Protocol(emobox.split, emobox.count, speaker_independent=False),
}


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
        notes: By corpus: what the protocol says about its folds.
        twins: Pairs of utterances with the same audio, and the part of the fingerprint's bits that
            differ.
    """

    protocol: str
    options: FoldOptions
    labels: LabelSet
    languages: list[str]
    folds: list[dict[str, DataDir]]
    heldout: DataDir | None
    corpora: dict[str, DataDir]
    dropped: dict[str, Counter[str]]
    notes: dict[str, list[str]] = field(default_factory=dict)
    twins: list[tuple[str, str, float]] = field(default_factory=list)


def find_protocol(name: str) -> Protocol:
    """Look a protocol up, or raise UserError."""
    if name not in PROTOCOLS:
        raise UserError(f"--protocol {name}: unknown; there are: {' '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


def num_folds(protocol_name: str, corpora: Iterable[str], options: FoldOptions) -> int:
    """How many folds an experiment has, before its corpora are read.

    Args:
        protocol_name: A key of :data:`PROTOCOLS`.
        corpora: Names of the corpora that are trained on.
        options: Folds and where EmoBox lies.
    """
    chosen = find_protocol(protocol_name)
    return max(chosen.count(corpus, options) for corpus in corpora)


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
        options: Folds, seed and the like.
        heldout: Names of corpora that are in no fold.

    Returns:
        The folds; the order of folders and of the files' lines does not matter.

    Raises:
        UserError: The corpora, labels or protocol do not allow it, or a leak was found.
    """
    options = options or FoldOptions()
    chosen = find_protocol(protocol_name)
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
    k = num_folds(protocol_name, training, options)
    labels.for_corpora(list(corpora))  # every corpus must have a map
    labels = labels.for_corpora(
        {name: set(corpora[name].utt2emotion.values()) for name in training}
    )
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
    used = combine(dict(mapped))
    twins = same_audio(used.utt2audio_hash, used.utt2fingerprint)
    speakers = used.utt2spk
    tied = connected((speakers[a], speakers[b]) for a, b, _ in twins if speakers[a] != speakers[b])
    splits: dict[str, Split] = {
        name: chosen.split(
            Corpus(name, mapped[name], corpora[name], tied if options.keep_together else {}),
            options,
        )
        for name in training
    }
    if max(len(split.folds) for split in splits.values()) < k:
        fewer = {name: len(split.folds) for name, split in splits.items()}
        raise UserError(
            f"--num_folds {k}: no corpus has so many speakers with labels of the set; choose at "
            f"most --num_folds {max(fewer.values())}"
        )
    joined = combine({name: mapped[name] for name in training})
    spread = [deal(mapped[name], split.folds, k) for name, split in splits.items()]
    folds = [
        {side: joined.subset(set().union(*(fold[side] for fold in parts))) for side in SIDES}
        for parts in zip(*spread, strict=True)
    ]
    held = combine({name: mapped[name] for name in sorted(set(heldout))}) if heldout else None
    for number, fold in enumerate(folds, start=1):
        sides = fold | ({"heldout": held} if held else {})
        check_sides(f"fold {number}", sides, chosen.speaker_independent, twins)
    notes = {name: split.notes for name, split in splits.items()}
    for name, split in splits.items():
        if len(split.folds) < k:
            notes[name] = [
                *notes[name],
                f"{len(split.folds)} fold(s), the experiment has {k}: fold i trains on its fold "
                f"((i - 1) mod {len(split.folds)}) + 1 and tests a part of that fold's test set",
            ]
    return Folds(
        protocol_name,
        options,
        labels,
        joined.languages,
        folds,
        held,
        corpora,
        dropped,
        notes,
        twins,
    )


def deal(data: DataDir, folds: Sequence[dict[str, set[str]]], k: int) -> list[dict[str, set[str]]]:
    """Make ``k`` folds of fewer: repeat train and dev, and deal out each test set.

    Args:
        data: The corpus.
        folds: Its folds, ``k`` at most.
        k: Folds of the experiment.

    Raises:
        UserError: A test set has fewer utterances than there are folds to share it.
    """
    dealt = []
    for number in range(k):
        fold = folds[number % len(folds)]
        sharers = range(number % len(folds), k, len(folds))
        # By class first, so that every part has its share of each.
        order = sorted(
            fold["test"],
            key=lambda utt: (data.utt2lang[utt], data.utt2emotion[utt], digest(utt)),
        )
        part = order[sharers.index(number) :: len(sharers)]
        if not part:
            raise UserError(
                f"corpus {' '.join(data.corpora)}: fold {number % len(folds) + 1} has only "
                f"{len(order)} utterances to test, and {len(sharers)} folds share it"
            )
        dealt.append(fold | {"test": set(part)})
    return dealt


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


def check_sides(
    where: str,
    sides: Mapping[str, DataDir],
    speaker_independent: bool,
    twins: Sequence[tuple[str, str, float]],
) -> None:
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
            audio = shared_audio(sides[left], sides[right], twins)
            if audio:
                more = f" (and {len(audio) - 1} more)" if len(audio) > 1 else ""
                raise UserError(
                    f"{both}: the same audio, as {audio[0][0]} and as {audio[0][1]}{more}; remove "
                    "one from the corpus, or, with --protocol si, give their speakers to one side "
                    "with --keep_together"
                )


def shared_speakers(left: DataDir, right: DataDir) -> list[str]:
    """Speakers of both, sorted."""
    return sorted(set(left.speakers) & set(right.speakers))


def shared_audio(
    left: DataDir, right: DataDir, twins: Sequence[tuple[str, str, float]]
) -> list[tuple[str, str]]:
    """Recordings that are on both sides: the first utterance of each side, sorted."""
    group = connected((a, b) for a, b, _ in twins)

    def firsts(side: DataDir) -> dict[str, str]:
        return {
            name: utt for utt, name in sorted(group.items(), reverse=True) if utt in side.wav_scp
        }

    ours, theirs = firsts(left), firsts(right)
    return sorted((ours[name], theirs[name]) for name in ours.keys() & theirs.keys())


def write_folds(folds: Folds, out: Path) -> None:
    """Write everything but the audit; folds of an earlier run in the same place are removed."""
    for old in out.iterdir() if out.is_dir() else ():
        if re.fullmatch(r"fold_\d+|heldout", old.name):
            shutil.rmtree(old)
    for number, fold in enumerate(folds.folds, start=1):
        for side, whole in fold.items():
            data = _slim(whole)
            data.write(out / f"fold_{number}" / side)
            for lang in folds.languages:
                part = data.select(lambda utt, data=data, lang=lang: data.utt2lang[utt] == lang)
                part.write(out / f"fold_{number}" / f"{side}_{lang}")
    if folds.heldout:
        _slim(folds.heldout).write(out / "heldout")
    write_text(out / "emotions", "".join(f"{emotion}\n" for emotion in folds.labels.emotions))
    write_text(out / "languages", "".join(f"{lang}\n" for lang in folds.languages))


def _slim(data: DataDir) -> DataDir:
    """Without what is large and of no use to training."""
    return replace(data, utt2source={}, utt2fingerprint={})


def _load(folders: Sequence[Path]) -> dict[str | Path, DataDir]:
    loaded: dict[str | Path, DataDir] = {}
    for folder in folders:
        if folder in loaded:
            raise UserError(f"--in {folder}: given twice")
        loaded[folder] = DataDir.load(folder)
        for name in MEASURED:
            if not getattr(loaded[folder], name):
                raise UserError(f"{folder}: no {name}; run espnet_mtkd.bin.format_audio first")
    return loaded

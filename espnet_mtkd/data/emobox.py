"""Protocol ``emobox``: the published folds of EmoBox, read from a checkout of it.

Source: https://github.com/emo-box/EmoBox (Ma et al., EmoBox: Multilingual Multi-corpus Speech
Emotion Recognition Toolkit and Benchmark, Interspeech 2024), of which the files
``data/<corpus>/fold_<k>/<corpus>_<side>_fold_<k>.jsonl`` and the map of the labels are read.

Only which utterance is on which side is taken from there; emotions come from the corpus and the
label set, as in every protocol. EmoBox's labels serve as a check: all utterances of one publisher's
label must have one class there. Some folds share speakers between train and test: the audit says
so, and how many. Where EmoBox has no dev set (it has a random fifth of the training set drawn anew
at each run), a fifth of the training set becomes one: whole speakers if train and test share none
(:func:`dev_of_speakers`), else a fifth of each class's utterances (:func:`dev_of_utterances`).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.protocol import (
    Corpus,
    FoldOptions,
    Split,
    dev_of_speakers,
    dev_of_utterances,
)
from espnet_mtkd.errors import UserError

LABEL_MAPS = ("label_map.json", "label_dict.json")
SIDES = {"train": "train", "valid": "dev", "test": "test"}  # EmoBox's names and ours


def split(corpus: Corpus, options: FoldOptions) -> Split:
    """The folds of EmoBox, restricted to the utterances with an emotion of the label set.

    Raises:
        UserError: EmoBox lacks the corpus, its files are not what they should be, or its utterances
            and ours are not the same.
    """
    folder = find(corpus.name, options)
    classes = _read_classes(folder)
    ours = _names(corpus.whole)
    folds: list[dict[str, set[str]]] = []
    facts: dict[str, list[int]] = defaultdict(list)
    emotion_of: dict[str, str] = {}
    for number in range(1, count(corpus.name, options) + 1):
        sides: dict[str, set[str]] = {}
        unmatched: list[str] = []
        for theirs, side in SIDES.items():
            path = folder / f"fold_{number}" / f"{folder.name}_{theirs}_fold_{number}.jsonl"
            if theirs == "valid" and not path.is_file():
                continue
            sides[side] = set()
            for names, label in _read(path, classes):
                utt = next((min(ours[n]) for n in names if len(ours.get(n, ())) == 1), None)
                if utt is None:
                    unmatched.append(names[0])
                    continue
                if utt in sides[side]:
                    raise UserError(f"{path}: two of its utterances would be our {utt}")
                sides[side].add(utt)
                emotion_of[utt] = label
        listed = set().union(*sides.values())
        missing = sorted(corpus.data.wav_scp.keys() - listed)
        _check_complete(folder / f"fold_{number}", corpus, unmatched, missing)
        for utt in unmatched:
            facts[f"{utt} is not in the data directory and is left out"].append(number)
        train, test = sides["train"], sides["test"]
        speakers = [{corpus.whole.utt2spk[utt] for utt in side} for side in (train, test)]
        shared = len(speakers[0] & speakers[1])
        fact = (
            f"{len(train)} utterances to train and {len(test)} to test, {shared} of "
            f"{len(speakers[1])} test speakers in the training set"
        )
        sides = {side: utts & corpus.data.wav_scp.keys() for side, utts in sides.items()}
        if "dev" not in sides:
            alone = not shared and len({corpus.data.utt2spk[utt] for utt in sides["train"]}) > 1
            choose = dev_of_speakers if alone else dev_of_utterances
            sides["dev"] = choose(corpus.data, sides["train"], options.seed)
            sides["train"] = sides["train"] - sides["dev"]
            what = "speakers" if alone else "utterances of each class"
            fact += f"; dev: about a fifth of the training set's {what}"
        facts[fact].append(number)
        folds.append(sides)
    _check_labels(folder, corpus.whole, emotion_of)
    notes = [
        f"EmoBox's fold(s) {' '.join(map(str, numbers))}: {fact}" for fact, numbers in facts.items()
    ]
    return Split(folds, notes)


def find(corpus: str, options: FoldOptions) -> Path:
    """The folder of a corpus in the checkout.

    Raises:
        UserError: There is no checkout, or the corpus is not in it.
    """
    if options.emobox_root is None:
        raise UserError("--protocol emobox needs --emobox_root, the folder of an EmoBox checkout")
    data = options.emobox_root / "data"
    if not data.is_dir():
        raise UserError(f"--emobox_root {options.emobox_root}: no folder data/ in it")
    if (data / corpus).is_dir():
        return data / corpus
    known = sorted(path.name for path in data.iterdir() if (path / "fold_1").is_dir())
    raise UserError(f"{data}: no folds of {corpus}; there are: {' '.join(known)}")


def count(corpus: str, options: FoldOptions) -> int:
    """The number of folds."""
    folder = find(corpus, options)
    numbers = sorted(
        int(path.name[5:]) for path in folder.iterdir() if re.fullmatch(r"fold_\d+", path.name)
    )
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise UserError(f"{folder}: expected fold_1, fold_2, ..., found {numbers}")
    return len(numbers)


def _names(data: DataDir) -> dict[str, set[str]]:
    """Our utterances by what EmoBox may call them: the ends of their ids and of their files' paths.

    A name that several have (CASIA has a 201.wav for each speaker and emotion) finds none of them;
    a longer piece of the path does.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for utt in data.utterances:
        for owner in (data.utt2spk[utt], data.utt2corpus[utt]):
            found[_normal(utt[len(owner) + 1 :])].add(utt)
        for name in _ends(data.utt2source.get(utt, "")):
            found[name].add(utt)
    return found


def _ends(path: str) -> list[str]:
    """The last one, two, three and four parts of a path without its suffix, normalised."""
    parts = re.sub(r"\.\w+$", "", path).split("/") if path else []
    return [_normal("/".join(parts[-n:])) for n in range(1, min(4, len(parts)) + 1)]


def _normal(name: str) -> str:
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def _read_classes(folder: Path) -> dict[str, str]:
    """EmoBox's classes by its labels, in lower case: one map has Neutral where its data has not."""
    for name in LABEL_MAPS:
        if (folder / name).is_file():
            classes = _json((folder / name).read_text(encoding="utf-8"), str(folder / name))
            return {label.lower(): emotion for label, emotion in classes.items()}
    raise UserError(f"{folder}: no {' or '.join(LABEL_MAPS)}")


def _read(path: Path, classes: dict[str, str]) -> list[tuple[list[str], str]]:
    """Of every utterance of a file its possible names, the likeliest first, and its class."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; is the EmoBox checkout complete?")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = _json(line, f"{path}:{number}")
        if not isinstance(row.get("key"), str) or not isinstance(row.get("emo"), str):
            raise UserError(f"{path}:{number}: expected an object with 'key' and 'emo'")
        if row["emo"].lower() not in classes:
            raise UserError(f"{path}:{number}: label {row['emo']!r} is not in EmoBox's label map")
        key = row["key"].removeprefix(f"{row.get('dataset')}-").removesuffix(".wav")
        names = [_normal(key), *_ends(str(row.get("wav", "")))]
        rows.append((names, classes[row["emo"].lower()]))
    if not rows:
        raise UserError(f"{path}: empty")
    return rows


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object")
    return value


def _check_complete(fold: Path, corpus: Corpus, unmatched: list[str], missing: list[str]) -> None:
    problems = []
    # A script may leave out a file that is known to be damaged; more is another corpus.
    if len(unmatched) > len(corpus.whole) // 100:
        problems.append(
            f"{len(unmatched)} utterances are not in the data directory (the first is "
            f"{min(unmatched)!r}; left out in stage 2, or another version of the corpus?)"
        )
    if missing:
        problems.append(
            f"{len(missing)} of the {len(corpus.data)} utterances with labels of the set are in no "
            f"side (the first is {missing[0]!r})"
        )
    if problems:
        raise UserError(f"{fold}: not our {corpus.name}: {'; '.join(problems)}")


def _check_labels(folder: Path, whole: DataDir, emotion_of: dict[str, str]) -> None:
    """Every publisher's label must be one class of EmoBox."""
    seen: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for utt in sorted(emotion_of):
        seen[whole.utt2emotion[utt]][emotion_of[utt]].append(utt)
    for label, by_class in seen.items():
        if len(by_class) > 1:
            counts = {name: len(utts) for name, utts in sorted(by_class.items())}
            odd = min(by_class.values(), key=len)[0]
            raise UserError(
                f"{folder}: utterances with the publisher's label {label!r} have several of "
                f"EmoBox's classes: {counts}; see {odd}"
            )

"""Change what is trained on: hide labels, add unlabelled corpora and views (stage 3).

The development and test sets stay as they are.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir, combine
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.data.views import VIEW_MARK
from espnet_mtkd.errors import UserError, cli


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds_dir", required=True, type=Path, help="Folder of make_folds")
    parser.add_argument("--share", type=float, default=1.0, help="Labels to keep, above 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="Which labels are kept")
    parser.add_argument(
        "--unlabelled",
        type=Path,
        nargs="*",
        default=[],
        help="Data directories of stage 2 whose labels are not used; students learn from the "
        "teachers on them. Of a corpus that is also trained on: what the speakers of the training "
        "set say in other emotions",
    )
    parser.add_argument(
        "--views",
        type=Path,
        nargs="*",
        default=[],
        help="Data directories of make_views: views join the utterances that they are of",
    )
    parser.add_argument(
        "--output_dir",
        required=True,
        type=Path,
        help="A copy of the folds: train and train_* have the labelled utterances only; train_all, "
        "where there are others, has all; languages_all has the languages of train_all",
    )
    return parser


def keep_labels(data: DataDir, share: float, seed: int) -> set[str]:
    """Choose the utterances that keep their label: of each language and emotion the same share.

    Args:
        data: the training set.
        share: at least one utterance of each language and emotion is kept.
        seed: the choice for a smaller share is a part of that for a larger one.
    """
    groups = defaultdict(list)
    for utt in data.utterances:
        groups[data.utt2lang[utt], data.utt2emotion[utt]].append(utt)
    kept: set[str] = set()
    for (language, emotion), utts in groups.items():
        random.Random(f"{seed} {language} {emotion}").shuffle(utts)
        kept.update(utts[: max(1, round(share * len(utts)))])
    return kept


def load_unlabelled(folders: Sequence[Path]) -> DataDir:
    """Load corpora and forget their labels."""
    data = combine({folder: DataDir.load(folder) for folder in folders})
    data.utt2emotion = dict.fromkeys(data.wav_scp, HIDDEN)
    data.utt2source, data.utt2fingerprint = {}, {}  # as in the sets of folds
    return data


def beside(fold: Path, train: DataDir, unlabelled: DataDir) -> DataDir:
    """Return the unlabelled utterances that a training set may have beside its own.

    Of a corpus of the training set those of its speakers, their other emotions, but of no speaker
    who is in the dev or test set as well. Of other corpora all.

    Raises:
        UserError: an utterance of another corpus, or its audio (decoded samples), is in the dev or
            test set: the teachers' logits are no labels, but near.
    """
    corpora, speakers = set(train.utt2corpus.values()), set(train.utt2spk.values())
    tested: dict[str, str] = {}  # by utterance and by audio
    for side in ("dev", "test"):
        data = DataDir.load(fold / side)
        speakers -= set(data.utt2spk.values())
        for utt in data.utterances:
            where = f"{utt} of {fold.name}/{side}"
            tested[utt] = tested[data.utt2audio_hash.get(utt, utt)] = where
    chosen = []
    for utt in unlabelled.utterances:
        own = unlabelled.utt2corpus[utt] in corpora
        if utt in train.wav_scp or (own and unlabelled.utt2spk[utt] not in speakers):
            continue
        same = tested.get(utt) or tested.get(unlabelled.utt2audio_hash.get(utt, utt))
        if same and not own:
            raise UserError(f"--unlabelled: {utt} is {same}; take corpora that are not tested on")
        if not same:
            chosen.append(utt)
    return unlabelled.subset(chosen)


def add_views(data: DataDir, views: DataDir) -> DataDir:
    """Return the data and the views of its utterances, with their labels.

    Raises:
        UserError: an utterance has no view.
    """
    of = defaultdict(list)
    for view in views.utterances:
        of[view.rpartition(VIEW_MARK)[0]].append(view)
    for utt in data.utterances:
        if utt not in of:
            raise UserError(f"--views: no view of {utt}; run stage 2 again")
    found = views.subset(view for utt in data.utterances for view in of[utt])
    found.utt2emotion = {view: data.utt2emotion[u] for u in data.utterances for view in of[u]}
    for name in (entry.name for entry in fields(DataDir)):
        if not getattr(data, name):
            setattr(found, name, {})
    return combine({"utterances": data, "views": found})


def replace_set(folder: Path, data: DataDir) -> None:
    """Write a data directory in the place of another."""
    shutil.rmtree(folder, ignore_errors=True)
    data.write(folder)


def change(
    fold: Path, share: float, seed: int, unlabelled: DataDir | None, views: DataDir
) -> tuple[str, set[str]]:
    """Change the training sets of a fold.

    Returns:
        A row of the audit about it, and the corpora that unlabelled utterances are of.
    """
    train = DataDir.load(fold / "train")
    more = DataDir() if unlabelled is None else beside(fold, train, unlabelled)
    kept: Collection[str] = keep_labels(train, share, seed) if share < 1 else set(train.wav_scp)
    if share < 1 or unlabelled is not None:
        whole = combine({"train": train, "unlabelled": more}) if more else train
        labels = train.utt2emotion
        hidden = {u: labels[u] if u in kept else HIDDEN for u in whole.wav_scp}
        whole = replace(whole, utt2emotion=hidden)
        replace_set(fold / "train_all", add_views(whole, views) if views else whole)
    for folder in [fold / "train", *(fold / f"train_{k}" for k in train.languages)]:
        part = DataDir.load(folder).select(lambda utt: utt in kept)
        replace_set(folder, add_views(part, views) if views else part)
    numbers = (len(kept), len(train) - len(kept), len(more))
    each = len(views) // len({view.rpartition(VIEW_MARK)[0] for view in views.wav_scp} or {""})
    row = f"| {fold.name} | " + " | ".join(map(str, (*numbers, each))) + " |\n"
    return row, set(more.utt2corpus.values())


AUDIT = """
## Changed training sets

The tables above are of the folds before labels were hidden and speech was added. Dev and test sets
are as they were. Students with teachers also train on what has no label.

| fold | with label | label hidden | of unlabelled corpora | views of each |
| --- | ---: | ---: | ---: | ---: |
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the copy."""
    args = get_parser().parse_args(argv)
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share}: must be above 0, at most 1")
    if not list(args.folds_dir.glob("fold_*/train")):
        raise UserError(f"--folds_dir {args.folds_dir}: has no fold_*/train; stage 3 makes them")
    unlabelled = load_unlabelled(args.unlabelled) if args.unlabelled else None
    views = combine({folder: DataDir.load(folder) for folder in args.views})
    views.utt2source, views.utt2fingerprint = {}, {}
    shutil.copytree(args.folds_dir, args.output_dir, dirs_exist_ok=True)
    rows, silent = [], set(unlabelled.utt2corpus.values() if unlabelled else ())
    for fold in sorted(args.output_dir.glob("fold_*"), key=lambda path: int(path.name[5:])):
        row, heard = change(fold, args.share, args.seed, unlabelled, views)
        rows.append(row)
        silent -= heard
    for corpus in sorted(silent):
        raise UserError(
            f"--unlabelled {corpus}: adds nothing: of a corpus that is trained on only what its "
            "speakers say in other emotions is heard beside it, and there is none"
        )
    audit = args.output_dir / "audit.md"
    if audit.is_file():
        write_text(audit, audit.read_text(encoding="utf-8") + AUDIT + "".join(rows))
    languages = {*(args.folds_dir / "languages").read_text(encoding="utf-8").split()}
    languages |= set(unlabelled.languages if unlabelled else ())
    write_text(args.output_dir / "languages_all", "".join(f"{k}\n" for k in sorted(languages)))


if __name__ == "__main__":
    cli(main)

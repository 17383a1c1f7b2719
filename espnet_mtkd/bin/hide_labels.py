"""Hide most labels of the training sets, to see what unlabelled speech is worth (stage 3)."""

from __future__ import annotations

import argparse
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.labels import HIDDEN
from espnet_mtkd.errors import UserError, cli


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds_dir", required=True, type=Path, help="Folder of make_folds")
    parser.add_argument("--share", required=True, type=float, help="Labels to keep, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="Which labels are kept")
    parser.add_argument(
        "--output_dir",
        required=True,
        type=Path,
        help="A copy of the folds: train and train_* have the labelled utterances only, train_all "
        "has all of them",
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


def main(argv: Sequence[str] | None = None) -> None:
    """Write the copy."""
    args = get_parser().parse_args(argv)
    if not 0 < args.share < 1:
        raise UserError(f"--share {args.share}: must be between 0 and 1")
    if not list(args.folds_dir.glob("fold_*/train")):
        raise UserError(f"--folds_dir {args.folds_dir}: has no fold_*/train; stage 3 makes them")
    shutil.copytree(args.folds_dir, args.output_dir, dirs_exist_ok=True)
    for fold in sorted(args.output_dir.glob("fold_*")):
        data = DataDir.load(fold / "train")
        kept = keep_labels(data, args.share, args.seed)
        labels = data.utt2emotion
        data.utt2emotion = {utt: labels[utt] if utt in kept else HIDDEN for utt in labels}
        data.write(fold / "train_all")
        for folder in sorted(fold.glob("train*")):
            if folder.name != "train_all":
                part = DataDir.load(folder)
                shutil.rmtree(folder)
                part.subset(kept & set(part.utterances)).write(folder)


if __name__ == "__main__":
    cli(main)

"""Folds that lack some of what is trained on: a part of the speakers, or a language (stage 3).

A part is for copies of the teachers that say what they think of speakers they have never heard
(cross-fitting); a language is for students that meet it only when they are tested.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.datadir import DataDir
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.fingerprint import connected
from espnet_mtkd.data.partition import partition
from espnet_mtkd.errors import UserError, cli


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds_dir", required=True, type=Path, help="Folder of make_folds")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--part", help="K/N: the speakers' part K of N, in every language")
    what.add_argument("--language", help="A language, from training and development sets")
    parser.add_argument("--seed", type=int, default=0, help="Of the parts")
    parser.add_argument(
        "--output_dir",
        required=True,
        type=Path,
        help="Gets fold_*/train*, fold_*/dev*, the names, and for a part fold_*/left_out",
    )
    return parser


def speakers_of_part(data: DataDir, part: int, num_parts: int, seed: int) -> set[str]:
    """Return the speakers of a part: of each language one in ``num_parts``, as far as there are.

    Speakers with a recording in common go together. A language with fewer groups of speakers than
    parts has empty parts; one with a single group is left out of none, since nothing would be left.

    Args:
        data: the training set.
        part: from 1 to ``num_parts``.
    """
    heard: dict[str, str] = {}
    pairs = []
    for utt in data.utterances:
        speaker = data.utt2spk[utt]
        pairs.append((speaker, heard.setdefault(data.utt2audio_hash[utt], speaker)))
    group = connected(pairs)
    chosen: set[str] = set()
    for language in data.languages:
        own = data.select(lambda utt, k=language: data.utt2lang[utt] == k)
        leaders = sorted({group[speaker] for speaker in own.speakers})
        if len(leaders) < 2:
            continue
        merged = own.subset(own.wav_scp)
        merged.utt2spk = {utt: group[speaker] for utt, speaker in own.utt2spk.items()}
        merged.spk2gender = {k: v for k, v in own.spk2gender.items() if k in leaders}
        parts = partition(merged, leaders, min(num_parts, len(leaders)), seed)
        if part <= len(parts):
            chosen |= {spk for spk in own.speakers if group[spk] in parts[part - 1]}
    return chosen


def read_part(text: str) -> tuple[int, int]:
    """Read K/N."""
    numbers = text.split("/")
    if len(numbers) == 2 and all(n.isdecimal() for n in numbers):
        part, num_parts = map(int, numbers)
        if num_parts >= 2 and 1 <= part <= num_parts:
            return part, num_parts
    raise UserError(f"--part {text}: must be K/N with N at least 2 and K from 1 to N")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folds."""
    args = get_parser().parse_args(argv)
    languages = (args.folds_dir / "languages").read_text(encoding="utf-8").split()
    part = read_part(args.part) if args.part else None
    if args.language and (args.language not in languages or len(languages) < 2):
        raise UserError(
            f"--language {args.language}: must be one of several, here {', '.join(languages)}"
        )
    for fold in sorted(args.folds_dir.glob("fold_*")):
        out = args.output_dir / fold.name
        shutil.rmtree(out, ignore_errors=True)
        left: set[str] = set()
        if part:
            train = DataDir.load(fold / "train")
            speakers = speakers_of_part(train, *part, args.seed)
            # What they say without a label, too: its teachers have heard their voices.
            whole = fold / "train_all"
            spoken = DataDir.load(whole) if whole.is_dir() else train
            left = {utt for utt in spoken.wav_scp if spoken.utt2spk[utt] in speakers}
            if not left:
                raise UserError(
                    f"--part {args.part}: no speaker of {fold.name}/train is left for it; "
                    "choose a smaller --crossfit"
                )
            spoken.subset(left).write(out / "left_out")
        for folder in sorted([*fold.glob("train*"), *fold.glob("dev*")]):
            if args.language and folder.name.endswith(f"_{args.language}"):
                continue
            data = DataDir.load(folder)
            kept = {u for u, k in data.utt2lang.items() if k != args.language} - left
            data.subset(kept).write(out / folder.name)
    for path in args.folds_dir.glob("languages*"):
        names = [k for k in path.read_text(encoding="utf-8").split() if k != args.language]
        write_text(args.output_dir / path.name, "".join(f"{name}\n" for name in names))
    shutil.copy(args.folds_dir / "emotions", args.output_dir)


if __name__ == "__main__":
    cli(main)

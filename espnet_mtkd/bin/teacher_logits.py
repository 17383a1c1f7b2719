"""Write what all teachers say of a training set: a (K, C) matrix per utterance (stage 6)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import recall_score

from espnet_mtkd.data.ark import write_ark
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.tasks.inference import load_model, logits_of


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--teacher",
        required=True,
        action="append",
        help="NAME,LANGUAGE,DIR of a teacher; LANGUAGE is all for a multilingual one; repeat",
    )
    parser.add_argument(
        "--keys", required=True, action="append", help="File whose first column names utterances"
    )
    parser.add_argument(
        "--speech",
        required=True,
        action="append",
        help="For each --keys PATH,TYPE of the input: wav.scp,sound or feats.scp,kaldi_ark",
    )
    parser.add_argument(
        "--dev_set",
        type=Path,
        help="Data directory among --keys: the file relevance gets every teacher's UAR on each of "
        "its languages",
    )
    parser.add_argument(
        "--output_dir", required=True, help="Gets logits.ark, logits.scp, teachers, relevance"
    )
    parser.add_argument("--batch_size", type=int, default=16)
    return parser


def relevance(
    dev_set: Path, emotions: Sequence[str], logits: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return a teacher's UAR on each language of a development set."""
    gold, languages = read_map(dev_set / "utt2emotion"), read_map(dev_set / "utt2lang")
    uar = {}
    for language in sorted(set(languages.values())):
        utts = [utt for utt in gold if languages[utt] == language]
        hypotheses = [emotions[int(logits[utt].argmax())] for utt in utts]
        # Over the emotions that occur: recall of another one is not defined.
        references = [gold[utt] for utt in utts]
        uar[language] = recall_score(
            references, hypotheses, labels=sorted(set(references)), average="macro"
        )
    return uar


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``logits.ark``, ``logits.scp`` and the order of the teachers, ``teachers``."""
    args = get_parser().parse_args(argv)
    teachers = [tuple(teacher.split(",", 2)) for teacher in args.teacher]
    if any(len(teacher) != 3 for teacher in teachers):
        raise UserError(f"--teacher {' '.join(args.teacher)}: each must be NAME,LANGUAGE,DIR")
    if len(args.speech) != len(args.keys):
        raise UserError(f"{len(args.keys)} --keys need as many --speech, not {len(args.speech)}")
    sets = [(*s.rsplit(",", 1), keys) for s, keys in zip(args.speech, args.keys, strict=True)]
    keys = sorted(key for file in args.keys for key in read_map(file))
    if args.dev_set is not None and not read_map(args.dev_set / "utt2emotion").keys() <= set(keys):
        raise UserError(f"--dev_set {args.dev_set}: its utt2emotion must be one of --keys")
    opinions, emotions = [], None
    for name, _, folder in teachers:
        model, train_args = load_model(folder)
        if emotions is not None and model.emotions != emotions:
            raise UserError(
                f"teacher {name} knows {model.emotions}, but teacher {teachers[0][0]} {emotions}; "
                "all teachers need the same label set"
            )
        emotions = model.emotions
        opinion = {}
        for path, kind, file in sets:
            opinion.update(logits_of(model, train_args, (path, kind), file, args.batch_size))
        opinions.append(opinion)
    output = Path(args.output_dir)
    if args.dev_set is not None:
        lines = [
            f"{name} {language} {uar:.6f}\n"
            for (name, *_), opinion in zip(teachers, opinions, strict=True)
            for language, uar in relevance(args.dev_set, emotions, opinion).items()
        ]
        write_text(output / "relevance", "".join(lines))
    write_ark(output / "logits.scp", ((key, np.stack([o[key] for o in opinions])) for key in keys))
    write_text(output / "teachers", "".join(f"{name} {lang}\n" for name, lang, _ in teachers))


if __name__ == "__main__":
    cli(main)

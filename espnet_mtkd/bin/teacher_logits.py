"""Write what all teachers say of a training set: a (K, C) matrix per utterance (stage 6).

A teacher that does not know an emotion has NaN in its column. Beside the logits stand ``teachers``
(names and languages in the order of the rows) and, with ``--dev_set``, what weightings need to know
of the teachers: ``relevance`` (for ``similarity``) and ``gate`` (for ``learned``).
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from espnet2.utils.types import str2bool
from sklearn.metrics import recall_score

from espnet_mtkd.data.ark import read_ark, write_ark
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.shards import add_shard_options, check_whole, read_output
from espnet_mtkd.distill.gate import fit_gate
from espnet_mtkd.distill.opinions import align
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.tasks.inference import load_teacher, outputs_of
from espnet_mtkd.tasks.ser import read_names

# Speech and what to do with it: path, ESPnet's type, file with the utterances.
Source = tuple[str, str, str]


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--teacher",
        action="append",
        default=[],
        help="NAME,LANGUAGE,PATH of a teacher that hears --speech; LANGUAGE is all for a "
        "multilingual one; PATH is a folder of a training, an archive of stage 12 (.zip) or "
        "parameters beside their config (.pth); repeat",
    )
    parser.add_argument(
        "--external",
        action="append",
        default=[],
        help="As --teacher, for one that hears --wav: its upstream is not that of the stored "
        "features; comes after the others; repeat",
    )
    parser.add_argument(
        "--copy",
        action="append",
        default=[],
        help="NAME,DIR,KEYS,PATH,TYPE: of the utterances in the first column of KEYS teacher NAME "
        "says what the model in DIR says (which has not heard their speakers) of PATH,TYPE; repeat",
    )
    parser.add_argument(
        "--keys", required=True, action="append", help="File whose first column names utterances"
    )
    parser.add_argument(
        "--speech",
        action="append",
        default=[],
        help="For each --keys PATH,TYPE of the input: wav.scp,sound or feats.scp,kaldi_ark",
    )
    parser.add_argument(
        "--wav", action="append", default=[], help="For each --keys a wav.scp, for --external"
    )
    parser.add_argument(
        "--emotions",
        help="File with the student's emotions, one a line: columns are brought into this order, "
        "by name; without it all teachers must know the same emotions in the same order",
    )
    parser.add_argument(
        "--embeddings",
        type=str2bool,
        default=False,
        help="Write the vectors that the teachers' heads see as well, embeddings.scp",
    )
    parser.add_argument(
        "--dev_set",
        type=Path,
        help="Data directory among --keys, whose speakers no teacher was trained on: the file "
        "relevance gets every teacher's UAR on each of its languages, the file gate how to mix "
        "the teachers",
    )
    parser.add_argument(
        "--output_dir", required=True, help="Gets logits.ark, logits.scp, teachers, relevance, gate"
    )
    parser.add_argument("--batch_size", type=int, default=16)
    add_shard_options(parser)
    return parser


class Teacher(NamedTuple):
    """A teacher as the command line names it; ``sources`` are the utterances that it hears."""

    name: str
    language: str
    path: str
    sources: list[Source]


class Copy(NamedTuple):
    """A copy of a teacher as the command line names it."""

    name: str
    path: str
    source: Source


def read_teachers(args: argparse.Namespace) -> list[Teacher]:
    """Return the teachers of the command line."""
    teachers = []
    for option, speech in (("teacher", args.speech), ("external", args.wav)):
        given = getattr(args, option)
        if option == "external":
            speech = [f"{wav},sound" for wav in speech]
        needed = len(args.keys) if given else len(speech)
        if len(speech) != needed or any("," not in item for item in speech):
            source = "--speech PATH,TYPE" if option == "teacher" else "--wav"
            raise UserError(f"{needed} --keys need as many {source}, not {len(speech)}")
        pairs = zip(speech, args.keys, strict=True) if given else ()
        sources: list[Source] = [(*s.rsplit(",", 1), keys) for s, keys in pairs]
        for words in (item.split(",", 2) for item in given):
            if len(words) != 3:
                raise UserError(f"--{option} {','.join(words)}: must be NAME,LANGUAGE,PATH")
            teachers.append(Teacher(*words, sources))
    names = [teacher.name for teacher in teachers]
    if not names or len(set(names)) < len(names):
        raise UserError("--teacher, --external: at least one teacher must be given, and none twice")
    return teachers


def read_copies(args: argparse.Namespace, names: Sequence[str], keys: Iterable[str]) -> list[Copy]:
    """Return the copies of the command line."""
    copies, known = [], set(keys)
    for words in (item.split(",") for item in args.copy):
        if len(words) != 5:
            raise UserError(f"--copy {','.join(words)}: must be NAME,DIR,KEYS,PATH,TYPE")
        name, path, own_keys, speech, kind = words
        if name not in names:
            raise UserError(f"--copy {','.join(words)}: no teacher {name}; {', '.join(names)} are")
        strangers = sorted(read_map(own_keys).keys() - known)
        if strangers:
            raise UserError(f"--copy {','.join(words)}: {strangers[0]} is in none of --keys")
        copies.append(Copy(name, path, (speech, kind, own_keys)))
    return copies


class Panel:
    """Asks teachers about utterances, and remembers in which order they name the emotions.

    Args:
        emotions: those of the student; None: those of the first teacher, and then of all.
        batch_size: utterances at a time.
        only: the utterances to ask about, of those that the sources name; None (default): all.
    """

    def __init__(
        self, emotions: list[str] | None, batch_size: int, only: Collection[str] | None = None
    ) -> None:
        self.emotions = emotions
        self.strict = emotions is None
        self.batch_size = batch_size
        self.only = only

    def ask(
        self, name: str, path: str, sources: Sequence[Source]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the logits (C,) and the vectors (P,) of a teacher by utterance."""
        model, train_args = load_teacher(path)
        if self.emotions is None:
            self.emotions = model.emotions
        if self.strict and model.emotions != self.emotions:
            raise UserError(
                f"teacher {name} knows {', '.join(model.emotions)}, the first one "
                f"{', '.join(self.emotions)}; say with --emotions what the student knows"
            )
        logits, embeddings = {}, {}
        for speech, kind, keys in sources:
            for utt, row, vector in outputs_of(
                model, train_args, (speech, kind), keys, self.batch_size, only=self.only
            ):
                aligned = align(torch.from_numpy(row), model.emotions, self.emotions, name)
                logits[utt], embeddings[utt] = aligned.numpy(), vector
        return logits, embeddings


Matrices = dict[str, np.ndarray]


def ask_all(
    args: argparse.Namespace, panel: Panel, teachers: Sequence[Teacher], keys: Sequence[str]
) -> tuple[Matrices, Matrices]:
    """Return what all teachers say (K, C) and, if wanted, see (K, P), by utterance."""
    names = [teacher.name for teacher in teachers]
    copies = read_copies(args, names, keys)
    opinions, features = [], []
    for teacher in teachers:
        opinion, feature = panel.ask(teacher.name, teacher.path, teacher.sources)
        for copy in (copy for copy in copies if copy.name == teacher.name):
            theirs, vectors = panel.ask(f"{copy.name} in {copy.path}", copy.path, [copy.source])
            for utt, logits in theirs.items():
                if (np.isnan(logits) != np.isnan(opinion[utt])).any():
                    raise UserError(f"--copy {copy.path}: knows other emotions than {copy.name}")
            opinion.update(theirs)
            feature.update(vectors)
        sizes = {len(v) for f in (*features[:1], feature) for v in (*f.values(),)[:1]}
        if args.embeddings and len(sizes) > 1:
            raise UserError(
                f"--embeddings true: teacher {teacher.name} has vectors of another size than "
                f"{names[0]} ({', '.join(map(str, sorted(sizes)))}); all must have the same"
            )
        opinions.append(opinion)
        features.append(feature if args.embeddings else {})
    asked = keys if panel.only is None else sorted(panel.only)
    logits = {key: np.stack([opinion[key] for opinion in opinions]) for key in asked}
    if not args.embeddings:
        return logits, {}
    return logits, {key: np.stack([feature[key] for feature in features]) for key in asked}


def read_shards(
    args: argparse.Namespace, teachers: Sequence[Teacher], keys: Sequence[str]
) -> tuple[Matrices, Matrices]:
    """Return the same from the outputs of shards."""
    names = list_of(teachers)
    found: list[str] = []
    matrices: list[Matrices] = [{}, {}]
    for folder in args.shards:
        if read_output(folder / "teachers") != names:
            raise UserError(f"{folder}/teachers: other teachers than {', '.join(names.split())}")
        kinds = ("logits", "embeddings") if args.embeddings else ("logits",)
        for kind, all_of in zip(kinds, matrices, strict=False):
            own = read_ark(folder / f"{kind}.scp")
            all_of.update(own)
            found += own if kind == "logits" else ()
    check_whole(found, keys, args.shards)
    logits, embeddings = ({key: m[key] for key in keys if key in m} for m in matrices)
    return logits, embeddings


def list_of(teachers: Sequence[Teacher]) -> str:
    """Return the content of the file ``teachers``."""
    return "".join(f"{teacher.name} {teacher.language}\n" for teacher in teachers)


def relevance(
    dev_set: Path, emotions: Sequence[str], logits: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return a teacher's UAR on each language of a development set."""
    gold, languages = read_map(dev_set / "utt2emotion"), read_map(dev_set / "utt2lang")
    uar = {}
    for language in sorted(set(languages.values())):
        utts = [utt for utt in gold if languages[utt] == language]
        hypotheses = [emotions[int(np.nanargmax(logits[utt]))] for utt in utts]
        # Over the emotions that occur: recall of another one is not defined.
        references = [gold[utt] for utt in utts]
        uar[language] = recall_score(
            references, hypotheses, labels=sorted(set(references)), average="macro"
        )
    return uar


def write_measures(
    output: Path, dev_set: Path, emotions: list[str], names: Sequence[str], logits: Matrices
) -> None:
    """Write ``relevance`` and ``gate``, what a development set says of the teachers."""
    gold, languages = read_map(dev_set / "utt2emotion"), read_map(dev_set / "utt2lang")
    for utt, emotion in gold.items():
        if emotion not in emotions:
            raise UserError(
                f"--dev_set {dev_set}: utterance {utt}: emotion {emotion!r} is not one of "
                f"{', '.join(emotions)}"
            )
    lines = [
        f"{name} {language} {uar:.6f}\n"
        for k, name in enumerate(names)
        for language, uar in relevance(
            dev_set, emotions, {utt: logits[utt][k] for utt in gold}
        ).items()
    ]
    write_text(output / "relevance", "".join(lines))
    gate = fit_gate(
        names,
        np.stack([logits[utt] for utt in gold]),
        [emotions.index(emotion) for emotion in gold.values()],
        [languages[utt] for utt in gold],
    )
    write_text(output / "gate", gate.to_json())


def main(argv: Sequence[str] | None = None) -> None:
    """Write all files."""
    args = get_parser().parse_args(argv)
    keys = sorted(key for file in args.keys for key in read_map(file))
    teachers = read_teachers(args)
    dev_set = args.dev_set
    if dev_set is not None and not read_map(dev_set / "utt2emotion").keys() <= set(keys):
        raise UserError(f"--dev_set {dev_set}: its utt2emotion must be one of --keys")
    emotions = read_names(args.emotions, "emotions") if args.emotions else None
    if emotions is None and (args.shard or args.shards):
        raise UserError("--shard, --shards: need --emotions, since every shard must have the same")
    only = set(args.shard.of(keys)) if args.shard else None
    panel = Panel(emotions, args.batch_size, only)
    if args.shards:
        logits, embeddings = read_shards(args, teachers, keys)
    else:
        logits, embeddings = ask_all(args, panel, teachers, keys)
    output = Path(args.output_dir)
    if dev_set is not None and not args.shard:
        names = [teacher.name for teacher in teachers]
        write_measures(output, dev_set, panel.emotions, names, logits)
    write_ark(output / "logits.scp", logits.items())
    if args.embeddings:
        write_ark(output / "embeddings.scp", embeddings.items())
    write_text(output / "teachers", list_of(teachers))


if __name__ == "__main__":
    cli(main)

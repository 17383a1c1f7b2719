"""Write the logits of a trained classifier for a data directory (stage 8)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.shards import add_shard_options, check_whole, read_output
from espnet_mtkd.distill.opinions import align
from espnet_mtkd.errors import cli
from espnet_mtkd.tasks import inference
from espnet_mtkd.tasks.inference import load_teacher, logits_of
from espnet_mtkd.tasks.ser import read_names

NEVER = -1e9  # the logit of what a model cannot say


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = inference.get_parser(__doc__, "Table to write (.tsv)")
    parser.add_argument(
        "--emotions",
        help="File with emotions, one a line: columns are brought into this order, by name; an "
        f"emotion that the model does not know gets the logit {NEVER:g}. Default: the model's own",
    )
    add_shard_options(parser)
    return parser


def rows(args: argparse.Namespace, utterances: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the head, without an utterance, and then utterances with their rows."""
    model, train_args = load_teacher(args.model_dir)
    emotions = read_names(args.emotions, "emotions") if args.emotions else model.emotions
    unknown = [emotion not in model.emotions for emotion in emotions]
    data = Path(args.data_dir)
    head = ["utt_id", "spk_id", "lang", "corpus", "ref", *(f"logit_{e}" for e in emotions)]
    yield "", "\t".join(head)
    columns = [read_map(data / f) for f in ("utt2spk", "utt2lang", "utt2corpus", "utt2emotion")]
    path, _, kind = args.speech.rpartition(",")
    options = (args.batch_size, args.num_workers, set(utterances))
    for utt_id, logits in logits_of(
        model, train_args, (path, kind), data / "utt2emotion", *options
    ):
        values = [column[utt_id] for column in columns]
        aligned = align(torch.from_numpy(logits), model.emotions, emotions, args.model_dir)
        aligned[unknown] = NEVER
        yield utt_id, "\t".join([utt_id, *values, *(f"{value:.9g}" for value in aligned)])


def stored_rows(shards: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the same from the outputs of shards."""
    for table in shards:
        head, *lines = read_output(table).splitlines() or [""]
        yield "", head
        yield from ((line.partition("\t")[0], line) for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Write one row per utterance: who, which language, what is right, and the logits."""
    args = get_parser().parse_args(argv)
    utterances = sorted(read_map(Path(args.data_dir) / "utt2emotion"))
    if args.shard:
        utterances = args.shard.of(utterances)
    found = list(stored_rows(args.shards) if args.shards else rows(args, utterances))
    table = dict(found)
    if args.shards:
        check_whole([utt_id for utt_id, _ in found if utt_id], utterances, args.shards)
    lines = [table.pop(""), *(table[utt_id] for utt_id in sorted(table))]
    write_text(args.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    cli(main)

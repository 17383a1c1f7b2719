"""Write the logits of a trained classifier for a data directory (stage 8)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import cli
from espnet_mtkd.tasks.inference import load_model, logits_of


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="Folder of a training (exp/.../ft)")
    parser.add_argument("--data_dir", required=True, help="Data directory with the references")
    parser.add_argument(
        "--speech",
        required=True,
        help="PATH,TYPE of the input: wav.scp,sound or feats.scp,kaldi_ark",
    )
    parser.add_argument("--output", required=True, help="Table to write (.tsv)")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--num_workers", type=int, default=0)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write one row per utterance: who, which language, what is right, and the logits."""
    args = get_parser().parse_args(argv)
    model, train_args = load_model(args.model_dir)
    data = Path(args.data_dir)
    columns = [read_map(data / f) for f in ("utt2spk", "utt2lang", "utt2corpus", "utt2emotion")]
    path, _, kind = args.speech.rpartition(",")
    rows = {}
    for utt_id, logits in logits_of(
        model, train_args, (path, kind), data / "utt2emotion", args.batch_size, args.num_workers
    ):
        values = [column[utt_id] for column in columns]
        rows[utt_id] = "\t".join([utt_id, *values, *(f"{value:.9g}" for value in logits)])
    head = ["utt_id", "spk_id", "lang", "corpus", "ref", *(f"logit_{e}" for e in model.emotions)]
    lines = ["\t".join(head), *(rows[utt_id] for utt_id in sorted(rows))]
    write_text(args.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    cli(main)

"""Write the logits of a trained classifier for a data directory (stage 8)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import cli
from espnet_mtkd.tasks import inference
from espnet_mtkd.tasks.inference import load_model, logits_of


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    return inference.get_parser(__doc__, "Table to write (.tsv)")


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

"""Stage 3: folds of the corpora of an experiment, and their audit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.audit import audit, to_markdown
from espnet_mtkd.data.files import write_text
from espnet_mtkd.data.folds import PROTOCOLS, make_folds, write_folds
from espnet_mtkd.data.labels import LabelSet
from espnet_mtkd.data.protocol import FoldOptions
from espnet_mtkd.errors import cli


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--in", dest="folders", type=Path, nargs="+", required=True, help="data directories"
    )
    parser.add_argument("--labels", type=Path, required=True, help="label set, YAML")
    parser.add_argument("--protocol", default="si", help=" or ".join(PROTOCOLS))
    parser.add_argument("--num_folds", type=int, default=5, help="folds of protocol si")
    parser.add_argument("--seed", type=int, default=0, help="of the partition of the speakers")
    parser.add_argument(
        "--emobox_root", type=Path, help="a checkout of EmoBox, for protocol emobox"
    )
    parser.add_argument(
        "--keep_together",
        action="store_true",
        help="protocol si: put speakers that have audio in common on one side instead of failing",
    )
    parser.add_argument(
        "--heldout", nargs="+", default=[], help="corpora of --in that are only tested on"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(argv)
    # The audit is written last: without it the folder is unfinished.
    (args.out / "audit.json").unlink(missing_ok=True)
    options = FoldOptions(args.num_folds, args.seed, args.emobox_root, args.keep_together)
    labels = LabelSet.load(args.labels)
    folds = make_folds(args.folders, labels, args.protocol, options, args.heldout)
    report = audit(folds)
    write_folds(folds, args.out)
    write_text(args.out / "audit.md", to_markdown(report))
    write_text(args.out / "audit.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    used = sum(corpus["used"] for corpus in report["corpora"].values())
    print(
        f"{len(folds.folds)} folds, {used} utterances, {len(folds.labels.emotions)} emotions, "
        f"{len(folds.languages)} languages -> {args.out}; audit: {args.out / 'audit.md'}"
    )
    for name in sorted({n for fold in report["folds"] for n in fold["tested_speakers"]}):
        tested = [fold["tested_speakers"][name] for fold in report["folds"]]
        if any(count["in_train"] for count in tested):
            worst = max(tested, key=lambda count: count["in_train"])
            print(
                f"warning: {name}: protocol {args.protocol} is speaker-dependent: up to "
                f"{worst['in_train']} of {worst['test']} tested speakers are trained on"
            )


if __name__ == "__main__":
    cli(main)

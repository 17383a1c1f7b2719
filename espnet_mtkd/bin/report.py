"""Make the report of an experiment (stage 10): one self-contained HTML file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.evaluate.experiment import experiment_from, read_json
from espnet_mtkd.evaluate.report import read_material, render
from espnet_mtkd.evaluate.results import FORMAT


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_mtkd.bin.report",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--expdir", default="exp", help="folder that holds results.json")
    parser.add_argument("--out", default=None, help="file to write (default: EXPDIR/report.html)")
    parser.add_argument(
        "--embed_audio",
        type=int,
        default=0,
        help="put the recordings of so many of the hardest utterances of each language into the "
        "page; most licences forbid to pass such a page on",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv`` (default: ``sys.argv``)."""
    args = get_parser().parse_args(argv)
    if args.embed_audio < 0:
        raise UserError(f"--embed_audio {args.embed_audio}: must not be negative")
    expdir = Path(args.expdir)
    path = expdir / "results.json"
    remedy = "make it with ./run.sh --stage 9"
    results = read_json(path, remedy)
    if results.get("format") != FORMAT:
        raise UserError(f"{path}: format {results.get('format')!r} instead of {FORMAT}; {remedy}")
    experiment = experiment_from(results["experiment"], expdir, str(path))
    out = Path(args.out) if args.out else expdir / "report.html"
    write_text(out, render(results, experiment, read_material(experiment), args.embed_audio))
    print(f"wrote {out}")


if __name__ == "__main__":
    cli(main)

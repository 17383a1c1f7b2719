"""Score the predictions of an experiment (stage 9): ``results.json`` and ``RESULTS.md``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.evaluate.environment import environment
from espnet_mtkd.evaluate.experiment import read_experiment
from espnet_mtkd.evaluate.markdown import main_table, render
from espnet_mtkd.evaluate.results import Bootstrap, score
from espnet_mtkd.stamps import altered, costs


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_mtkd.bin.score",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--expdir", default="exp", help="folder that holds experiment.json")
    parser.add_argument(
        "--experiment", type=json.loads, help="content of experiment.json, to write it first"
    )
    parser.add_argument(
        "--command", default="./run.sh", help="what the user called; goes there too"
    )
    parser.add_argument("--num_resamples", type=int, default=2000, help="bootstrap resamples")
    parser.add_argument("--bootstrap_seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--level", type=float, default=0.95, help="level of the intervals")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv`` (default: ``sys.argv``)."""
    args = get_parser().parse_args(argv)
    if args.num_resamples < 100:
        raise UserError(
            f"--num_resamples {args.num_resamples}: too few for an interval; at least 100"
        )
    if args.bootstrap_seed < 0:
        raise UserError(f"--bootstrap_seed {args.bootstrap_seed}: must not be negative")
    if not 0.5 <= args.level < 1:
        raise UserError(f"--level {args.level}: must be at least 0.5 and below 1, as in 0.95")
    expdir = Path(args.expdir)
    if args.experiment is not None:
        facts = {**args.experiment, "command": args.command, "environment": environment()}
        write_text(expdir / "experiment.json", json.dumps(facts, indent=1) + "\n")
    experiment = read_experiment(expdir)
    for complaint in altered(expdir / "RESULTS.md", stage=3):
        raise UserError(
            f"{complaint}, so the audit of stage 3 says nothing about these folds; remove their "
            "folder and run from --stage 3 again"
        )
    bootstrap = Bootstrap(args.num_resamples, args.bootstrap_seed, args.level)
    results = score(experiment, bootstrap, progress=lambda text: print(text, flush=True))
    results["costs"] = costs(expdir / "RESULTS.md")
    write_text(
        expdir / "results.json",
        json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    )
    write_text(expdir / "RESULTS.md", render(results))
    print("\n" + "\n".join(main_table(results["test"])))
    warnings = results["warnings"]
    for text in [warnings["synthetic"], *warnings["teachers"], *warnings["notes"]]:
        if text:
            print(f"note: {text}")
    print(f"wrote {expdir / 'results.json'} and {expdir / 'RESULTS.md'}")


if __name__ == "__main__":
    cli(main)

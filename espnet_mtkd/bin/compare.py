"""Put several experiments side by side: a page of tables, and figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.evaluate.comparison import alike, curve, read_results, sizes, table


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--experiment",
        action="append",
        required=True,
        help="NAME=EXPDIR of an experiment that has been scored (stage 9); repeat",
    )
    parser.add_argument("--output_dir", required=True, type=Path, help="Gets STUDY.md and figures")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    args = get_parser().parse_args(argv)
    experiments = {}
    for text in args.experiment:
        name, _, folder = text.partition("=")
        if not folder or name in experiments:
            raise UserError(f"--experiment {text}: must be NAME=EXPDIR, with each name once")
        experiments[name] = read_results(Path(folder))
    lines = [
        "# Experiments side by side",
        "",
        "UAR in %. `dev` is the mean of the development sets at the chosen epoch, the best in "
        "bold; all else is of the test sets: folds pooled, mean over seeds, 95 % intervals of a "
        "bootstrap over speakers, differences paired over the same resamples, p two-sided and not "
        "corrected for the number of comparisons.",
        "",
    ]
    for name, results in experiments.items():
        facts = results["experiment"]
        lines += [f"## {name}", "", "```", facts["command"], "```", ""]
        lines += [f"{len(facts['folds'])} folds, seeds {' '.join(map(str, facts['seeds']))}.", ""]
        lines += table(results)
        if results["left_out"]:
            lines += ["### Languages left out of training", ""]
            lines += table(results, "left_out")
    students = ("student_mode", "student_config", "student_args")
    for make, kind, title, varies in (
        (curve, "labels", "Share of labels", ("labelled_share",)),
        (sizes, "sizes", "Size of the student", students),
    ):
        drawn = 0
        for group in alike(experiments, *varies):
            name = f"{kind}_{drawn + 1}.svg"
            if make(group, args.output_dir / name):
                drawn += 1
                lines += [f"## {title}: {', '.join(group)}", "", f"![{title}]({name})", ""]
    write_text(args.output_dir / "STUDY.md", "\n".join(lines))
    print(f"wrote {args.output_dir / 'STUDY.md'}")


if __name__ == "__main__":
    cli(main)

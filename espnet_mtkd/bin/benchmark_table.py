"""Make the tables of the upstream benchmark from its predictions: .md, .csv, .html, .json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import cli
from espnet_mtkd.evaluate.environment import environment
from espnet_mtkd.evaluate.upstream_tables import to_csv, to_html, to_markdown
from espnet_mtkd.evaluate.upstreams import score_upstreams


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", type=Path, required=True, help="What benchmark.py wrote")
    parser.add_argument("--output", type=Path, required=True, help="The .md; others beside it")
    parser.add_argument("--command", default="", help="What the user called")
    parser.add_argument("--num_resamples", type=int, default=2000, help="Bootstrap resamples")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Write the tables."""
    args = get_parser().parse_args(argv)
    benchmark = json.loads(args.benchmark.read_text(encoding="utf-8"))
    results = score_upstreams(benchmark, args.num_resamples)
    results |= {"environment": environment(), "command": args.command}
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(args.output.with_suffix(".json"), text)
    write_text(args.output.with_suffix(".csv"), to_csv(results))
    write_text(args.output.with_suffix(".html"), to_html(results))
    write_text(args.output, to_markdown(results))


if __name__ == "__main__":
    cli(main)

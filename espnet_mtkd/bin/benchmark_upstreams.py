"""Compare upstreams on emotion: corpora x upstreams x folds x seeds, one table (stage 11).

    python -m espnet_mtkd.bin.benchmark_upstreams --corpora emodb --corpus_root EMODB=/data/EmoDB

The options of data, folds and seeds are those of run.sh. A folder that is not named with
--corpus_root is looked for in the environment (EMODB=/data/EmoDB).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.benchmark import Benchmark, find_config, read_config
from espnet_mtkd.bin.run_stage import OPTIONS
from espnet_mtkd.data.files import lock
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.jobs import run_jobs
from espnet_mtkd.models.upstream import check_upstream
from espnet_mtkd.tasks.probe import ProbeOptions


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_argument_group("Benchmark")
    group.add_argument(
        "--benchmark_config",
        default="filterbanks",
        help="Upstreams and probe: a file, or the name of one in conf/benchmark/",
    )
    group.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="name=N,path=P,label=L",
        help="One more upstream, with the keys of the config; may be repeated",
    )
    group.add_argument(
        "--layers", default="all", help="all: learn their weights; each: probe each; or 0,3"
    )
    group = parser.add_argument_group("Recipe (run.sh --help says what these mean)")
    for name, default in OPTIONS.items():
        group.add_argument(f"--{name}", type=type(default), default=default)
    group.add_argument("--corpus_root", action="append", default=[], help="NAME=FOLDER, repeat")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Make what is missing, then the tables."""
    args = get_parser().parse_args(argv)
    if args.command == OPTIONS["command"]:
        words = sys.argv[1:] if argv is None else argv
        args.command = shlex.join(["python", "-m", "espnet_mtkd.bin.benchmark_upstreams", *words])
    named = {pair.split("=", 1)[0] for pair in args.corpus_root}
    for corpus in args.corpora.split():
        if corpus.upper() not in named and corpus.upper() in os.environ:
            args.corpus_root.append(f"{corpus.upper()}={os.environ[corpus.upper()]}")
    config = find_config(args.benchmark_config)
    probe, candidates = read_config(config, args.add)
    checked = ProbeOptions.parse(probe, config)
    for candidate in candidates:
        if candidate.mode == "frozen":
            checked.check_pooling(candidate.pooling, f"{config}: upstream {candidate.label}")
        try:
            check_upstream(candidate.name, candidate.path or None)
        except UserError as error:
            raise UserError(f"{config}: upstream {candidate.label}: {error}") from None
    refusal = f"--expdir {args.expdir}: another benchmark is at work there"
    with lock(Path(args.expdir) / "benchmark" / ".lock", refusal):
        start = time.monotonic()
        benchmark = Benchmark(args, probe, candidates)
        made = run_jobs(benchmark.data, args.nj)
        made += run_jobs(benchmark.jobs, args.nj)
    total = len(benchmark.data) + len(benchmark.jobs)
    what = f"{made} of {total} jobs run" if made else "nothing to do: all is up to date"
    print(f"  {what} ({time.monotonic() - start:.1f} s); tables: {benchmark.table.output}")


if __name__ == "__main__":
    cli(main)

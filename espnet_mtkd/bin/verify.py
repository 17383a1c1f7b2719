"""Check a finished experiment against its stamps and name every file that was altered."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.stamps import verify


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expdir", type=Path, default=Path("exp"), help="Folder of the experiment")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Check; what was altered is on standard output, a line each."""
    args = get_parser().parse_args(argv)
    compared, complaints = verify(args.expdir)
    for line in complaints:
        print(line)
    if complaints:
        raise UserError(f"{args.expdir}: {len(complaints)} differences from what was made")
    print(f"{args.expdir}: {compared} files are as they were made")


if __name__ == "__main__":
    cli(main)

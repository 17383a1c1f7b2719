"""Lock the folder of an experiment for the shell that calls: one run at a time.

The lock belongs to the open file, so it outlives this process and ends with the shell that opened
the file and with all that it starts, however they end.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_mtkd.data.files import lock_open
from espnet_mtkd.errors import cli


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fd", type=int, required=True, help="Descriptor of the open lock file")
    parser.add_argument("--expdir", required=True, help="Folder, for the message")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Take the lock."""
    args = get_parser().parse_args(argv)
    lock_open(args.fd, f"--expdir {args.expdir}: another run is at work there")


if __name__ == "__main__":
    cli(main)

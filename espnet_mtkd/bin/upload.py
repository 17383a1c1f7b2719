"""Put a packed model on the Hugging Face hub (stage 13).

HF_TOKEN or `hf auth login` says who you are; HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_mtkd.errors import cli
from espnet_mtkd.use.hub import upload


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", required=True, help="Archive of stage 12")
    parser.add_argument("--repo", required=True, help="user/name; made if it is not there")
    parser.add_argument("--private", action="store_true", help="Only its owner sees it")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Upload the content of the archive."""
    args = get_parser().parse_args(argv)
    print(f"uploaded to {upload(args.archive, args.repo, args.private)}")


if __name__ == "__main__":
    cli(main)

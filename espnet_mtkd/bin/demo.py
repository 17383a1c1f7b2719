"""Try a model in the browser: upload or record speech, see what the model hears.

The page is served to this machine only. Stop it with Ctrl-C.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_mtkd.demo import build, launch, load_models
from espnet_mtkd.errors import UserError, cli


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, help="Archive (exp/packed/mtkd.zip) or folder of a training"
    )
    parser.add_argument(
        "--teachers",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="Models whose opinions stand beside it, e.g. exp/fold_1/seed_0/teacher_*",
    )
    parser.add_argument(
        "--examples", nargs="+", default=[], metavar="FILE", help="Recordings to click on"
    )
    parser.add_argument("--port", type=int, default=7860, help="default: 7860; 0: any free one")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until interrupted."""
    args = get_parser().parse_args(argv)
    if not 0 <= args.port < 65536:
        raise UserError(f"--port {args.port}: must be between 0 and 65535")
    blocks = build(load_models(args.model, args.teachers, args.device), args.examples)
    address = launch(blocks, args.port, block=False)
    print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
    blocks.block_thread()


if __name__ == "__main__":
    cli(main)

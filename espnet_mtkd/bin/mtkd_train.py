"""Train a student of several teachers: ``python -m espnet_mtkd.bin.mtkd_train --config ...``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_mtkd.errors import cli
from espnet_mtkd.tasks.mtkd import MTKDTask


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of ESPnet's training options and the task's own."""
    return MTKDTask.get_parser()


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    MTKDTask.main(cmd=argv)


if __name__ == "__main__":
    cli(main)

"""Train a speech emotion classifier: ``python -m espnet_mtkd.bin.ser_train --config ...``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_mtkd.errors import cli
from espnet_mtkd.tasks.ser import SERTask


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of ESPnet's training options and the task's own."""
    return SERTask.get_parser()


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    SERTask.main(cmd=argv)


if __name__ == "__main__":
    cli(main)

"""Teach a student's encoder what the upstream hears (stage 5)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from espnet_mtkd.errors import cli
from espnet_mtkd.tasks.hints import HintTask


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of ESPnet's training options and the task's own."""
    return HintTask.get_parser()


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    HintTask.main(cmd=argv)


if __name__ == "__main__":
    cli(main)

"""Shards: parts of a large corpus' utterances, each done by a job of its own.

A command with ``--shard K/N`` does every N-th utterance, beginning with the K-th; the same command
with ``--shards`` and the N outputs puts them together. The result is that of the command without
either, up to the rounding of other batches.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from espnet_mtkd.errors import UserError

T = TypeVar("T")


class Shard(NamedTuple):
    """The K-th of N parts."""

    number: int
    count: int

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return every N-th item, beginning with the K-th."""
        return items[self.number - 1 :: self.count]


def shard(text: str) -> Shard:
    """Read ``K/N``."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--shard {text}: must be K/N, from 1/N to N/N")
    return Shard(int(found[1]), int(found[2]))


def add_shard_options(parser: argparse.ArgumentParser, merge: bool = True) -> None:
    """Add ``--shard`` and, for a command that puts shards together, ``--shards``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--shard", type=shard, help="K/N: do only the K-th of N parts")
    if merge:
        group.add_argument(
            "--shards", type=Path, nargs="+", default=[], help="put these outputs together"
        )


def read_output(path: Path) -> str:
    """Return the content of a file that a shard has made.

    Raises:
        UserError: it is not there.
    """
    if not path.is_file():
        raise UserError(f"{path}: no output of --shard; make it first")
    return path.read_text(encoding="utf-8")


def check_whole(found: Sequence[str], wanted: Sequence[str], shards: Sequence[Path]) -> None:
    """Check that shards hold every utterance once."""
    if sorted(found) == sorted(wanted):
        return
    missing = sorted(set(wanted) - set(found))
    what = f"no {missing[0]}" if missing else "utterances that are not wanted, or twice"
    raise UserError(f"{shards[0].parent}: the {len(shards)} shards hold {what}; make them again")

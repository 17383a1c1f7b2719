"""Kaldi arks, written whole or not at all.

``omniio`` has kaldiio's interface and writes the same bytes; kaldiio's licence allows evaluation
only (https://github.com/espnet/espnet/issues/6529).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from omniio.kaldi import ReadError, WriteHelper, kTwoByteAuto, load_mat

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import atomic_path
from espnet_mtkd.errors import UserError


def write_ark(
    scp: str | Path, items: Iterable[tuple[str, np.ndarray]], two_bytes: bool = False
) -> None:
    """Write matrices to an ark beside ``scp`` (``feats.scp``: ``feats.ark``) and its index.

    Paths in the index are absolute. The ark is in place before the index that points into it.

    Args:
        scp: the index.
        items: utterance ids and matrices.
        two_bytes: Kaldi's compression to two bytes a number, linear between a matrix's extremes.
    """
    scp = Path(scp).absolute()
    ark = scp.with_suffix(".ark")
    with atomic_path(scp) as temporary_scp:
        with atomic_path(ark) as temporary_ark:
            target = f"ark,scp:{temporary_ark},{temporary_scp}"
            method = kTwoByteAuto if two_bytes else None
            with WriteHelper(target, compression_method=method) as writer:
                for key, matrix in items:
                    writer[key] = matrix
        text = temporary_scp.read_text(encoding="utf-8").replace(str(temporary_ark), str(ark))
        temporary_scp.write_text(text, encoding="utf-8")


def check_index(scp: str | Path) -> dict[str, str]:
    """Read an index and refuse entries that are no place in a file.

    Kaldi's readers take an entry with a pipe for a command and run it; that is not what data are
    for.

    Raises:
        UserError: an entry has a pipe, or the index is missing or broken.
    """
    entries = read_map(scp)
    for key, entry in entries.items():
        if "|" in entry or entry == "-":
            raise UserError(f"{scp}: {key}: a pipe; give the path of a file")
    return entries


def read_ark(scp: str | Path, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read the matrices of ``keys`` (default: all) through their index.

    Raises:
        UserError: a key is not in the index, or its entry leads to no matrix.
    """
    entries = check_index(scp)
    wanted = list(entries if keys is None else keys)
    for key in wanted:
        if key not in entries:
            raise UserError(f"{scp}: no utterance {key}")
    return {key: _read_matrix(scp, key, entries[key]) for key in wanted}


def _read_matrix(scp: str | Path, key: str, entry: str) -> np.ndarray:
    ark, _, offset = entry.rpartition(":")
    if not (ark and offset.isdecimal()):
        raise UserError(f"{scp}: {key}: {entry!r} is not 'ark:offset'")
    if "\0" in ark or not Path(ark).is_file():  # a device would be read for ever
        raise UserError(f"{scp}: {key}: {ark!r}: no such file")
    try:
        matrix = load_mat(entry)
    except (ReadError, OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
        raise UserError(f"{scp}: {key}: {entry}: no matrix can be read: {error}") from None
    if not isinstance(matrix, np.ndarray):
        raise UserError(f"{scp}: {key}: {entry}: not a matrix")
    return matrix

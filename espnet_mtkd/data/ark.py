"""Kaldi arks, written whole or not at all.

``omniio`` has kaldiio's interface and writes the same bytes; kaldiio's licence allows evaluation
only (https://github.com/espnet/espnet/issues/6529).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from omniio.kaldi import WriteHelper, kTwoByteAuto, load_mat

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


def read_ark(scp: str | Path, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read the matrices of ``keys`` (default: all) through their index.

    Raises:
        UserError: a key is not in the index.
    """
    entries = read_map(scp)
    wanted = list(entries if keys is None else keys)
    for key in wanted:
        if key not in entries:
            raise UserError(f"{scp}: no utterance {key}")
    return {key: load_mat(entries[key]) for key in wanted}

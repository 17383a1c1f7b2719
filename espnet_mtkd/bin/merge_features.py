"""One index over the stored features of several corpora, and their statistics (stage 4)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from omniio.kaldi import load_mat

from espnet_mtkd.data.datadir import read_map, write_map
from espnet_mtkd.data.files import atomic_path, write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.models import FRAMES


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feats_dir", required=True, nargs="+", help="Folders of extract_features")
    parser.add_argument("--folds_dir", required=True, help="Folder of make_folds")
    parser.add_argument(
        "--output_dir",
        required=True,
        help="Gets feats.scp, info.json and, of pooled layers, fold_*/train*.npz",
    )
    return parser


def write_stats(path: Path, matrices: Iterable[np.ndarray]) -> None:
    """Write ``count``, ``sum`` and ``sum_square`` of the flattened matrices, as ESPnet does."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for matrix in matrices:  # one at a time: memory does not grow with the corpus
        vector = matrix.astype(np.float64).ravel()
        count, total, squares = count + 1, total + vector, squares + vector**2
    with atomic_path(path) as temporary:
        np.savez(temporary, count=count, sum=total, sum_square=squares)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the index and, for every training set of every fold, the statistics."""
    args = get_parser().parse_args(argv)
    output = Path(args.output_dir)
    infos = [json.loads((Path(d) / "info.json").read_text("utf-8")) for d in args.feats_dir]
    for folder, info in zip(args.feats_dir, infos, strict=True):
        if info != infos[0]:
            raise UserError(f"{folder}/info.json: another upstream than in {args.feats_dir[0]}")
    entries: dict[str, str] = {}
    for folder in args.feats_dir:
        entries.update(read_map(Path(folder) / "feats.scp"))
    write_map(output / "feats.scp", entries)
    write_text(output / "info.json", json.dumps(infos[0], indent=1) + "\n")
    for keys in sorted(Path(args.folds_dir).glob("fold_*/train*/utt2emotion")):
        fold, name = keys.parts[-3:-1]
        for utt_id in read_map(keys):
            if utt_id not in entries:
                raise UserError(f"{keys}: utterance {utt_id} has no features; run stage 4 again")
        if infos[0]["pooling"] == FRAMES:  # of which every utterance has another number
            continue
        matrices = (load_mat(entries[utt_id]) for utt_id in read_map(keys))
        write_stats(output / fold / f"{name}.npz", matrices)


if __name__ == "__main__":
    cli(main)

"""Train and test a probe on the stored features of one corpus (stage 11)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from espnet_mtkd.data.ark import read_ark
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.tasks.probe import Examples, ProbeOptions, logits_of_probe, train_probe

SIDES = ("train", "dev", "test")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feats_dir", required=True, type=Path, help="Of extract_features")
    parser.add_argument("--sets_dir", required=True, type=Path, help="fold_<k> of make_folds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--layers", default="all", help="all: learn their weights; each: a probe for each; or 0,3"
    )
    parser.add_argument(
        "--probe", type=json.loads, default={}, help="Options of ProbeOptions, as JSON"
    )
    parser.add_argument("--output_dir", required=True, type=Path)
    return parser


def parse_layers(text: str, num_layers: int) -> dict[str, list[int] | None]:
    """Return the layers of each probe to train, by the name of its folder (empty: the output's).

    >>> parse_layers("each", 2)
    {'layer_0': [0], 'layer_1': [1]}
    """
    if text == "all":
        return {"": None}
    if text == "each":
        return {f"layer_{layer}": [layer] for layer in range(num_layers)}
    try:
        return {"": [int(layer) for layer in text.split(",")]}
    except ValueError:
        raise UserError(f"--layers {text}: must be all, each, or numbers as in 0,3") from None


def read_examples(
    feats_dir: Path, sets_dir: Path, emotions: Sequence[str], frames: bool = False
) -> dict[str, tuple[Path, list[str], Examples]]:
    """Return for each side its folder, utterances and examples; a side may be empty.

    Args:
        frames: features are the frames of one layer instead of pooled layers.
    """
    shape = None
    sides = {}
    for side in SIDES:
        folder = sets_dir / side
        labels = read_map(folder / "utt2emotion")
        matrices = read_ark(feats_dir / "feats.scp", labels)
        shape = shape or next(iter(matrices.values())).shape
        features: torch.Tensor | list[torch.Tensor]
        if frames:
            features = [torch.from_numpy(m.astype(np.float32)) for m in matrices.values()]
        else:
            stacked = np.stack([*matrices.values()]) if matrices else np.zeros((0, *shape))
            features = torch.from_numpy(stacked.astype(np.float32))
        index = [emotions.index(emotion) for emotion in labels.values()]
        examples = Examples(features, torch.tensor(index, dtype=torch.int64))
        sides[side] = (folder, list(labels), examples)
    return sides


def main(argv: Sequence[str] | None = None) -> None:
    """Write ``test.tsv``, ``dev.tsv`` and ``info.json`` for each probe."""
    args = get_parser().parse_args(argv)
    torch.set_num_threads(1)
    options = ProbeOptions.parse(args.probe, "--probe")
    emotions = (args.sets_dir.parent / "emotions").read_text(encoding="utf-8").split()
    info_file = args.feats_dir / "info.json"
    facts = json.loads(info_file.read_text(encoding="utf-8"))
    options.check_pooling(facts["pooling"], str(info_file))
    frames = options.head == "frames"
    if frames and args.layers not in ("all", "-1"):
        raise UserError(f"--layers {args.layers}: frames are those of the last layer: -1")
    sides = read_examples(args.feats_dir, args.sets_dir, emotions, frames)
    train, dev = sides["train"][2], sides["dev"][2]
    num_layers = facts["frontend_conf"]["num_layers"]
    for name, layers in parse_layers(args.layers, num_layers).items():
        start = time.monotonic()
        probe, info = train_probe(train, dev, len(emotions), options, args.seed, layers)
        info["train_seconds"] = time.monotonic() - start
        output = args.output_dir / name
        for side in ("dev", "test"):
            folder, utterances, examples = sides[side]
            columns = [read_map(folder / f) for f in ("utt2spk", "utt2lang", "utt2corpus")]
            lines = ["\t".join(["utt_id", "spk_id", "lang", "corpus", "ref"])]
            lines[0] += "".join(f"\tlogit_{emotion}" for emotion in emotions)
            logits = logits_of_probe(probe, examples.features).tolist()
            for utt_id, ref, row in zip(utterances, examples.emotions, logits, strict=True):
                values = [column[utt_id] for column in columns]
                cells = [utt_id, *values, emotions[int(ref)], *(f"{value:.9g}" for value in row)]
                lines.append("\t".join(cells))
            write_text(output / f"{side}.tsv", "\n".join(lines) + "\n")
        write_text(output / "info.json", json.dumps(info, indent=1) + "\n")


if __name__ == "__main__":
    cli(main)

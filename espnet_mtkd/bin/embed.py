"""Write what a trained classifier makes of a data directory: a vector per utterance (stage 8).

The vector is what the last linear layer of the head sees. Beside the vectors stand the weights
that the model gives to the layers of its upstream.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.errors import cli
from espnet_mtkd.evaluate.embeddings import Embeddings
from espnet_mtkd.tasks import inference
from espnet_mtkd.tasks.inference import load_model, logits_of


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    return inference.get_parser(__doc__, "File to write (.npz)")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the vectors, sorted by utterance."""
    args = get_parser().parse_args(argv)
    model, train_args = load_model(args.model_dir)
    data = Path(args.data_dir)
    columns = [read_map(data / name) for name in ("utt2spk", "utt2lang", "utt2emotion")]
    path, _, kind = args.speech.rpartition(",")
    seen: list[np.ndarray] = []
    hook = model.head[-1].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].cpu().numpy())
    )
    keys = data / "utt2emotion"
    outputs = logits_of(model, train_args, (path, kind), keys, args.batch_size, args.num_workers)
    utts = [utt for utt, _ in outputs]
    hook.remove()
    order = sorted(range(len(utts)), key=utts.__getitem__)
    utts = [utts[i] for i in order]
    speakers, languages, emotions = (np.array([c[utt] for utt in utts]) for c in columns)
    embeddings = Embeddings(
        utt_id=np.array(utts),
        spk_id=speakers,
        lang=languages,
        ref=emotions,
        embedding=np.concatenate(seen)[order].astype(np.float32),
        layers=np.array(model.layer_weighting.chosen),
        layer_weights=model.layer_weighting.weights().detach().cpu().numpy(),
    )
    embeddings.write(args.output)
    print(f"wrote {args.output}: {len(utts)} utterances, {embeddings.embedding.shape[1]} numbers")


if __name__ == "__main__":
    cli(main)

"""Store what a frozen upstream says of a corpus: every layer, pooled over time (stage 4)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from espnet_mtkd.data.ark import write_ark
from espnet_mtkd.data.datadir import read_map
from espnet_mtkd.data.files import write_text
from espnet_mtkd.errors import UserError, cli
from espnet_mtkd.models.upstream import Upstream
from espnet_mtkd.tasks.ser import pooling_choices


def get_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", required=True, help="Data directory with 16 kHz audio")
    parser.add_argument("--output_dir", required=True, help="Gets feats.ark, feats.scp, info.json")
    parser.add_argument("--upstream", default="fbank_no_cmvn", help="Name of an S3PRL upstream")
    parser.add_argument("--upstream_path", help="Its checkpoint: a file, or a folder for hf_*")
    parser.add_argument("--pooling", default="mean", choices=["mean", "stats"])
    return parser


@torch.no_grad()
def pooled_layers(
    wav_scp: dict[str, str], upstream: Upstream, pooling: torch.nn.Module
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield for each utterance its pooled layers (Layers, P), one utterance at a time.

    One at a time, because a model that normalises over time would see the padding of a batch.
    """
    for utt_id, path in tqdm(wav_scp.items(), desc="features", disable=None, unit="utt"):
        samples, rate = soundfile.read(path, dtype="float32")
        if samples.ndim > 1 or rate != 16000:
            raise UserError(f"{path}: must be mono at 16000 Hz; stage 2 makes it so")
        speech = torch.from_numpy(samples)[None]
        states, lengths = upstream(speech, torch.tensor([len(samples)]))
        layers = [pooling(h, n)[0] for h, n in zip(states, lengths, strict=True)]
        yield utt_id, torch.stack(layers).numpy()


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pooled layers and, for those who train from them, what the upstream is."""
    args = get_parser().parse_args(argv)
    upstream = Upstream(args.upstream, args.upstream_path)
    pooling = pooling_choices.get_class(args.pooling)()
    output = Path(args.output_dir)
    wav_scp = read_map(Path(args.data_dir) / "wav.scp")
    write_ark(output / "feats.scp", pooled_layers(wav_scp, upstream, pooling))
    frontend_conf = {
        "upstream": args.upstream,
        "path_or_url": args.upstream_path,
        "mode": "frozen",
        "num_layers": upstream.num_layers,
        "hidden_size": upstream.output_size(),
        "num_params": upstream.num_params(),
    }
    info = {"pooling": args.pooling, "frontend_conf": frontend_conf}
    write_text(output / "info.json", json.dumps(info, indent=1) + "\n")


if __name__ == "__main__":
    cli(main)
